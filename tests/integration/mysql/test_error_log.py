"""Damage that InnoDB reports is found in the error log, as long as it is this start's, whatever the clock said."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from raftctl.errors import MySQLError
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
        error_log = db1.server.datadir / admin.scalar("SELECT @@log_error")
    db1.server.kill(signal.SIGTERM)
    age_last_page(db1.server.datadir / "t" / "t.ibd")
    add_lines_of_a_start_in_the_future(error_log)
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


def add_lines_of_a_start_in_the_future(error_log: Path) -> None:
    """The clock was wrong then; that server's data were replaced."""
    with error_log.open("a") as lines:
        lines.write("2037-01-01T00:00:00.000000Z 0 [System] [MY-010116] [Server] mysqld starting as process 1\n")
        lines.write("2037-01-01T00:00:01.000000Z 0 [ERROR] [MY-012153] [InnoDB] Page 7 is corrupted\n")


def test_a_tablespace_that_cannot_be_imported_is_not_damage(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    (db1,) = start_members(mysqld_factory, "db1")
    writers.write(db1, 1).result()
    file = db1.server.datadir / "t" / "t.ibd"
    with db1.root() as root:
        root.execute("FLUSH TABLES t.t FOR EXPORT")
        exported = bytearray(file.read_bytes())
        root.execute("UNLOCK TABLES")
        exported[-5000:-4000] = b"x" * 1000
        exported[70000:71000] = b"x" * 1000
        root.execute("ALTER TABLE t.t DISCARD TABLESPACE")
        file.write_bytes(exported)
        with pytest.raises(MySQLError):
            root.execute("ALTER TABLE t.t IMPORT TABLESPACE")
    assert "corrupt" in db1.server.error_log
    with db1.admin() as admin:
        assert innodb_corruption(admin) == ""
