"""The settings of a cluster member: those that the safety rules stand on, and names by version."""

from __future__ import annotations

import pytest

from raftctl.mysql.server_config import Setting, member_settings, render

VERSIONS = [(8, 0, 26), (8, 0, 42), (8, 4, 0), (9, 7, 4)]


def settings(version: tuple[int, int, int] = (8, 4, 0)) -> dict[str, str]:
    found = member_settings(version=version, server_id=7, report_host="192.0.2.7", report_port=3306, admin_port=33062)
    return {setting.name: setting.value for setting in found}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_safety_rules_need_is_there_in_every_version(version: tuple[int, int, int]) -> None:
    needed = {
        "gtid_mode": "ON",
        "log_replica_updates": "ON",
        "sync_binlog": "1",
        "innodb_flush_log_at_trx_commit": "1",
        "sync_relay_log": "1",
        "relay_log_recovery": "OFF",
        "super_read_only": "ON",
        "skip_replica_start": "ON",
        "rpl_semi_sync_source_enabled": "OFF",
        "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
        "rpl_semi_sync_source_timeout": "4294967295",
        "rpl_semi_sync_source_wait_no_replica": "ON",
    }
    assert needed.items() <= settings(version).items()


def test_names_that_a_version_does_not_know_or_need_are_left_out() -> None:
    assert "replica_parallel_type" in settings((8, 0, 26))
    assert "replica_parallel_type" not in settings((8, 0, 27))
    assert "binlog_transaction_dependency_tracking" in settings((8, 0, 42))
    assert "binlog_transaction_dependency_tracking" not in settings((8, 4, 0))


def test_identity() -> None:
    found = settings()
    assert (found["server_id"], found["report_host"], found["report_port"], found["admin_port"]) == (
        "7",
        "192.0.2.7",
        "3306",
        "33062",
    )


def test_the_option_file_gives_reasons_and_takes_overrides() -> None:
    text = render([Setting("sync_binlog", "1", "durable"), Setting("port", "1", "")], {"port": "2", "extra": "x"})
    assert text == "[mysqld]\n# durable\nsync_binlog = 1\nport = 2\nextra = x\n"
