"""CLONE: a server rebuilt from another one."""

from __future__ import annotations

import dataclasses

import pytest

from raftctl.errors import MySQLError
from raftctl.mysql.clone import AfterClone, clone_from, clone_progress
from raftctl.mysql.observe import observe
from raftctl.secret import Secret
from tests.support.mysql_members import DEADLINE_S, Writers, follow, start_members, values
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


def test_a_rebuilt_server_has_everything_and_replicates(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    db1, db2 = start_members(mysqld_factory, "db1", "db2")
    for value in range(5):
        writers.write(db1, value).result()
    with db2.root() as root:  # an errant transaction, which a rebuild removes
        root.execute("SET GLOBAL super_read_only = OFF")
        root.execute("CREATE DATABASE errant")
        root.execute("SET GLOBAL super_read_only = ON")
    with db2.admin() as recipient:
        assert clone_progress(recipient) is None
        assert clone_from(recipient, db1.as_source_of(db2), timeout=DEADLINE_S) is AfterClone.RESTARTS
    assert db2.server.wait_exit() == 16
    db2.server.start()
    with db2.admin() as recipient, db1.admin() as donor:
        after = observe(recipient)
        assert after.super_read_only
        assert not after.offline_mode
        assert after.server_uuid != observe(donor).server_uuid
        assert after.gtid_executed <= observe(donor).gtid_executed
        progress = clone_progress(recipient)
        assert progress is not None
        assert (progress.state, progress.error) == ("Completed", "")
        assert progress.bytes_done > 0
    writers.write(db1, 5).result()
    follow(db2, db1)
    wait_until(lambda: values(db2) == [0, 1, 2, 3, 4, 5], what="db2 to catch up")


def test_a_refused_clone_changes_nothing(mysqld_factory: MySQLFactory) -> None:
    donor, recipient = start_members(mysqld_factory, "db1", "db2")
    with recipient.admin() as conn:
        source = donor.as_source_of(recipient)
        wrong_password = dataclasses.replace(source, password=Secret("wrong-password"))
        with pytest.raises(MySQLError) as error:
            clone_from(conn, wrong_password, timeout=DEADLINE_S)
        assert "wrong-password" not in str(error.value)
        after = observe(conn)
        assert after.super_read_only
        assert not after.offline_mode
        assert after.channel is not None
