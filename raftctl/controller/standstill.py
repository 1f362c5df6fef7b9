"""Notices what stands still: commits that wait for acknowledgements, an applier that has something to apply, or one
that stopped with an error."""

from __future__ import annotations

from typing import Final

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation

NUDGE_AFTER_SECONDS: Final = 1.0
NUDGE_AFTER_SECONDS_MAX: Final = 60.0
APPLIER_SECONDS: Final = 2.0
APPLIER_REST_SECONDS: Final = 5.0
APPLIER_REST_SECONDS_MAX: Final = 60.0


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


class ApplierRest:
    """When to start an applier again that stopped with an error: after a longer pause each time, until one try went
    well for as long as the longest."""

    def __init__(self) -> None:
        self._pause = APPLIER_REST_SECONDS
        self._until: float | None = None  # None: it runs, or was not told to
        self._runs_since: float | None = None

    def note(self, seen: MySQLObservation | None, now: float) -> None:
        channel = seen.channel if seen is not None else None
        if channel is None or not channel.applier_running:
            self._runs_since = None
            if channel is not None and channel.applier_error_code and self._until is None:
                self._until = now + self._pause
            return
        self._until = None
        if self._runs_since is None:
            self._runs_since = now
        elif now - self._runs_since >= APPLIER_REST_SECONDS_MAX:
            self._pause = APPLIER_REST_SECONDS

    def is_over(self, now: float) -> bool:
        return self._until is not None and now >= self._until

    def tried(self, now: float) -> None:
        if self._until is not None:
            self._pause = min(2 * self._pause, APPLIER_REST_SECONDS_MAX)
            self._until = now + self._pause
