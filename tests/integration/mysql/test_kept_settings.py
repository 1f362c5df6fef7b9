"""Settings that acknowledged writes rest on, changed under raftctl's hands on a real server."""

from __future__ import annotations

import pytest

from raftctl.mysql.kept_settings import IN_FORCE, NEVER_PERSISTED, restore
from raftctl.mysql.observe import observe
from tests.support.mysql_members import DEADLINE_S, MySQLMember

pytestmark = pytest.mark.mysql

OTHERWISE = {
    "sync_binlog": "0",
    "innodb_flush_log_at_trx_commit": "2",
    "rpl_semi_sync_source_timeout": "1000",
    "rpl_semi_sync_source_wait_point": "AFTER_COMMIT",
    "rpl_semi_sync_source_wait_no_replica": "OFF",
}


def test_nothing_is_found_on_a_server_that_is_as_it_should_be(standing: MySQLMember) -> None:
    with standing.admin() as admin:
        seen = observe(admin)
    assert (seen.changed_settings, seen.persisted_settings) == ((), ())


@pytest.mark.parametrize("name", IN_FORCE)
def test_what_somebody_changed_is_found_and_put_back(standing: MySQLMember, name: str) -> None:
    with standing.root() as root, standing.admin() as admin:
        root.execute(f"SET GLOBAL {name} = {OTHERWISE[name]}")
        found = observe(admin).changed_settings
        assert [setting.partition(" ")[0] for setting in found] == [name]
        restore(admin, [name], [], timeout=DEADLINE_S)
        assert observe(admin).changed_settings == ()


def test_what_somebody_persisted_is_found_and_forgotten(standing: MySQLMember) -> None:
    before = {}
    with standing.root() as root, standing.admin() as admin:
        for name in NEVER_PERSISTED:
            if name != "skip_slave_start":
                before[name] = root.scalar(f"SELECT @@GLOBAL.{name}")
                root.execute(f"SET PERSIST_ONLY {name} = {before[name]}")
        root.execute("SET PERSIST_ONLY max_connections = 400")
        try:
            assert set(NEVER_PERSISTED) - {"skip_slave_start"} <= set(observe(admin).persisted_settings)
            restore(admin, [], observe(admin).persisted_settings, timeout=DEADLINE_S)
            assert observe(admin).persisted_settings == ()
            left = root.query("SELECT VARIABLE_NAME AS name FROM performance_schema.persisted_variables")
            assert [row["name"] for row in left] == ["max_connections"], "what is nobody's business but the DBA's stays"
        finally:
            root.execute("RESET PERSIST")
        assert {name: root.scalar(f"SELECT @@GLOBAL.{name}") for name in before} == before
