"""Replication of one server: whom it follows, and the proof that it follows nobody (rules R3 and R5).

Each function returns only when what it is named for has been seen to be so. `timeout` is in seconds and bounds each
statement; waiting for a result is bounded by it once more.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from raftctl.cluster.gtid import GTIDSet
from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection
from raftctl.mysql.errors import NotApplied, NotVerified
from raftctl.mysql.relay_log import sync_relay_logs
from raftctl.mysql.sessions import end_own_sessions, end_sessions
from raftctl.mysql.waiting import becomes_true, require
from raftctl.secret import Secret

_WAIT_SLICE_S = 1.0

# A replica tries again every second for ever, and notices a silent source by its missing heartbeats
# (with replica_net_timeout, a setting of the server). Without TLS it does not connect at all.
_SOURCE_OPTIONS = "SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 4294967295"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a replica receives from, and its own account there."""

    host: str
    port: int
    user: str
    password: Secret


def stop_receiver(conn: Connection, *, spare: Collection[int], timeout: float) -> None:
    """Stop receiving, for good, with everything received on disk: the promise of rule R3. The applier goes on.

    A START REPLICA that an abandoned session of ours sent earlier could still be on its way to be executed. So all
    other sessions of our account are ended first; `spare` are the thread ids of those known to be harmless (the
    monitor's). Raises NotVerified when a session or the receiver does not end in time."""
    end_own_sessions(conn, spare=spare, timeout=timeout)
    conn.execute("STOP REPLICA IO_THREAD", timeout=timeout)
    require(conn, "the receiver to stop", lambda: receiver_state(conn) == "OFF", timeout)
    sync_relay_logs(conn, timeout=timeout)  # what is said to be held must be there after a power failure, too


def start_receiver(conn: Connection, *, timeout: float) -> None:
    """Start receiving from the configured source. It may still be connecting when this returns."""
    conn.execute("START REPLICA IO_THREAD", timeout=timeout)
    require(conn, "the receiver to start", lambda: receiver_state(conn) != "OFF", timeout)


def wait_receiving(conn: Connection, *, timeout: float) -> bool:
    """Wait until the receiver is connected to its source; False when it is not within `timeout`."""
    return becomes_true(lambda: receiver_state(conn) == "ON", timeout)


def start_applier(conn: Connection, *, timeout: float) -> None:
    """Start applying what was received."""
    conn.execute("START REPLICA SQL_THREAD", timeout=timeout)
    require(conn, "the applier to start", lambda: applier_state(conn) == "ON", timeout)


def stop_replica(conn: Connection, *, timeout: float) -> None:
    """Stop receiving and applying. Not a promise: see `stop_receiver`.

    A server that is locked for backup refuses to stop its applier, even one that does not run (error 3857)."""
    both = "" if applier_state(conn) == "ON" else " IO_THREAD"
    conn.execute(f"STOP REPLICA{both}", timeout=timeout)
    stopped = ("OFF", "OFF")
    require(conn, "replication to stop", lambda: (receiver_state(conn), applier_state(conn)) == stopped, timeout)


def receiver_state(conn: Connection) -> str:
    """ON, CONNECTING or OFF; OFF also when no source is configured."""
    query = "SELECT SERVICE_STATE FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME = ''"
    return conn.scalar(query) or "OFF"


def applier_state(conn: Connection) -> str:
    """ON or OFF; OFF also when no source is configured."""
    query = "SELECT SERVICE_STATE FROM performance_schema.replication_applier_status WHERE CHANNEL_NAME = ''"
    return conn.scalar(query) or "OFF"


def unapplied(conn: Connection) -> GTIDSet:
    """What was received and is not yet executed. Only a stopped receiver's answer stays true."""
    row = conn.query(
        "SELECT (SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status"
        " WHERE CHANNEL_NAME = '') AS received, @@GLOBAL.gtid_executed AS executed"
    )[0]
    return GTIDSet.parse(row["received"] or "") - GTIDSet.parse(row["executed"])


def wait_applied(conn: Connection, gtids: GTIDSet, *, timeout: float) -> bool:
    """Wait until `gtids` are executed here; False when they are not within `timeout`.

    Raises MySQLError when the applier stops meanwhile, with its error."""
    deadline = time.monotonic() + timeout
    while True:
        wait_s = min(_WAIT_SLICE_S, max(deadline - time.monotonic(), 0.001))  # 0 would mean for ever
        timed_out = conn.scalar(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)", (str(gtids), wait_s), timeout=wait_s + conn.timeout
        )
        if not timed_out:
            return True
        if time.monotonic() >= deadline:
            return False
        if applier_state(conn) == "OFF":
            raise MySQLError(f"{conn.endpoint}: the applier has stopped: {_applier_error(conn)}")


