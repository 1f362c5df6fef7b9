"""One look at a mysqld in three round trips: rows in, `MySQLObservation` out.

It runs twice a second on every member, so it reads what costs the server no lock and, together, less than a
millisecond of CPU: system variables and performance_schema.

One case in which it hangs, as every login does: a CREATE USER (or the like) that waits for an acknowledgement
holds the lock of the privilege tables. Replicas cannot log in to acknowledge it either, so such a server is stuck
for good, and being taken for unresponsive is what gets it fenced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import Channel, MySQLObservation, ReceiverState, SemiSync
from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection, Row
from raftctl.mysql.kept_settings import NEVER_PERSISTED, changed

_UNKNOWN_SYSTEM_VARIABLE = 1193  # ER_UNKNOWN_SYSTEM_VARIABLE

# The order of the queries matters: gtid_owned first, gtid_executed last. A transaction leaves the one after it has
# entered the other, so everything in the binary log at the time of the first query is in one of them.
_CHANNEL = """
SELECT @@GLOBAL.gtid_owned AS gtid_owned, UNIX_TIMESTAMP(NOW(6)) AS now_s,
       source.HOST AS source_host, source.PORT AS source_port, source.USER AS source_user,
       receiver.SOURCE_UUID AS source_uuid, receiver.SERVICE_STATE AS receiver_state,
       receiver.LAST_ERROR_NUMBER AS receiver_error_code, receiver.LAST_ERROR_MESSAGE AS receiver_error,
       receiver.RECEIVED_TRANSACTION_SET AS gtid_received,
       UNIX_TIMESTAMP(receiver.LAST_QUEUED_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP) AS queued_s,
       UNIX_TIMESTAMP(GREATEST(receiver.LAST_HEARTBEAT_TIMESTAMP,
                               receiver.LAST_QUEUED_TRANSACTION_END_QUEUE_TIMESTAMP)) AS heard_s,
       applier.SERVICE_STATE AS applier_state,
       coordinator.LAST_ERROR_NUMBER AS coordinator_error_code,
       coordinator.LAST_ERROR_MESSAGE AS coordinator_error,
       IF(coordinator.PROCESSING_TRANSACTION = '', NULL,
          UNIX_TIMESTAMP(coordinator.PROCESSING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP)) AS processing_s,
       worker.LAST_ERROR_NUMBER AS worker_error_code, worker.LAST_ERROR_MESSAGE AS worker_error,
       IF(worker.APPLYING_TRANSACTION = '', NULL,
          UNIX_TIMESTAMP(worker.APPLYING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP)) AS applying_s
FROM (SELECT '' AS CHANNEL_NAME) AS chosen
LEFT JOIN performance_schema.replication_connection_configuration AS source USING (CHANNEL_NAME)
LEFT JOIN performance_schema.replication_connection_status AS receiver USING (CHANNEL_NAME)
LEFT JOIN performance_schema.replication_applier_status AS applier USING (CHANNEL_NAME)
LEFT JOIN performance_schema.replication_applier_status_by_coordinator AS coordinator USING (CHANNEL_NAME)
LEFT JOIN performance_schema.replication_applier_status_by_worker AS worker USING (CHANNEL_NAME)
"""

_STATUS = f"""
SELECT VARIABLE_NAME AS name, VARIABLE_VALUE AS value FROM performance_schema.global_status
WHERE VARIABLE_NAME IN ('Uptime', 'Threads_connected', 'Rpl_semi_sync_source_status', 'Rpl_semi_sync_source_clients',
                        'Rpl_semi_sync_source_wait_sessions', 'Rpl_semi_sync_replica_status')
UNION ALL
SELECT IF(COMMAND = 'clone', 'clone', 'dump thread'), USER FROM performance_schema.processlist
WHERE COMMAND LIKE 'Binlog Dump%' OR COMMAND = 'clone'
UNION ALL
SELECT 'persisted', VARIABLE_NAME FROM performance_schema.persisted_variables
WHERE VARIABLE_NAME IN ({", ".join(f"'{name}'" for name in NEVER_PERSISTED)})
"""  # noqa: S608 (names of our own)

_SETTINGS = """
SELECT @@server_uuid AS server_uuid, @@server_id AS server_id, @@version AS version,
       @@GLOBAL.read_only AS read_only, @@GLOBAL.super_read_only AS super_read_only,
       @@GLOBAL.offline_mode AS offline_mode, @@GLOBAL.sync_relay_log = 1 AS relay_log_synced,
       @@GLOBAL.max_connections AS connections_max,
       @@GLOBAL.sync_binlog AS sync_binlog,
       @@GLOBAL.innodb_flush_log_at_trx_commit AS innodb_flush_log_at_trx_commit,
       @@GLOBAL.gtid_purged AS gtid_purged, @@GLOBAL.gtid_executed AS gtid_executed
"""

_OWNER = re.compile(r"#[0-9]+")
# As few digits as possible: the rest are the UUID's.
_OWNER_BEFORE_UUID = re.compile(r"#[0-9]+?(?=[0-9a-f]{8}-)", re.IGNORECASE)

_SETTINGS_WITH_SEMI_SYNC = f"""{_SETTINGS},
       @@GLOBAL.rpl_semi_sync_source_enabled AS source_enabled,
       @@GLOBAL.rpl_semi_sync_source_wait_for_replica_count AS required_acks,
       @@GLOBAL.rpl_semi_sync_replica_enabled AS replica_enabled,
       @@GLOBAL.rpl_semi_sync_source_timeout AS rpl_semi_sync_source_timeout,
       @@GLOBAL.rpl_semi_sync_source_wait_point AS rpl_semi_sync_source_wait_point,
       @@GLOBAL.rpl_semi_sync_source_wait_no_replica AS rpl_semi_sync_source_wait_no_replica
