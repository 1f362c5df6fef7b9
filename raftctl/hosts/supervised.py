"""The units of a sandbox host, which its supervisor runs. See raftctl.hosts.services.ServiceManager for the meaning of
the methods. Standard library only: the guard imports this.
"""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

from raftctl.errors import HostError
from raftctl.hosts.services import Unit

_POLL_S = 0.01


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
