"""The settings that make a mysqld a safe cluster member, each with its reason.

Pure: version and identity in, settings out. They go into an option file of their own that the server reads
last (a `[mysqld]` section: https://dev.mysql.com/doc/refman/8.4/en/option-files.html). Data directory,
memory, ports and the like stay with whoever runs the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

Version = tuple[int, int, int]

SEMI_SYNC_TIMEOUT_MS = 4_294_967_295  # the largest that MySQL accepts: 49 days


class Setting(NamedTuple):
    name: str
    value: str
    why: str


def member_settings(
    *, version: Version, server_id: int, report_host: str, report_port: int, admin_port: int
) -> list[Setting]:
    """What every data member's mysqld must be started with.

    `server_id` is unique in the cluster; `report_host` and `report_port` are how the other members reach this
    server. `admin_port` is the extra port on loopback that stays open when `max_connections` is used up.
    """
    return [
        *_identity(server_id, report_host, report_port, admin_port),
        *_harmless_after_a_start(),
        *_gtid_and_binlog(version),
        *_replication(version),
        *_semi_sync(),
    ]


def _identity(server_id: int, report_host: str, report_port: int, admin_port: int) -> list[Setting]:
    return [
        Setting(
            "server_id",
            str(server_id),
            "unique in the cluster: events with its own id are skipped by a server",
        ),
        Setting("report_host", report_host, "SHOW REPLICAS on the source names this member"),
        Setting("report_port", str(report_port), "and its port"),
        Setting("admin_address", "127.0.0.1", "the controller gets in when max_connections is used up"),
        Setting("admin_port", str(admin_port), ""),
        Setting(
            "create_admin_listener_thread",
            "ON",
            "a login storm on the main port must not delay the controller",
        ),
    ]


def _harmless_after_a_start() -> list[Setting]:
    return [
        Setting(
            "super_read_only",
            "ON",
            "after any start it takes no write until its controller says so (rule R8)",
        ),
        Setting(
            "read_only",
            "ON",
            "super_read_only implies it; stated for readers and tools that look at it alone",
        ),
        Setting("skip_replica_start", "ON", "it follows nobody until its controller knows whom (rule R8)"),
    ]


def _gtid_and_binlog(version: Version) -> list[Setting]:
    settings = [
        Setting("gtid_mode", "ON", "every transaction has a name: what a member has is a set, compared exactly"),
        Setting("enforce_gtid_consistency", "ON", "gtid_mode=ON needs it"),
        Setting("log_bin", "binlog", "a fixed name: the default contains the host's name, which may change"),
        Setting("log_replica_updates", "ON", "a replica can become the source of the others"),
        Setting("binlog_format", "ROW", "deterministic on replicas"),
        Setting("sync_binlog", "1", "an acknowledged write survives a crash of the machine (rule R2)"),
        Setting("innodb_flush_log_at_trx_commit", "1", "likewise (rule R2)"),
        Setting("binlog_expire_logs_seconds", "604800", "a member that was away for a week still catches up"),
    ]
    if version < (8, 4, 0):
        # default, and the only choice, from 8.4 on
        settings.append(Setting("binlog_transaction_dependency_tracking", "WRITESET", "replicas apply in parallel"))
    return settings


def _replication(version: Version) -> list[Setting]:
    settings = [
        Setting("relay_log", "relay-bin", "a fixed name: the default contains the host's name"),
        Setting("sync_relay_log", "1", "an acknowledgement survives the replica's crash (rule R2)"),
        Setting("relay_log_recovery", "OFF", "ON throws away received transactions at a start (rule R2)"),
        Setting("replica_parallel_workers", "4", "a replica must keep up to be promoted quickly"),
        Setting("replica_preserve_commit_order", "ON", "no gaps in what a replica has executed"),
        Setting("replica_net_timeout", "5", "a silent source is noticed in seconds: heartbeats come every second"),
    ]
    if version < (8, 0, 27):
        settings.append(
            Setting(
                "replica_parallel_type",
                "LOGICAL_CLOCK",
                "replica_preserve_commit_order needs it before 8.0.27",
            )
        )
    return settings


def _semi_sync() -> list[Setting]:
    return [
        Setting(
            "plugin_load_add",
            "semisync_source.so;semisync_replica.so;mysql_clone.so",
            "loaded before the settings below are read, on every start",
        ),
        Setting(
            "rpl_semi_sync_source_enabled",
            "OFF",
            "ON only on the primary: on a replica the applier would wait",
        ),
        Setting("rpl_semi_sync_source_wait_point", "AFTER_SYNC", "nobody reads what may still be lost (rule R2)"),
        Setting(
            "rpl_semi_sync_source_timeout",
            str(SEMI_SYNC_TIMEOUT_MS),
            "never degrades to asynchronous (rule R2)",
        ),
        Setting("rpl_semi_sync_source_wait_no_replica", "ON", "waits even when no replica is connected (rule R2)"),
        Setting(
            "rpl_semi_sync_replica_enabled",
            "OFF",
            "after any start it acknowledges nothing until its controller finds it in the sync set (rule R6)",
        ),
    ]


def render(settings: Iterable[Setting], overrides: Mapping[str, str] | None = None) -> str:
    """An option file with a `[mysqld]` section: a comment with the reason above each line that has one.

    `overrides` replace values by name; names not among the settings are appended.
    """
    left = dict(overrides or {})
    lines = ["[mysqld]"]
    for setting in settings:
        if setting.why:
            lines.append(f"# {setting.why}")
        lines.append(f"{setting.name} = {left.pop(setting.name, setting.value)}")
    lines += [f"{name} = {value}" for name, value in left.items()]
    return "\n".join(lines) + "\n"
