"""The services of one host: mysqld, controller and guard, started and signalled by whoever supervises them.

Standard library only: the guard imports this. All calls block and have a deadline, so fencing gives them a
thread of its own.
"""

from __future__ import annotations

import enum
import signal
from typing import Protocol


class Unit(enum.StrEnum):
    MYSQLD = "mysqld"
    CONTROLLER = "controller"
    GUARD = "guard"


class ServiceManager(Protocol):
    """What raftctl asks of systemd, or of a sandbox host's supervisor.

    `timeout` is seconds for the whole call. Every method raises HostError when it could not be done in that
    time; the state is then unknown.
    """

    def start(self, unit: Unit, *, timeout: float) -> None:
        """Start it unless it is active or starting. Returns once that is under way: it may not be ready yet.

        A masked unit is not started: HostError."""

    def stop(self, unit: Unit, *, timeout: float) -> None:
        """Ask it to end (SIGTERM) and wait until it has. It is not restarted.

        Never for the mysqld of a primary whose commits may be waiting: that acknowledges them falsely (rule
        R8)."""

    def kill(self, unit: Unit, signal_number: int = signal.SIGKILL, *, timeout: float) -> None:
        """Signal all its processes. After SIGKILL, wait until the main process that was hit is gone.

        What dies is restarted as after a crash: `mask` it first to keep it down."""

    def is_active(self, unit: Unit, *, timeout: float) -> bool:
        """Whether its main process runs (a frozen one does)."""

    def main_pid(self, unit: Unit, *, timeout: float) -> int | None:
        """The process id of its main process, None while there is none."""

    def mask(self, unit: Unit, *, timeout: float) -> None:
        """From now on nothing starts or restarts it, until `unmask` or the host's next start. It does not
        stop it.
        """

    def unmask(self, unit: Unit, *, timeout: float) -> None:
        """Allow starts again. It does not start it."""
