"""The fixture that other tests stand on: a real member's mysqld, killed and restarted."""

from __future__ import annotations

import pymysql
import pytest

from tests.support.mysqld import MySQLFactory, RunningMySQL

pytestmark = pytest.mark.mysql


def variables(server: RunningMySQL, *names: str) -> list[str]:
    connection = pymysql.connect(unix_socket=str(server.socket), user="root", connect_timeout=10, read_timeout=30)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"@@{name}" for name in names))
        row = cursor.fetchone()
    assert row is not None
    return [str(value) for value in row]


def test_a_fresh_member_starts_harmless_and_with_its_plugins(mysqld_factory: MySQLFactory) -> None:
    server = mysqld_factory("db1")
    names = ("super_read_only", "gtid_mode", "rpl_semi_sync_source_enabled", "rpl_semi_sync_source_timeout")
    assert variables(server, *names) == ["1", "ON", "0", "4294967295"]
    assert variables(server, "relay_log_recovery", "sync_relay_log", "skip_replica_start") == ["0", "1", "1"]
    assert "[ERROR]" not in server.error_log


def test_members_differ_and_survive_a_kill(mysqld_factory: MySQLFactory) -> None:
    first, second = mysqld_factory("db1"), mysqld_factory("db2", max_connections=77)
    assert variables(first, "server_id") != variables(second, "server_id")
    assert variables(first, "server_uuid") != variables(second, "server_uuid")
    assert variables(second, "max_connections") == ["77"]
    uuid, pid = variables(first, "server_uuid"), first.pid
    first.restart()
    assert first.pid != pid
    assert variables(first, "server_uuid") == uuid
