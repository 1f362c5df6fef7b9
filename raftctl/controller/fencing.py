"""The fencing ladder (rule R8): from refusing clients to SIGKILL, each rung with a deadline of its own.

It has its own thread and its own connection, kept open beforehand: fencing never waits behind monitoring, and a full
`max_connections` cannot keep it out. No rung turns semi-sync off, lowers the number of acknowledgements or sends
SIGTERM: each of those tells waiting clients that their write is safe when it is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from raftctl.errors import HostError, MySQLError
from raftctl.hosts.services import ServiceManager, Unit
from raftctl.mysql import fencing as rungs
from raftctl.mysql.client import Connection, Endpoint, connect

CONNECT_SECONDS: Final = 0.5
OFFLINE_SECONDS: Final = 1.0
SESSIONS_SECONDS: Final = 1.0
READ_ONLY_SECONDS: Final = 2.0
KILL_SECONDS: Final = 5.0


class Rung(msgspec.Struct, frozen=True):
    """One rung's outcome."""

    name: str
    ok: bool
    milliseconds: int
    error: str = ""


class Fenced(msgspec.Struct, frozen=True):
    """`fenced`: this mysqld can acknowledge nothing any more; `killed`: its process was ended for that."""

    fenced: bool
    killed: bool
    rungs: tuple[Rung, ...]


class Ladder:
    """Fences one mysqld. `climb` blocks; call it through `executor`, which is used for nothing else."""

    def __init__(self, *, endpoint: Endpoint, services: ServiceManager) -> None:
        self._endpoint = endpoint
        self._services = services
        self._conn: Connection | None = None
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="fencing")

    def prepare(self) -> None:
        """Have a connection at hand before it is needed; a failure is left to `climb`."""
        if self._conn is not None and not self._conn.has_hung_up():
            return
        try:
            self._conn = connect(self._endpoint, connect_timeout=CONNECT_SECONDS)
        except MySQLError:
            self._conn = None

    @property
    def session(self) -> int | None:
        """The server's id of the connection kept at hand."""
        return self._conn.thread_id if self._conn is not None else None

    def climb(self) -> Fenced:
        """Climb until mysqld is read-only with nothing in flight, or its process is gone."""
        outcomes: list[Rung] = []
        if self._gently(outcomes):
            return Fenced(fenced=True, killed=False, rungs=tuple(outcomes))
        killed = self._rung(outcomes, "sigkill", self._kill)
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
        if self._conn is None or self._conn.has_hung_up():
            self._conn = connect(self._endpoint, connect_timeout=CONNECT_SECONDS)

    @property
    def _open(self) -> Connection:
        assert self._conn is not None
        return self._conn

    def _kill(self) -> None:
        self._services.kill(Unit.MYSQLD, timeout=KILL_SECONDS)
        self._conn = None

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
