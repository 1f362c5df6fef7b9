"""Looks at the own mysqld, and notices at once when its process ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from raftctl.cluster.facts import MySQLState
from raftctl.cluster.observation import MySQLObservation
from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.clone import CloneProgress, clone_progress
from raftctl.mysql.errors import AccessDenied, ConnectionLost, ConnectTimeout, ServerGone, StatementTimeout
from raftctl.mysql.observe import observe
from raftctl.mysql.tail import ServerFiles, server_files

PROBE_SECONDS: Final = 1.0
PATIENCE_SECONDS_MIN: Final = 2.0  # one slow answer is no death, however short the election timeout


class Look(msgspec.Struct, frozen=True):
    """`state` is None when `observation` says it; else DOWN, UNRESPONSIVE or UNKNOWN. `session` grows with every new
    connection: a new one may mean a new mysqld, so nothing proven before holds."""

    session: int
    observation: MySQLObservation | None = None
    state: MySQLState | None = None
    error: str = ""
    clone: CloneProgress | None = None  # looked at on demand


class Observer:
    """Blocking; one thread uses it.

    A mysqld that does not answer counts as unresponsive only after `patience()` seconds, PATIENCE_SECONDS_MIN at least:
    slow is not dead. Its account has CONNECTION_ADMIN, so that a full `max_connections` does not look like death
    either."""

    def __init__(
        self, *, endpoint: Endpoint, patience: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self._clock = clock
        self._conn: Connection | None = None
        self._session = 0
        self.files: ServerFiles | None = None  # of the server last connected to
        self._silent_since: float | None = None

    @property
    def session(self) -> int | None:
        """The server's id of this observer's connection."""
        return self._conn.thread_id if self._conn is not None else None

    def look(self, *, with_clone: bool = False) -> Look:
        """One look, within about two PROBE_SECONDS."""
        try:
            seen = self._observe()
            clone = clone_progress(self._conn) if with_clone and self._conn is not None else None
        except (StatementTimeout, ConnectTimeout) as error:
            return self._no_answer(str(error))
        except (ServerGone, ConnectionLost) as error:
            self._silent_since = None
            return Look(self._session, state=MySQLState.DOWN, error=str(error))
        except MySQLError as error:
            # It answered, with a refusal: the process lives, and what to do about it is a person's business.
            self._silent_since = None
            mend = "; `raftctl bootstrap` mends raftctl's account" if isinstance(error, AccessDenied) else ""
            return Look(self._session, state=MySQLState.UNKNOWN, error=f"{error}{mend}")
        self._silent_since = None
        return Look(self._session, observation=seen, clone=clone)

    def _observe(self) -> MySQLObservation:
        if self._conn is None or not self._conn.is_open or self._conn.has_hung_up():
            self._conn = self._connect()
        try:
            return observe(self._conn)
        except ConnectionLost:
            self._conn.close()
            self._conn = self._connect()
            return observe(self._conn)

    def _connect(self) -> Connection:
        conn = connect(self._endpoint, connect_timeout=PROBE_SECONDS, timeout=PROBE_SECONDS)
        self._session += 1
        self.files = server_files(conn, timeout=PROBE_SECONDS)
        return conn

    def _no_answer(self, error: str) -> Look:
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now - PROBE_SECONDS
        given_up = now - self._silent_since >= max(self._patience(), PATIENCE_SECONDS_MIN)
        return Look(self._session, state=MySQLState.UNRESPONSIVE if given_up else None, error=error)

    def sentinel(self) -> Connection | None:
        """An idle connection whose end shows the end of mysqld; None when none can be had."""
        try:
            return connect(self._endpoint, connect_timeout=PROBE_SECONDS, timeout=PROBE_SECONDS)
        except MySQLError:
            return None
