"""The services of one host: mysqld, controller and guard, started and signalled by whoever supervises them.

Standard library only: the guard imports this. All calls block and have a deadline, so fencing gives them a
thread of its own.
"""

from __future__ import annotations

import enum
import json
import signal
import socket
import time
from pathlib import Path
from typing import Any, Protocol

from raftctl.errors import HostError

_POLL_S = 0.01


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


class SupervisorServices:
    """ServiceManager on a sandbox host: asks the host's supervisor through its unix socket."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    def start(self, unit: Unit, *, timeout: float) -> None:
        self._ask(time.monotonic() + timeout, "start", unit)

    def stop(self, unit: Unit, *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self._ask(deadline, "stop", unit)
        while self._status(deadline, unit)["active"]:
            self._pause(deadline, f"{unit} did not stop")

    def kill(self, unit: Unit, signal_number: int = signal.SIGKILL, *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        pid = self._ask(deadline, "signal", unit, signal=int(signal_number))["before"]["pid"]
        if pid is None or signal_number != signal.SIGKILL:
            return
        while self._status(deadline, unit)["pid"] == pid:
            self._pause(deadline, f"{unit} was killed and is still there")

    def is_active(self, unit: Unit, *, timeout: float) -> bool:
        return bool(self._status(time.monotonic() + timeout, unit)["active"])

    def main_pid(self, unit: Unit, *, timeout: float) -> int | None:
        pid: int | None = self._status(time.monotonic() + timeout, unit)["pid"]
        return pid

    def is_configured(self, unit: Unit, *, timeout: float) -> bool:
        """Whether it may be started: the file that it waits for is there."""
        return bool(self._status(time.monotonic() + timeout, unit)["configured"])

    def mask(self, unit: Unit, *, timeout: float) -> None:
        self._ask(time.monotonic() + timeout, "mask", unit)

    def unmask(self, unit: Unit, *, timeout: float) -> None:
        self._ask(time.monotonic() + timeout, "unmask", unit)

    def _status(self, deadline: float, unit: Unit) -> dict[str, Any]:
        status: dict[str, Any] = self._ask(deadline, "status", unit)["status"]
        return status

    def _ask(self, deadline: float, op: str, unit: Unit, **arguments: object) -> dict[str, Any]:
        request = json.dumps({"op": op, "unit": unit} | arguments).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                connection.connect(str(self._socket_path))
                connection.sendall(request)
                with connection.makefile("rb") as stream:
                    answer = json.loads(stream.readline())
        except (OSError, ValueError) as error:
            raise HostError(
                f"the host's supervisor does not answer at {self._socket_path}: {error}",
                hint="the sandbox host is down or frozen: `raftctl sandbox start DIR NAME` starts it",
            ) from error
        if not answer["ok"]:
            raise HostError(str(answer["error"]))
        return dict(answer)

    def _pause(self, deadline: float, complaint: str) -> None:
        if time.monotonic() >= deadline:
            raise HostError(f"{complaint} in time")
        time.sleep(_POLL_S)


def local_services(*, socket_path: str, mysqld_unit: str) -> ServiceManager:
    """Who runs this host's units, as the controller's configuration says (`services`): a sandbox's supervisor that
    listens on `socket_path`, or, without one, systemd."""
    if socket_path:
        return SupervisorServices(Path(socket_path))
    from raftctl.hosts.systemd import SystemdServices  # which needs Unit from here

    return SystemdServices(mysqld_unit=mysqld_unit)


def revive(services: ServiceManager, unit: Unit, *, silent_pid: int | None, timeout: float) -> str:
    """Bring back a unit that fell silent; returns what was wrong, "" when its restart is under way already.

    Only the process that used to answer, `silent_pid`, is killed: another one has just begun and needs its time.
    Raises HostError, also when the unit is masked."""
    pid = services.main_pid(unit, timeout=timeout)
    if pid is not None and pid != silent_pid:
        return ""
    if pid is not None:
        services.kill(unit, timeout=timeout)
    services.start(unit, timeout=timeout)
    return "hung, and was killed" if pid is not None else "was down"