"""


def observe(conn: Connection, *, timeout: float | None = None) -> MySQLObservation:
    """Look at the server. `timeout` seconds bound each of the three round trips.

    A server without the semi-sync plugins is observed as one that has semi-sync off. Raises MySQLError."""
    channel_rows = conn.query(_CHANNEL, timeout=timeout)
    status_rows = conn.query(_STATUS, timeout=timeout)
    try:
        settings = conn.query(_SETTINGS_WITH_SEMI_SYNC, timeout=timeout)[0]
    except MySQLError as error:
        if error.code != _UNKNOWN_SYSTEM_VARIABLE:
            raise
        settings = conn.query(_SETTINGS, timeout=timeout)[0]
    return parse_observation(channel_rows, status_rows, settings)


def parse_observation(channel_rows: Sequence[Row], status_rows: Sequence[Row], settings: Row) -> MySQLObservation:
    """Pure: the rows of the three queries as an observation."""
    status = {row["name"]: row["value"] for row in status_rows}
    executed = GTIDSet.parse(settings["gtid_executed"])
    received = GTIDSet.parse(channel_rows[0]["gtid_received"] or "")
    return MySQLObservation(
        server_uuid=settings["server_uuid"],
        server_id=settings["server_id"],
        version=settings["version"],
        uptime_seconds=int(status["Uptime"]),
        read_only=bool(settings["read_only"]),
        super_read_only=bool(settings["super_read_only"]),
        offline_mode=bool(settings["offline_mode"]),
        gtid_owned=parse_owned(channel_rows[0]["gtid_owned"]),
        gtid_executed=executed,
        gtid_purged=GTIDSet.parse(settings["gtid_purged"]),
        gtid_received=received,
        channel=_parse_channel(channel_rows, all_applied=received <= executed),
        semi_sync=SemiSync(
            source_enabled=bool(settings.get("source_enabled")),
            source_status=status.get("Rpl_semi_sync_source_status") == "ON",
            required_acks=settings.get("required_acks", 0),
            wait_sessions=int(status.get("Rpl_semi_sync_source_wait_sessions", 0)),
            clients=int(status.get("Rpl_semi_sync_source_clients", 0)),
            replica_enabled=bool(settings.get("replica_enabled")),
            replica_status=status.get("Rpl_semi_sync_replica_status") == "ON",
        ),
        receivers=tuple(sorted(row["value"] for row in status_rows if row["name"] == "dump thread")),
        donates="clone" in status,
        relay_log_synced=bool(settings["relay_log_synced"]),
        connections=int(status.get("Threads_connected", 0)),
        connections_max=settings["connections_max"],
        changed_settings=changed(settings),
        persisted_settings=tuple(sorted(row["value"] for row in status_rows if row["name"] == "persisted")),
    )


def parse_owned(text: str) -> GTIDSet:
    """Read `@@GLOBAL.gtid_owned`: a GTID set in which each number carries its thread, `uuid:8#16:7#17`.

    Nothing stands between one source's part and the next: `uuid:8#16uuid:7#17` (MySQL 9.7.4)."""
    return GTIDSet.parse(_OWNER.sub("", _OWNER_BEFORE_UUID.sub(",", text)))


def _parse_channel(rows: Sequence[Row], *, all_applied: bool) -> Channel | None:
    """`rows` has a row for each applier worker; without workers one row, without a channel one row of NULLs."""
    first = rows[0]
    if not first["source_host"]:
        return None
    code, text = _applier_error(rows)
    running = first["applier_state"] == "ON"
    return Channel(
        source_host=first["source_host"],
        source_port=first["source_port"],
        source_user=first["source_user"],
        source_uuid=first["source_uuid"] or "",
        receiver=ReceiverState(first["receiver_state"]),
        applier_running=running,
        receiver_error_code=first["receiver_error_code"],
        receiver_error=first["receiver_error"],
        applier_error_code=code,
        applier_error=text,
        apply_lag_seconds=_lag(rows, running=running, all_applied=all_applied),
        heard_seconds=max(0.0, float(first["now_s"] - first["heard_s"])) if first["heard_s"] else None,
    )


def _applier_error(rows: Sequence[Row]) -> tuple[int, str]:
    """A worker's error says what is wrong; the coordinator's then only says that a worker failed."""
    for row in rows:
        if row["worker_error_code"]:
            return row["worker_error_code"], row["worker_error"]
    return rows[0]["coordinator_error_code"] or 0, rows[0]["coordinator_error"] or ""


def _lag(rows: Sequence[Row], *, running: bool, all_applied: bool) -> float | None:
    """The age of the oldest transaction under way; its commit time is by the clock of its first primary.

    Between two transactions there is none: then the last received one stands for it. A stopped applier's lag is
    unknown: it says nothing about the transactions that it has not begun."""
    if all_applied:
        return 0.0
    if not running:
        return None
    under_way = [row[column] for row in rows for column in ("applying_s", "processing_s") if row[column]]
    oldest: Any = min(under_way, default=rows[0]["queued_s"])
    return max(0.0, float(rows[0]["now_s"] - oldest)) if oldest else None
