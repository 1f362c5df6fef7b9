"""The rungs of the fencing ladder that go through MySQL (rule R8). No policy: each tries one thing by its deadline.

While commits wait for an acknowledgement, super_read_only hangs, and turning semi-sync off, SHUTDOWN and SIGTERM
acknowledge them falsely. offline_mode ends the waiting clients with an error, which is the truth. The last
rung, SIGKILL, is not MySQL's: see raftctl.hosts.
"""

from __future__ import annotations

import time

from raftctl.mysql.accounts import REPLICATION_USERS_LIKE
from raftctl.mysql.client import Connection
from raftctl.mysql.errors import LockWaitTimeout, NotVerified
from raftctl.mysql.sessions import kill

# Neither the server's own threads nor replicas, whose sessions are ordinary until the dump begins.
_CLIENTS = """
SELECT ID AS id FROM performance_schema.processlist
WHERE USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user', %s) AND USER NOT LIKE %s
  AND COMMAND <> 'Daemon'
"""


def is_read_only(conn: Connection, *, timeout: float) -> bool:
    """Whether read-only mode is in force. super_read_only alone proves nothing: it reads ON while it is being set."""
    return bool(conn.scalar("SELECT @@GLOBAL.read_only AND @@GLOBAL.super_read_only", timeout=timeout))


def set_offline(conn: Connection, *, timeout: float) -> None:
    """End every session without CONNECTION_ADMIN, replicas' too, with an error, and let none log in again.

    A commit that waits for an acknowledgement goes on waiting without its client: it must not be acknowledged later,
    so SIGKILL or a promotion elsewhere follows. Raises StatementTimeout when it hangs: a waiting CREATE USER does that.
    """
    conn.execute("SET GLOBAL offline_mode = ON", timeout=timeout)
    if not conn.scalar("SELECT @@GLOBAL.offline_mode", timeout=timeout):
        raise NotVerified(f"{conn.endpoint}: offline_mode is not ON")


def end_client_sessions(conn: Connection, *, timeout: float) -> int:
    """Kill all clients' sessions once; returns how many there were.

    Spared are our account's, replicas' and the server's own. A killed session that waits for an acknowledgement
    stays in the server although its client is gone, and counts again. Raises NotVerified when some could not be killed
    in `timeout` seconds."""
    deadline = time.monotonic() + timeout
    sessions = [
        row["id"] for row in conn.query(_CLIENTS, (conn.endpoint.user, REPLICATION_USERS_LIKE), timeout=timeout)
    ]
    for done, session in enumerate(sessions):
        if time.monotonic() >= deadline:
            raise NotVerified(f"{conn.endpoint}: killed {done} of {len(sessions)} sessions in {timeout:g} s")
        kill(conn, session)
    return len(sessions)


def set_super_read_only(conn: Connection, *, lock_wait_s: int = 1, timeout: float) -> bool:
    """Refuse all writes. True: no commit is under way and none can begin. False: one is, and nothing changed.

    Waits for running statements, at most `lock_wait_s` whole seconds; `timeout` must be longer."""
    assert timeout > lock_wait_s >= 1, (timeout, lock_wait_s)
    conn.execute("SET SESSION lock_wait_timeout = %s", (lock_wait_s,), timeout=timeout)
    try:
        conn.execute("SET GLOBAL super_read_only = ON", timeout=timeout)
    except LockWaitTimeout:
        return False
    finally:
        if conn.is_open:
            conn.execute("SET SESSION lock_wait_timeout = DEFAULT", timeout=timeout)
    return bool(conn.scalar("SELECT @@GLOBAL.super_read_only", timeout=timeout))


def prove_quiet(conn: Connection, *, lock_wait_s: int = 1, timeout: float) -> None:
    """Prove on a read-only server that no commit is under way, also when super_read_only was set by somebody else.

    FLUSH TABLES WITH READ LOCK waits for every statement that may still write and for every commit; it is released at
    once. Raises LockWaitTimeout when one does not end, NotVerified when the server is not read-only."""
    if not conn.scalar("SELECT @@GLOBAL.super_read_only", timeout=timeout):
        raise NotVerified(f"{conn.endpoint}: not read-only")
    conn.execute("SET SESSION lock_wait_timeout = %s", (lock_wait_s,), timeout=timeout)
    try:
        conn.execute("FLUSH TABLES WITH READ LOCK", timeout=timeout)
        conn.execute("UNLOCK TABLES", timeout=timeout)
    finally:
        if conn.is_open:
            conn.execute("SET SESSION lock_wait_timeout = DEFAULT", timeout=timeout)


def allow_writes(conn: Connection, *, timeout: float) -> None:
    """Undo all of the above: writable and open to clients. The last step of a promotion. Raises NotVerified."""
    conn.execute("SET GLOBAL read_only = OFF", timeout=timeout)  # super_read_only goes off with it
    conn.execute("SET GLOBAL offline_mode = OFF", timeout=timeout)
    row = conn.query(
        "SELECT @@GLOBAL.read_only + @@GLOBAL.super_read_only + @@GLOBAL.offline_mode AS closed", timeout=timeout
    )[0]
    if row["closed"]:
        raise NotVerified(f"{conn.endpoint}: still read-only or offline")
