"""The settings that an acknowledged write rests on (rules R2, R8), kept as the option file has them.

Whoever has the privilege can change them while mysqld runs, as people do to load data faster, or for its next start
(SET PERSIST: mysqld-auto.cnf wins over every option file). Either way nothing would look wrong until a write is lost.
Manual: https://dev.mysql.com/doc/refman/8.4/en/persisted-system-variables.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from raftctl.mysql.client import Connection
from raftctl.mysql.server_config import SEMI_SYNC_TIMEOUT_MS

IN_FORCE: Final[Mapping[str, str]] = {
    "sync_binlog": "1",
    "innodb_flush_log_at_trx_commit": "1",
    "rpl_semi_sync_source_timeout": str(SEMI_SYNC_TIMEOUT_MS),
    "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
    "rpl_semi_sync_source_wait_no_replica": "1",
}
# These, and what the controller sets itself from moment to moment: another value at the next start would let mysqld
# take writes, replicate or acknowledge before its controller says so, or throw away what it received.
NEVER_PERSISTED: Final = (
    *IN_FORCE,
    "read_only",
    "super_read_only",
    "offline_mode",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_source_wait_for_replica_count",
    "rpl_semi_sync_replica_enabled",
    "sync_relay_log",
    "skip_replica_start",
    "skip_slave_start",  # its other name, which is persisted beside it
    "relay_log_recovery",
)


def changed(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of IN_FORCE that have another value, as `name = value`. `settings` are global system variables; what is not
    among them is not there (no semi-sync plugin)."""
    return tuple(
        f"{name} = {settings[name]}"
        for name, value in IN_FORCE.items()
        if name in settings and str(settings[name]) != value
    )


def restore(conn: Connection, settings: Collection[str], persisted: Collection[str], *, timeout: float) -> None:
    """Put the `settings` of IN_FORCE in force again, and forget those that were `persisted`. Raises MySQLError."""
    for name in settings:
        conn.execute(f"SET GLOBAL {name} = {IN_FORCE[name]}", timeout=timeout)
    for name in sorted(set(persisted) & set(NEVER_PERSISTED), key=NEVER_PERSISTED.index):
        conn.execute(f"RESET PERSIST IF EXISTS {name}", timeout=timeout)
