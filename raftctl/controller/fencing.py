"""The fencing ladder (rule R8): from refusing clients to SIGKILL, each rung with a deadline of its own.

It has its own thread, and a connection and a hold of mysqld's process from beforehand: fencing never waits behind
monitoring, and neither a full `max_connections` nor a service manager or a disk that stands still keeps it out.
No rung turns semi-sync off, lowers the number of acknowledgements or sends SIGTERM: each of those tells waiting clients
that their write is safe when it is not.

The controller climbs it, the guard when the controller cannot, and `hand-over` before a planned stop. The guard is why
nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from raftctl.errors import HostError, MySQLError
from raftctl.hosts.held_process import HeldProcess
from raftctl.hosts.services import ServiceManager, Unit
from raftctl.mysql import fencing as rungs
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.errors import ServerGone

CONNECT_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.5
OFFLINE_SECONDS: Final = 1.0
SESSIONS_SECONDS: Final = 1.0
READ_ONLY_SECONDS: Final = 2.0
KILL_SECONDS: Final = 5.0


class Rung(NamedTuple):
    """One rung's outcome."""

    name: str
    ok: bool
    milliseconds: int
    error: str = ""


class Fenced(NamedTuple):
    """`fenced`: this mysqld can acknowledge nothing any more; `killed`: its process was ended for that."""

    fenced: bool
    killed: bool
    rungs: tuple[Rung, ...]

    def detail(self) -> dict[str, str | int | float | bool]:
        """For a record in the history: every rung's outcome and duration."""
        outcomes = {rung.name: f"{'ok' if rung.ok else rung.error} ({rung.milliseconds} ms)" for rung in self.rungs}
        return {**outcomes, "killed": self.killed}


def is_worth_a_line(failures: int) -> bool:
    """Success, and failure for the 1st, 2nd, 4th, 8th time: a disk may be stalled for hours, and every line is kept in
    the log of the whole cluster."""
    return failures & (failures - 1) == 0


class Ladder:
    """Fences one mysqld. Its methods block; call them through `executor`, which is used for nothing else."""

    def __init__(self, *, endpoint: Endpoint, services: ServiceManager) -> None:
        self._endpoint = endpoint
        self._services = services
        self._conn: Connection | None = None
        self._process: HeldProcess | None = None
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="fencing")

    def prepare(self) -> None:
        """Have a connection and mysqld's process at hand before they are needed; a failure is left to `climb`."""
        try:
            self._connect()
        except MySQLError:
            self._conn = None
            return
        if self._present_process() is None:
            self._hold()

    def _hold(self) -> None:
        """If who listens is whom the service manager runs: one below a wrapper, like mysqld_safe, is left to that."""
        with contextlib.suppress(OSError):
            pid = self._open.server_pid()
            if pid is not None and pid == self._pid():
                self._process = HeldProcess(pid)

    @property
    def session(self) -> int | None:
        """The server's id of the connection kept at hand."""
        return self._conn.thread_id if self._conn is not None else None

    def is_writable(self, *, if_silent: bool) -> bool:
        """Whether mysqld accepts writes now; `if_silent` when it does not say. One that does not run accepts none; one
        that runs may be reached by others, although its unix socket is gone."""
        try:
            self._connect()
            return not rungs.is_read_only(self._open, timeout=LOOK_SECONDS)
        except ServerGone:
            return if_silent and self._present_process() is not None
        except MySQLError:
            return if_silent

    def climb(self) -> Fenced:
        """Climb until mysqld is read-only with nothing in flight, or the process that runs it now is gone."""
        outcomes: list[Rung] = []
        process = self._present_process()
        pid = self._pid() if process is None else process.pid
        if self._gently(outcomes):
            return Fenced(fenced=True, killed=False, rungs=tuple(outcomes))
        killed = self._rung(outcomes, "sigkill", lambda: self._kill(process, pid))
        return Fenced(fenced=killed, killed=killed, rungs=tuple(outcomes))

    def _gently(self, outcomes: list[Rung]) -> bool:
        if not self._rung(outcomes, "connect", self._connect):
            return False
        if not self._rung(outcomes, "offline-mode", lambda: rungs.set_offline(self._open, timeout=OFFLINE_SECONDS)):
            return False
        self._rung(outcomes, "end-sessions", lambda: rungs.end_client_sessions(self._open, timeout=SESSIONS_SECONDS))
        return self._rung(outcomes, "super-read-only", self._read_only)

    def _read_only(self) -> None:
        if not rungs.set_super_read_only(self._open, timeout=READ_ONLY_SECONDS):
            raise MySQLError("commits in flight do not end")

    def _connect(self) -> None:
        if self._conn is None or not self._conn.is_open or self._conn.has_hung_up():
            self._conn = connect(self._endpoint, connect_timeout=CONNECT_SECONDS, timeout=SESSIONS_SECONDS)

    @property
    def _open(self) -> Connection:
        assert self._conn is not None
        return self._conn

    def _present_process(self) -> HeldProcess | None:
        """The one at hand, unless it has ended."""
        if self._process is not None and self._process.has_ended():
            self._process = None
        return self._process

    def _pid(self) -> int | None:
        try:
            return self._services.main_pid(Unit.MYSQLD, timeout=LOOK_SECONDS)
        except HostError:
            return None

    def _kill(self, process: HeldProcess | None, pid: int | None) -> None:
        """SIGKILL, unless that process has ended meanwhile: the next one starts read-only."""
        self._conn = None
        if process is not None:
            try:
                process.kill(timeout=KILL_SECONDS)
            except HostError:  # it may not be killed from here, perhaps
                self._services.kill(Unit.MYSQLD, timeout=KILL_SECONDS)
        elif pid is None or self._pid() in (pid, None):
            self._services.kill(Unit.MYSQLD, timeout=KILL_SECONDS)

    def _rung(self, outcomes: list[Rung], name: str, climb: Callable[[], object]) -> bool:
        began = time.monotonic()
        error = ""
        try:
            climb()
        except (MySQLError, HostError) as failure:
            error = str(failure)
        milliseconds = int((time.monotonic() - began) * 1000)
        outcomes.append(Rung(name=name, ok=not error, milliseconds=milliseconds, error=error))
        return not error
