"""Brings back a unit that fell silent. Standard library only: the guard imports this."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from raftctl.hosts.services import ServiceManager, Unit

START_SECONDS: Final = 30.0  # which a process gets before it is expected to answer
START_SECONDS_MAX: Final = 600.0  # on a host that is busy with something else, it may have been too short


class Reviver:
    """Of one unit. What fell silent is killed: the process that used to answer, and one that has been there for
    START_SECONDS and never did. Another one has just begun and needs its time: twice as much after each that was killed
    without having had a word, until one has."""

    def __init__(self, services: ServiceManager, unit: Unit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._unit = unit
        self._clock = clock
        self._newcomer: int | None = None
        self._since = 0.0
        self._patience = START_SECONDS

    def revive(self, *, silent_pid: int | None, timeout: float) -> str:
        """What was wrong, "" when its restart is under way already. `silent_pid`: who used to answer.

        Raises HostError, also when the unit is masked."""
        pid = self._services.main_pid(self._unit, timeout=timeout)
        if pid is not None and pid != silent_pid:
            if not self._had_its_time(pid):
                return ""
            self._patience = min(2 * self._patience, START_SECONDS_MAX)
        elif pid is not None:
            self._patience = START_SECONDS
        if pid is not None:
            self._services.kill(self._unit, timeout=timeout)
        self._services.start(self._unit, timeout=timeout)
        return "hung, and was killed" if pid is not None else "was down"

    def _had_its_time(self, pid: int) -> bool:
        if pid != self._newcomer:
            self._newcomer, self._since = pid, self._clock()
        return self._clock() - self._since >= self._patience
