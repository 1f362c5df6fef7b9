"""The lease of rule R7: a primary's controller keeps mysqld writable only while a leader with a live quorum agrees.

The holder counts from when it *sent* the report that a grant answers, on its own monotonic clock, so delays on the way
only shorten a lease and clocks are never compared.
"""

from __future__ import annotations

from collections import OrderedDict

from raftctl.cluster.facts import MemberReport
from raftctl.cluster.state import ClusterState, Phase

_REMEMBERED = 256


class Lease:
    """The holder's side. Times are seconds of one monotonic clock."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._sent: OrderedDict[int, float] = OrderedDict()
        self._epoch = 0
        self._until = started

    def asked(self, seq: int, now: float) -> None:
        """Report `seq` leaves now."""
        self._sent[seq] = now
        while len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)

    def granted(self, *, seq: int, epoch: int, ttl: float) -> None:
        """A grant for report `seq` arrived; unknown and older ones change nothing."""
        sent = self._sent.get(seq)
        if sent is None or epoch < self._epoch:
            return
        self._until = sent + ttl if epoch > self._epoch else max(self._until, sent + ttl)
        self._epoch = epoch

    def remaining(self, epoch: int, now: float) -> float:
        """Seconds for which the lease of this epoch still holds; 0.0 when it does not."""
        return max(0.0, self._until - now) if epoch == self._epoch else 0.0

    def left(self, now: float) -> float:
        """Seconds for which the last lease, of whatever epoch, still holds; one that this process was granted."""
        return max(0.0, self._until - now)

    def is_over(self, now: float, *, ttl: float) -> bool:
        """Whether a writable mysqld must be fenced: the last lease, of whatever epoch, has run out. A controller that
        just started may have inherited one that its former process held: it waits one `ttl` for the first grant."""
        return now >= self._until and now - self._started >= ttl


def may_be_granted(state: ClusterState, report: MemberReport, *, contact_age: float) -> bool:
    """The granter's side: a lease only from a leader that a majority followed `contact_age` seconds ago at most an
    election timeout, to the primary of the current epoch. The leader must have applied all that was committed before it
    led: an older state could name a primary that was relieved.

    In a switchover the previous primary finishes its writes under the lease of the epoch that begins."""
    holder = state.previous_primary if state.phase is Phase.SWITCHOVER else state.primary
    return report.member == holder and report.epoch == state.epoch and contact_age <= state.settings.election_timeout
