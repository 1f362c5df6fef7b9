"""What `observe` says about a primary, its replicas, waiting commits, and an applier that stopped."""

from __future__ import annotations

import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import Channel, MySQLObservation, ReceiverState
from raftctl.mysql.observe import observe
from tests.support.mysql_members import MySQLMember, Writers, start_members
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


def seen(member: MySQLMember) -> MySQLObservation:
    with member.admin() as admin:
        return observe(admin)


def channel(member: MySQLMember) -> Channel:
    found = seen(member).channel
    assert found is not None, "no source is configured"
    return found


def test_a_fresh_server_is_read_only_and_follows_nobody(mysqld_factory: MySQLFactory) -> None:
    member = MySQLMember("db1", mysqld_factory("db1"))
    with member.root() as root:
        observation = observe(root)
        root.execute("SET GLOBAL super_read_only = OFF")
        root.execute("UNINSTALL PLUGIN rpl_semi_sync_source")
        root.execute("UNINSTALL PLUGIN rpl_semi_sync_replica")
        without_plugins = observe(root)
    assert not observation.writable
    assert observation.super_read_only
    assert observation.channel is None
    assert observation.receivers == ()
    assert not observation.gtid_executed
    assert observation.version.count(".") == 2
    assert not observation.semi_sync.replica_enabled
    assert not without_plugins.semi_sync.replica_enabled
    assert not without_plugins.semi_sync.source_enabled


def test_a_primary_and_its_replica(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    writers.write(db1, 7).result()
    wait_until(lambda: seen(db2).gtid_executed == seen(db1).gtid_executed, what="db2 to apply everything")

    primary, replica = seen(db1), seen(db2)
    assert primary.writable
    assert primary.channel is None
    assert primary.receivers == ("raftctl_repl_db2",)
    assert not primary.gtid_owned
    assert primary.gtid_executed.uuids() == (primary.server_uuid,)
    assert (primary.semi_sync.source_status, primary.semi_sync.required_acks) == (True, 1)
    assert primary.semi_sync.clients == 1

    assert replica.super_read_only
    assert replica.gtid_received == primary.gtid_executed == replica.holds
    assert replica.semi_sync.replica_status
    assert not replica.semi_sync.source_enabled
    source = channel(db2)
    assert (source.source_host, source.source_port) == (db1.server.address, db1.server.port)
    assert (source.source_user, source.source_uuid) == ("raftctl_repl_db2", primary.server_uuid)
    assert source.receiver is ReceiverState.ON
    assert source.applier_running
    assert source.apply_lag_seconds == 0.0


def test_waiting_commits_are_owned_and_not_executed(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """Rule R6: whatever is in the binary log, acknowledged or not, must be seen."""
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)
    before = seen(db1)
    for value in range(3):
        writers.write(db1, value)

    def three_commits_wait() -> MySQLObservation | None:
        now = seen(db1)  # one session waits, the others queue behind it
        return now if now.gtid_owned.count() == 3 and now.semi_sync.wait_sessions == 1 else None

    waiting = wait_until(three_commits_wait, what="three commits to wait")
    assert waiting.gtid_executed == before.gtid_executed
    uuid, last = waiting.server_uuid, before.gtid_executed.count()
    assert waiting.gtid_owned == GTIDSet.parse(f"{uuid}:{last + 1}-{last + 3}")


def test_lag_and_the_error_of_a_stopped_applier(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    db1, db2 = start_members(mysqld_factory, "db1", "db2")
    with db2.root() as root, db2.root() as blocked:
        root.execute("SET GLOBAL read_only = OFF")
        root.execute("SET SESSION sql_log_bin = 0")
        writers.write(db1, 1).result()
        wait_until(lambda: seen(db2).gtid_executed == seen(db1).gtid_executed, what="db2 to apply everything")
        blocked.execute("LOCK TABLES t.t WRITE")
        writers.write(db1, 2).result()
        wait_until(lambda: (channel(db2).apply_lag_seconds or 0) > 0, what="a lag above zero")
        assert seen(db2).gtid_received > seen(db2).gtid_executed
        blocked.execute("UNLOCK TABLES")
        wait_until(lambda: channel(db2).apply_lag_seconds == 0.0, what="no lag")

        root.execute("DELETE FROM t.t")
        with db1.root() as primary_root:
            primary_root.execute("UPDATE t.t SET v = 3")
        wait_until(lambda: not channel(db2).applier_running, what="the applier to stop")
        stopped = channel(db2)
        assert stopped.apply_lag_seconds is None
        assert stopped.applier_error_code == 1032  # ER_KEY_NOT_FOUND
        assert "t.t" in stopped.applier_error
