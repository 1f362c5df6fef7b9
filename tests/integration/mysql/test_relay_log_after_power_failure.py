"""What a power failure leaves of a relay log that was not synced: the rest is received again, without a person."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftctl.mysql.observe import observe
from raftctl.mysql.replication import start_applier, start_receiver
from tests.support.mysql_members import DEADLINE_S, MySQLMember, Writers, executed, start_members, values
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql

ROWS = list(range(20))
LOST_BYTES = 2000  # several transactions, the cut is in the middle of one


def lose_the_end(member: MySQLMember, relay_log: Path, *, zeros: bool) -> None:
    """The file's end never reached the disk; with `zeros` its new size did."""
    member.server.kill()
    size = relay_log.stat().st_size
    os.truncate(relay_log, size - LOST_BYTES)
    if zeros:
        os.truncate(relay_log, size)
    member.server.start()


@pytest.mark.parametrize("zeros", [False, True], ids=["shorter", "zeros"])
def test_the_rest_is_received_again(mysqld_factory: MySQLFactory, writers: Writers, zeros: bool) -> None:
    db1, db2 = start_members(mysqld_factory, "db1", "db2")
    with db1.admin() as primary, db2.admin() as replica:
        replica.execute("STOP REPLICA SQL_THREAD")
        for value in ROWS:
            writers.write(db1, value).result(timeout=DEADLINE_S)
        wait_until(lambda: observe(primary).gtid_executed <= observe(replica).holds, what="db2 to receive everything")
        index = Path(replica.scalar("SELECT @@GLOBAL.relay_log_index"))
    newest = index.read_text().splitlines()[-1]
    lose_the_end(db2, db2.server.datadir / newest, zeros=zeros)
    with db2.admin() as replica:
        left = observe(replica).gtid_received
        assert left, "what reached the disk is still known"
        start_receiver(replica, timeout=DEADLINE_S)
        start_applier(replica, timeout=DEADLINE_S)
    wait_until(lambda: executed(db2) == executed(db1), what="db2 to have everything", timeout=DEADLINE_S)
    assert values(db2) == ROWS
