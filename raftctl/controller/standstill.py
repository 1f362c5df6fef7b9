"""Notices what stands still: commits that wait for acknowledgements, an applier that has something to apply."""

from __future__ import annotations

from typing import Final

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation

NUDGE_AFTER_SECONDS: Final = 1.0
NUDGE_AFTER_SECONDS_MAX: Final = 60.0
APPLIER_SECONDS: Final = 2.0


class Standstill:
    """Notices that the very same commits have been waiting for acknowledgements for a while."""

    def __init__(self) -> None:
        self._owned = GTIDSet()
        self._since: float | None = None
        self._patience = NUDGE_AFTER_SECONDS

    def note(self, seen: MySQLObservation | None, now: float) -> None:
        waiting = seen.gtid_owned if seen is not None and seen.semi_sync.wait_sessions else GTIDSet()
        if not waiting or self._since is None or not self._owned <= waiting:
            self._patience = NUDGE_AFTER_SECONDS
            self._since = now if waiting else None
        self._owned = waiting

    def is_due(self, now: float) -> bool:
        return self._since is not None and now - self._since >= self._patience

    def nudged(self, now: float) -> None:
        """Each nudge that does not help leaves a waiting session behind: be slower with the next."""
        self._patience = min(2 * self._patience, NUDGE_AFTER_SECONDS_MAX)
        self._since = now if self._since is not None else None


class ApplierStandstill:
    """Notices that nothing of what was received has been applied for a while: a large transaction, or a lock."""

    def __init__(self) -> None:
        self._executed = GTIDSet()
        self._since: float | None = None

    def note(self, seen: MySQLObservation | None, now: float) -> None:
        if seen is None or seen.gtid_received <= seen.gtid_executed:
            self._since = None
        elif self._since is None or seen.gtid_executed != self._executed:
            self._executed, self._since = seen.gtid_executed, now

    def is_due(self, now: float) -> bool:
        return self._since is not None and now - self._since >= APPLIER_SECONDS
