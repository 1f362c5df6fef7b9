"""The option file and command of one sandbox mysqld: a production member's settings on a small memory
footprint.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from raftctl.mysql.server_config import Setting, member_settings, render
from raftctl.sandbox.distribution import MySQLDistribution

_GREETING_S = 5.0


class MySQLPlace(msgspec.Struct, frozen=True):
    """Where one mysqld of this machine lives and listens."""

    directory: Path  # holds my.cnf, data/, run/ and log/
    server_id: int
    address: str  # the address it listens on, and the one that other members use
    port: int
    admin_port: int

    @property
    def datadir(self) -> Path:
        return self.directory / "data"

    @property
    def socket(self) -> Path:
        return self.directory / "run" / "mysqld.sock"

    @property
    def option_file(self) -> Path:
        return self.directory / "my.cnf"

    @property
    def error_log(self) -> Path:
        return self.directory / "log" / "mysqld.err"


def prepare(
    place: MySQLPlace, distribution: MySQLDistribution, *, overrides: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Make `place` ready, with a fresh data directory unless it has one; returns the command that runs the
    server.

    `overrides` are mysqld settings by name that replace ours or come in addition.
    """
    for directory in (place.directory, place.socket.parent, place.error_log.parent):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not place.datadir.exists():
        distribution.initialize(place.datadir)
    settings = [
        *member_settings(
            version=distribution.version,
            server_id=place.server_id,
            report_host=place.address,
            report_port=place.port,
            admin_port=place.admin_port,
        ),
        *_place_settings(place),
        *_small_memory(distribution.version),
    ]
    place.option_file.write_text(render(settings, overrides))
    place.option_file.chmod(0o600)
    return distribution.mysqld_argv(defaults_file=place.option_file)


def greets(socket_path: Path) -> bool:
    """Whether a mysqld greets on its unix socket: it does so only once it is ready for connections."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_GREETING_S)
        try:
            connection.connect(str(socket_path))
            return len(connection.recv(64)) > 4  # more than a packet's header
        except OSError:
            return False


def _place_settings(place: MySQLPlace) -> list[Setting]:
    return [
        Setting("datadir", str(place.datadir), ""),
        Setting("socket", str(place.socket), ""),
        Setting("pid_file", str(place.socket.with_name("mysqld.pid")), ""),
        Setting("log_error", str(place.error_log), ""),
        Setting("bind_address", place.address, ""),
        Setting("port", str(place.port), ""),
        Setting("mysqlx", "OFF", "the X plugin would take one more port"),
        Setting("skip_name_resolve", "ON", "no DNS; root@localhost is reachable through the socket only"),
        Setting("max_connections", "500", ""),
    ]


# Statement digests, statistics of memory use and histories of events, which nobody reads in a sandbox, take
# 230 MB of a server's 480. Threads, stages (SHOW PROCESSLIST's State column) and the replication tables stay:
# raftctl reads them.
_PERFORMANCE_SCHEMA_OFF = (
    "accounts_size",
    "digests_size",
    "error_size",
    "events_stages_history_long_size",
    "events_stages_history_size",
    "events_statements_history_long_size",
    "events_statements_history_size",
    "events_transactions_history_long_size",
    "events_transactions_history_size",
    "events_waits_history_long_size",
    "events_waits_history_size",
    "hosts_size",
    "max_digest_length",
    "max_memory_classes",
    "max_sql_text_length",
    "max_statement_classes",
    "users_size",
)


def _small_memory(version: tuple[int, int, int]) -> list[Setting]:
    redo = ("innodb_redo_log_capacity", "64M") if version >= (8, 0, 30) else ("innodb_log_file_size", "32M")
    return [
        Setting("innodb_buffer_pool_size", "64M", "several servers share this machine's memory"),
        Setting("innodb_log_buffer_size", "4M", ""),
        Setting(*redo, ""),
        Setting("table_open_cache", "512", ""),
        Setting("table_definition_cache", "512", ""),
        *(Setting(f"performance_schema_{name}", "0", "") for name in _PERFORMANCE_SCHEMA_OFF),
    ]
