"""Damage that InnoDB reports is found in the error log, as long as it is this start's."""

from __future__ import annotations

import signal

import pytest

from raftctl.mysql.error_log import innodb_corruption
from tests.support.damage import age_last_page
from tests.support.mysql_members import Writers, start_members, values
from tests.support.mysqld import MySQLFactory

pytestmark = pytest.mark.mysql


def test_damage_is_found_once_somebody_reads_the_page(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    (db1,) = start_members(mysqld_factory, "db1")
    writers.write(db1, 1).result()
    with db1.admin() as admin:
        assert innodb_corruption(admin) == ""
    db1.server.kill(signal.SIGTERM)
    age_last_page(db1.server.datadir / "t" / "t.ibd")
    db1.server.start()
    assert values(db1) == [1]
    with db1.admin() as admin:
        found = innodb_corruption(admin)
    assert found.startswith("MY-011971: ")
    assert "in the future" in found
    with db1.root() as root:
        root.execute("SET GLOBAL super_read_only = OFF")
        root.execute("DROP TABLE t.t")
    db1.server.restart(signal.SIGTERM)
    with db1.admin() as admin:
        assert innodb_corruption(admin) == ""
