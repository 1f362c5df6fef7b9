"""What the leader knows about one follower (thesis 10.2.1: batching and pipelining).

While `probing`, one append at a time is in flight: the leader looks for the place where the logs agree. Else it
sends ahead of the acknowledgements, up to MAX_IN_FLIGHT appends. Both move `next_index` optimistically; a loss
shows when the next heartbeat, which names `next_index - 1` as its predecessor, is refused.
"""

from __future__ import annotations

import math
from collections import deque

MAX_IN_FLIGHT = 32


class Progress:
    def __init__(self, *, next_index: int) -> None:
        self.match_index = 0  # durable there and verified against this leader's entries
        self.next_index = next_index
        self.probing = True
        self.commit_sent = 0  # the greatest commit index that this follower was told
        self.acked_round = 0
        self.contact_at = -math.inf  # when the newest answered heartbeat round began
        self._in_flight: deque[int] = deque()  # last index of every unacknowledged append

    @property
    def can_send(self) -> bool:
        return len(self._in_flight) < (1 if self.probing else MAX_IN_FLIGHT)

    def sent(self, last_index: int) -> None:
        self._in_flight.append(last_index)
        self.next_index = last_index + 1

    def sent_snapshot(self, index: int) -> None:
        """One thing at a time until it is acknowledged, or a heartbeat shows that it was lost."""
        self.probing = True
        self._in_flight.clear()
        self.sent(index)

    def heard(self, *, round_number: int, round_began: float | None) -> None:
        """An answer to heartbeat `round_number`, which began at `round_began` (None: too old to know)."""
        self.acked_round = max(self.acked_round, round_number)
        if round_began is not None:
            self.contact_at = max(self.contact_at, round_began)

    def acknowledged(self, match_index: int) -> bool:
        """The follower holds everything up to `match_index`; True when that is news."""
        self.probing = False
        while self._in_flight and self._in_flight[0] <= match_index:
            self._in_flight.popleft()
        self.next_index = max(self.next_index, match_index + 1)
        advanced = match_index > self.match_index
        self.match_index = max(self.match_index, match_index)
        return advanced

    def rejected(self, agreed_index: int) -> None:
        """The logs differ; they can agree at `agreed_index` at most. A late rejection costs a resend at worst."""
        self.probing = True
        self._in_flight.clear()
        self.next_index = max(self.match_index + 1, min(self.next_index, agreed_index + 1))

    def connection_lost(self) -> None:
        """What was in flight may be gone: start again from what is certain."""
        self.probing = True
        self._in_flight.clear()
        self.next_index = self.match_index + 1