def point_to(conn: Connection, source: Source, *, timeout: float) -> None:
    """Make `source` the one to receive from. Starts nothing.

    The receiver is stopped. A running applier is left running when only the address or the account changes, which
    saves the time of stopping it; what it has begun of a transaction that was received in part it rolls back when the
    next source's first event comes. Raises NotApplied when something received is not applied yet: CHANGE REPLICATION
    SOURCE may discard it (rule R5). Manual: https://dev.mysql.com/doc/refman/8.4/en/change-replication-source-to.html
    """
    configured = conn.query(
        "SELECT HOST AS host, PORT AS port, USER AS user, AUTO_POSITION = '1' AND SSL_ALLOWED = 'YES'"
        " AND CONNECTION_RETRY_INTERVAL = 1 AND CONNECTION_RETRY_COUNT = 4294967295"
        " AND HEARTBEAT_INTERVAL = 1 AS is_ours"
        " FROM performance_schema.replication_connection_configuration WHERE CHANNEL_NAME = ''"
    )
    has_our_options = bool(configured and configured[0]["is_ours"])
    conn.execute("STOP REPLICA IO_THREAD", timeout=timeout)
    _refuse_unapplied(conn)
    if not has_our_options:
        end_replication(conn, timeout=timeout)
    if applier_state(conn) == "OFF":
        # All of its relay logs is applied. A server that was killed while it removed them names files that are not
        # there any more, and would neither start replication nor apply (errors 1871, 1872) before they are forgotten.
        conn.execute("RESET REPLICA", timeout=timeout)
    conn.execute(
        # a statement that does not name the period sets it to half of replica_net_timeout
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, SOURCE_USER = %s, SOURCE_PASSWORD = %s,"
        " SOURCE_HEARTBEAT_PERIOD = 1" + ("" if has_our_options else ", " + _SOURCE_OPTIONS),
        (source.host, source.port, source.user, source.password),
        timeout=timeout,
    )


def forget_source(conn: Connection, *, timeout: float) -> None:
    """Stop replication and remove its configuration, as befits a primary.

    Raises NotApplied when something received is not applied yet: the relay log goes with it (rule R5)."""
    conn.execute("STOP REPLICA IO_THREAD", timeout=timeout)
    _refuse_unapplied(conn)
    end_replication(conn, timeout=timeout)
    conn.execute("RESET REPLICA ALL", timeout=timeout)


def end_replication(conn: Connection, *, timeout: float) -> None:
    """Stop receiving and applying, at once: see `end_applier`. Raises NotVerified when it does not end in time."""
    end_applier(conn, timeout=timeout)
    stop_replica(conn, timeout=timeout)


def end_applier(conn: Connection, *, timeout: float) -> None:
    """End the applier also in the middle of a transaction, which is rolled back; when all of it was received, it is
    applied after the next start. Raises NotVerified when the applier does not end in time.

    When a source dies, or is left, the last transaction may have been received in part. The applier has begun it and
    holds its row locks, and STOP REPLICA would wait a minute for the rest. A killed coordinator does not wait, unless
    STOP REPLICA comes before it has noticed (measured: one time in thirty): so its end is waited for here."""
    end_sessions(conn, lambda: _coordinator(conn), timeout=timeout)


def _coordinator(conn: Connection) -> frozenset[int]:
    rows = conn.query(
        "SELECT PROCESSLIST_ID AS id FROM performance_schema.threads"
        " JOIN performance_schema.replication_applier_status_by_coordinator USING (THREAD_ID) WHERE CHANNEL_NAME = ''"
    )
    return frozenset(row["id"] for row in rows)


def _refuse_unapplied(conn: Connection) -> None:
    if receiver_state(conn) != "OFF":
        raise NotVerified(f"{conn.endpoint}: the receiver did not stop")
    if left := unapplied(conn):
        raise NotApplied(
            f"{conn.endpoint}: {left.count()} received transactions are not applied yet: {left}",
            hint="wait until the applier has executed them, or repair what stops it",
        )


def _applier_error(conn: Connection) -> str:
    rows = conn.query(
        "SELECT LAST_ERROR_NUMBER AS code, LAST_ERROR_MESSAGE AS text"
        " FROM performance_schema.replication_applier_status_by_worker"
        " WHERE CHANNEL_NAME = '' AND LAST_ERROR_NUMBER <> 0"
    )
    return f"{rows[0]['text']} (MySQL error {rows[0]['code']})" if rows else "no error is recorded"
