"""Other sessions of a mysqld: finding and ending them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection
from raftctl.mysql.errors import NotVerified

_NO_SUCH_THREAD = 1094  # ER_NO_SUCH_THREAD
_POLL_INTERVAL_S = 0.005


def sessions_of(conn: Connection, user: str) -> frozenset[int]:
    """Thread ids of the sessions of the account named `user`, from any host."""
    rows = conn.query("SELECT ID AS id FROM performance_schema.processlist WHERE USER = %s", (user,))
    return frozenset(row["id"] for row in rows)


def end_sessions_of(conn: Connection, user: str, *, timeout: float) -> None:
    """End all sessions of `user`. Raises NotVerified when one is still there after `timeout` seconds."""
    end_sessions(conn, lambda: sessions_of(conn, user), timeout=timeout)


def end_own_sessions(conn: Connection, *, spare: Collection[int], timeout: float) -> None:
    """End all sessions of this connection's account but its own and those whose thread ids are in `spare`.

    Raises NotVerified when one is still there after `timeout` seconds."""
    spared = frozenset(spare) | {conn.thread_id}
    end_sessions(conn, lambda: sessions_of(conn, conn.endpoint.user) - spared, timeout=timeout)


def end_sessions(conn: Connection, remaining: Callable[[], frozenset[int]], *, timeout: float) -> None:
    """Kill what `remaining` says is there, a set of thread ids, until it is empty. Raises NotVerified when it is not
    within `timeout` seconds.

    A killed session may take its time to end: a dump thread up to a second (the period of the semi-sync
    acknowledgement receiver's poll), one that waits for an acknowledgement for ever."""
    deadline = time.monotonic() + timeout
    while sessions := remaining():
        for session in sessions:
            kill(conn, session)
        if time.monotonic() >= deadline:
            raise NotVerified(f"{conn.endpoint}: sessions {sorted(sessions)} do not end within {timeout:g} s")
        time.sleep(_POLL_INTERVAL_S)


def kill(conn: Connection, session: int) -> None:
    """Ask the server to end a session; nothing happens when it is gone already."""
    _kill(conn, "KILL %s", session)


def kill_query(conn: Connection, session: int) -> None:
    """Ask the server to end what a session executes; nothing happens when the session is gone already."""
    _kill(conn, "KILL QUERY %s", session)


def _kill(conn: Connection, statement: str, session: int) -> None:
    try:
        conn.execute(statement, (session,))
    except MySQLError as error:
        if error.code != _NO_SUCH_THREAD:
            raise
