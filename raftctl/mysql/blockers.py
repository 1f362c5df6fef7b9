"""Clients that hold up what a change of primary waits for: the applier, statements about accounts, and the proof that
the previous primary is quiet.

A backup that holds LOCK INSTANCE FOR BACKUP or FLUSH TABLES WITH READ LOCK, for as long as it takes, makes every
account statement wait; the latter, LOCK TABLES, an open transaction, and a long SELECT before somebody's ALTER TABLE
make the applier wait. FLUSH TABLES WITH READ LOCK, the proof, waits for every statement that reads a table, and for
LOCK TABLES of an idle session; so does SET GLOBAL super_read_only, for the latter and for an ALTER TABLE that itself
waits for somebody's open transaction.

Manual: https://dev.mysql.com/doc/refman/8.4/en/lock-instance-for-backup.html and
https://dev.mysql.com/doc/refman/8.4/en/performance-schema-metadata-locks-table.html
"""

from __future__ import annotations

from collections.abc import Callable

from raftctl.mysql.client import Connection
from raftctl.mysql.sessions import kill, kill_query

_CLIENTS = """
SELECT DISTINCT PROCESSLIST_ID AS id, CONCAT(PROCESSLIST_USER, '@', PROCESSLIST_HOST) AS account
FROM performance_schema.threads JOIN blocking ON blocking.id = THREAD_ID
WHERE NAME = 'thread/sql/one_connection' AND PROCESSLIST_USER <> %s
"""

# Row locks, and metadata locks that stand against one that the applier waits for. Whoever only reads a table, or writes
# to it, is not in the way of a write to it.
_OF_THE_APPLIER = """
WITH applier AS (
  SELECT THREAD_ID AS id FROM performance_schema.replication_applier_status_by_worker
  UNION SELECT THREAD_ID FROM performance_schema.replication_applier_status_by_coordinator
), blocking AS (
  SELECT held.OWNER_THREAD_ID AS id FROM performance_schema.metadata_locks AS held
  JOIN performance_schema.metadata_locks AS wanted ON held.OBJECT_TYPE = wanted.OBJECT_TYPE
    AND held.OBJECT_SCHEMA <=> wanted.OBJECT_SCHEMA AND held.OBJECT_NAME <=> wanted.OBJECT_NAME
  WHERE held.LOCK_STATUS = 'GRANTED' AND wanted.LOCK_STATUS = 'PENDING'
    AND wanted.OWNER_THREAD_ID IN (SELECT id FROM applier)
    AND NOT (wanted.LOCK_TYPE = 'SHARED_WRITE' AND held.LOCK_TYPE IN ('SHARED_READ', 'SHARED_WRITE'))
  UNION
  SELECT BLOCKING_THREAD_ID FROM performance_schema.data_lock_waits
  WHERE REQUESTING_THREAD_ID IN (SELECT id FROM applier)
)
"""

_OF_ACCOUNTS = """
WITH blocking AS (
  SELECT OWNER_THREAD_ID AS id FROM performance_schema.metadata_locks
  WHERE OBJECT_TYPE IN ('BACKUP LOCK', 'GLOBAL') AND LOCK_TYPE = 'SHARED' AND LOCK_STATUS = 'GRANTED'
)
"""

_QUERIES = """
WITH blocking AS (
  SELECT OWNER_THREAD_ID AS id FROM performance_schema.metadata_locks
  WHERE OBJECT_TYPE = 'TABLE' AND LOCK_STATUS = 'GRANTED'
)
"""
# LOCK TABLES (READ takes SHARED_READ_ONLY), and FLUSH TABLES ... WITH READ LOCK or FOR EXPORT, whose lock an ALTER
# TABLE has as well while it runs.
_TABLE_LOCKS = """
WITH blocking AS (
  SELECT OWNER_THREAD_ID AS id FROM performance_schema.metadata_locks
  JOIN performance_schema.threads ON THREAD_ID = OWNER_THREAD_ID
  WHERE OBJECT_TYPE = 'TABLE' AND LOCK_STATUS = 'GRANTED'
    AND (LOCK_TYPE IN ('SHARED_READ_ONLY', 'SHARED_NO_READ_WRITE')
         OR LOCK_TYPE = 'SHARED_NO_WRITE' AND PROCESSLIST_COMMAND = 'Sleep')
)
"""

_WAITING_THEMSELVES = """
WITH blocking AS (
  SELECT OWNER_THREAD_ID AS id FROM performance_schema.metadata_locks
  WHERE OBJECT_TYPE = 'TABLE' AND LOCK_STATUS = 'PENDING'
)
"""
_RUNNING = "AND PROCESSLIST_COMMAND IN ('Query', 'Execute')"


def free_applier(conn: Connection, *, timeout: float) -> list[str]:
    """Kill the clients' sessions for which the applier waits now, and return whose they were.

    Their transactions are rolled back. `timeout` bounds each statement. Raises MySQLError."""
    return _end(conn, _OF_THE_APPLIER, kill, timeout)


def free_accounts(conn: Connection, *, timeout: float) -> list[str]:
    """As `free_applier`: the sessions that make account statements wait, backups as a rule."""
    return _end(conn, _OF_ACCOUNTS, kill, timeout)


def end_queries(conn: Connection, *, timeout: float) -> list[str]:
    """End the statements of clients that use a table now, on a server where no commit is under way, and return whose
    they were. Their sessions stay.

    `timeout` bounds each statement. Raises MySQLError."""
    return _end(conn, _QUERIES, kill_query, timeout, only=_RUNNING)


def free_writers(conn: Connection, *, timeout: float) -> list[str]:
    """Kill the sessions that hold table locks, and end the statements that wait for such a lock or for a transaction,
    and return whose they were. Commits under way, and statements at work, go on.

    `timeout` bounds each statement. Raises MySQLError."""
    holders = _end(conn, _TABLE_LOCKS, kill, timeout)
    return sorted({*holders, *_end(conn, _WAITING_THEMSELVES, kill_query, timeout, only=_RUNNING)})


def _end(
    conn: Connection, blocking: str, end: Callable[[Connection, int], None], timeout: float, *, only: str = ""
) -> list[str]:
    rows = conn.query("".join((blocking, _CLIENTS, only)), (conn.endpoint.user,), timeout=timeout)
    for row in rows:
        end(conn, row["id"])
    return sorted({row["account"] for row in rows})
