"""A replica that is killed while it removes its relay logs names files in its index that are not there any more, and
MySQL then does not start replication (errors 1871 and 1872)."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.errors import MySQLError
from raftctl.mysql.replication import point_to, start_applier, start_receiver, stop_receiver
from tests.support.mysql_members import DEADLINE_S, Writers, executed, start_members, values
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


def test_the_replica_is_pointed_to_its_source_again(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    db1, db2 = start_members(mysqld_factory, "db1", "db2")
    for value in range(5):
        writers.write(db1, value).result(timeout=DEADLINE_S)
    wait_until(lambda: executed(db2) == executed(db1), what="db2 to have everything", timeout=DEADLINE_S)
    with db2.admin() as replica:
        index = Path(replica.scalar("SELECT @@GLOBAL.relay_log_index"))
    db2.server.kill()
    for name in index.read_text().split():
        (db2.server.datadir / name).unlink()
    db2.server.start()
    with db2.admin() as replica:
        with pytest.raises(MySQLError, match="is gone"):  # rule R3: it cannot promise to hold what it acknowledged
            stop_receiver(replica, spare=(), timeout=20.0)
        point_to(replica, db1.as_source_of(db2), timeout=20.0)
        start_receiver(replica, timeout=DEADLINE_S)
        start_applier(replica, timeout=DEADLINE_S)
    writers.write(db1, 99).result(timeout=DEADLINE_S)
    wait_until(lambda: executed(db2) == executed(db1), what="db2 to have everything", timeout=DEADLINE_S)
    assert values(db2)[-1] == 99
