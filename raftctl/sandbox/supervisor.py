"""The process that plays systemd on one sandbox host: starts, restarts and signals the host's units.

    python -I -S supervisor.py HOST.json

It is run as a file, with the standard library only: one of these runs per host and should cost next to
nothing. It answers one JSON object a line on a unix socket: `{"op": "start", "unit": "mysqld"}` gives `{"ok":
true, ...}` or `{"ok": false, "error": "..."}`. No operation waits: who wants to know the outcome asks for the
status.

As with systemd, a unit is *masked* while nothing may start it, and what ends abnormally is restarted after
a delay that doubles. Each unit has a session of its own; if this process dies alone, the units live on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_RESTART_DELAY_S = 0.1  # systemd's RestartSec
_RESTART_DELAY_MAX_S = 5.0
_STABLE_AFTER_S = 10.0  # one that ran this long starts again with the shortest delay
_MYSQLD_WANTS_RESTART = 16  # exit status of RESTART and CLONE: RestartForceExitStatus=16 in mysql.service
_CLEAN_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)  # as Restart=on-failure has it
_MAX_REQUEST_BYTES = 65536


class RequestError(Exception):
    """A request that is answered with `ok: false`."""


class Unit:
    """One program to keep running.

    `spec` holds argv, log, and optionally env, gate (a command that must end with 0 before each start, as
    ExecStartPre), gate_condition (a file without which there is no gate), restart ("on-failure" or "always"),
    condition (a file without which the unit does not start), stale (files to remove before a start: nobody
    else runs this unit, so they are left-overs of a dead process), nice (as Nice, where that is allowed) and stop (a
    command that ends the unit, as ExecStop; what it leaves is killed, as with KillSignal=SIGKILL).
    """

    def __init__(self, name: str, spec: dict[str, Any], environment: dict[str, str]) -> None:
        self.name = name
        self._spec = spec
        self._environment = environment | spec.get("env", {})
        self._process: subprocess.Popen[bytes] | None = None
        self._stopper: subprocess.Popen[bytes] | None = None
        self._in_gate = False
        self._wanted = False
        self._started_at = 0.0
        self._delay_s = _RESTART_DELAY_S
        self._last_exit: int | None = None
        self._restarts = 0
        self.masked = False
        self.restart_at: float | None = None

    def may_start(self) -> bool:
        return _exists(self._spec, "condition")

    def start(self) -> None:
        if self.masked:
            raise RequestError(f"{self.name} is masked")
        if not self.may_start():
            raise RequestError(f"{self.name} is not configured: {self._spec['condition']} does not exist")
        self._wanted = True
        self._delay_s = _RESTART_DELAY_S
        if self._process is None:
            self._begin()

    def stop(self) -> None:
        """Ask it to end, for good. A unit that waits for its restart is no longer restarted."""
        self._wanted = False
        self.restart_at = None
        if self._process is None or self._stopper is not None:
            return
        if "stop" not in self._spec:
            self.signal(signal.SIGTERM)
            return
        try:
            self._stopper = self._launch(self._spec["stop"])
        except OSError as error:
            say(f"{self.name}: cannot run {self._spec['stop'][0]}: {error}")
            self.signal(signal.SIGKILL)

    def mask(self) -> None:
        self.masked = True
        self.restart_at = None

    def signal(self, number: int) -> None:
        """Signal the unit's process group; nothing happens when it is down."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def status(self) -> dict[str, Any]:
        running = self._process is not None and not self._in_gate
        return {
            "active": running,
            "pid": self._process.pid if self._process and running else None,
            "configured": self.may_start(),
            "gate": self._in_gate,
            "masked": self.masked,
            "restarting": self.restart_at is not None,
            "restarts": self._restarts,
            "last_exit": self._last_exit,
        }

    def _begin(self) -> None:
        self.restart_at = None
        self._in_gate = "gate" in self._spec and _exists(self._spec, "gate_condition")
        self._spawn(self._spec["gate"] if self._in_gate else self._spec["argv"])

    def _spawn(self, argv: list[str]) -> None:
        if not self._in_gate:
            for path in self._spec.get("stale", ()):
                Path(path).unlink(missing_ok=True)
        try:
            self._process = self._launch(argv)
        except OSError as error:
            say(f"{self.name}: cannot start {argv[0]}: {error}")
            self._process = None
            self._schedule_restart()
            return
        self._started_at = time.monotonic()
        say(f"{self.name}: {'gate' if self._in_gate else 'started'}, pid {self._process.pid}")

    def _launch(self, argv: list[str]) -> subprocess.Popen[bytes]:
        with Path(self._spec["log"]).open("ab") as log:
            process = subprocess.Popen(
                argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if "nice" in self._spec:
            _renice(process.pid, self._spec["nice"])
        return process

    def reap(self) -> None:
        """If the process has ended, do what comes next."""
        if self._stopper is not None and (status := self._stopper.poll()) is not None:
            say(f"{self.name}: stop command ended with {status}")
            self._stopper = None
            self.signal(signal.SIGKILL)
        if self._process is None or (status := self._process.poll()) is None:
            return
        in_gate, self._process, self._in_gate = self._in_gate, None, False
        say(f"{self.name}: {'gate ' if in_gate else ''}ended with {status}")
        if in_gate and status == 0 and self._wanted and not self.masked:
            self._spawn(self._spec["argv"])
            return
        self._last_exit = status
        clean = status == 0 or -status in _CLEAN_SIGNALS
        if self._wanted and not self.masked and (not clean or self._spec.get("restart") == "always"):
            self._schedule_restart(at_once=status == _MYSQLD_WANTS_RESTART)

    def _schedule_restart(self, *, at_once: bool = False) -> None:
        if time.monotonic() - self._started_at >= _STABLE_AFTER_S:
            self._delay_s = _RESTART_DELAY_S
        self.restart_at = time.monotonic() + (0.0 if at_once else self._delay_s)
        self._delay_s = min(self._delay_s * 2, _RESTART_DELAY_MAX_S)

    def restart_if_due(self, now: float) -> None:
        if self.restart_at is not None and now >= self.restart_at:
            self._restarts += 1
            self._begin()


def _renice(pid: int, nice: int) -> None:
    """For the leader of a session. Where the kernel groups processes by session, the group has a value of its own, and
    the process's counts within the group alone: see sched(7), "The autogroup feature"."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


class Supervisor:
    """The loop: one thread, woken by requests, by children that end and by restarts that are due."""

    def __init__(self, config: dict[str, Any]) -> None:
        # mysqld ends with status 16 to be restarted only if this names its parent
        environment = dict(os.environ) | {"MYSQLD_PARENT_PID": str(os.getpid())}
        self._units = {name: Unit(name, spec, environment) for name, spec in config["units"].items()}
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytes] = {}
        self._ending = False
        self._listen(Path(config["socket"]))
        self._watch_signals()

    def _listen(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(64)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def _watch_signals(self) -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, or the wake-up descriptor stays silent
        signal.signal(signal.SIGTERM, self._end)
        self._selector.register(read_end, selectors.EVENT_READ, lambda _: os.read(read_end, 4096))

    def _end(self, *_: object) -> None:
        self._ending = True

    def run(self) -> None:
        for unit in self._units.values():
            if unit.may_start():
                unit.start()
        while not self._ending:
            due = [unit.restart_at for unit in self._units.values() if unit.restart_at is not None]
            wait = max(0.0, min(due) - time.monotonic()) if due else None
            for key, _ in self._selector.select(wait):
                key.data(key.fileobj)
            for unit in self._units.values():
                unit.reap()
                unit.restart_if_due(time.monotonic())
        for unit in self._units.values():
            unit.signal(signal.SIGKILL)

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setblocking(False)
        self._buffers[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ, self._receive)

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(4096)
        except OSError:
            data = b""
        self._buffers[connection] += data
        *lines, rest = self._buffers[connection].split(b"\n")
        self._buffers[connection] = rest
        try:
            for line in lines:
                connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        except OSError:
            data = b""  # it hung up, or does not read its answers
        if not data or len(rest) > _MAX_REQUEST_BYTES:
            self._selector.unregister(connection)
            del self._buffers[connection]
            connection.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"ok": True} | self._perform(request)
        except RequestError as error:
            return {"ok": False, "error": str(error)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return {"ok": False, "error": f"malformed request: {error!r}"}

    def _perform(self, request: dict[str, Any]) -> dict[str, Any]:
        unit = self._units.get(request["unit"])
        if unit is None:
            raise RequestError(f"no unit {request['unit']!r} on this host")
        unit.reap()  # it may have ended a moment ago
        before = unit.status()
        match request["op"]:
            case "status":
                pass
            case "start":
                unit.start()
            case "stop":
                unit.stop()
            case "signal":
                unit.signal(int(request["signal"]))
            case "mask":
                unit.mask()
            case "unmask":
                unit.masked = False
            case other:
                raise RequestError(f"unknown operation {other!r}")
        return {"before": before, "status": unit.status()}


def _exists(spec: dict[str, Any], condition: str) -> bool:
    """Whether the file is there that `condition` names; true when nothing is named."""
    return condition not in spec or Path(spec[condition]).exists()


def say(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%S"), text, flush=True)  # noqa: T201 (standard output is the log)


def main(config_path: str) -> None:
    os.umask(0o077)
    config = json.loads(Path(config_path).read_text())
    with Path(config["lock"]).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another supervisor runs for {config_path}")
        Supervisor(config).run()


if __name__ == "__main__":
    main(sys.argv[1])
