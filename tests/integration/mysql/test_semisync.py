"""Who waits for whose acknowledgement."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from raftctl.mysql.fencing import set_super_read_only
from raftctl.mysql.observe import observe
from raftctl.mysql.replication import start_receiver, stop_receiver, wait_receiving
from raftctl.mysql.semisync import (
    become_replica,
    become_source,
    nudge,
    set_required_acks,
    source_off_if_idle,
    stop_waiting,
    waiting_sessions,
    waits_for,
)
from tests.support.mysql_members import DEADLINE_S, MySQLMember, Writers, start_members
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


def wait_for_waiting(member: MySQLMember, commit: Future[int]) -> None:
    with member.admin() as admin:
        wait_until(lambda: waiting_sessions(admin) == 1, what="the commit to wait")
    assert not commit.done()


def disconnect(source: MySQLMember, *replicas: MySQLMember) -> None:
    for replica in replicas:
        with replica.admin() as admin:
            stop_receiver(admin, spare=[], timeout=DEADLINE_S)
    with source.admin() as admin:
        wait_until(lambda: observe(admin).semi_sync.clients == 0, what="the source to notice")


def connect_again(replica: MySQLMember) -> None:
    with replica.admin() as admin:
        start_receiver(admin, timeout=DEADLINE_S)
        assert wait_receiving(admin, timeout=DEADLINE_S)


def test_the_required_number_holds_at_once_for_waiting_commits(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    db1, db2, db3 = start_members(mysqld_factory, "db1", "db2", "db3", required_acks=1)
    disconnect(db1, db2, db3)
    with db1.admin() as primary:
        commit = writers.write(db1, 1)
        wait_for_waiting(db1, commit)
        set_required_acks(primary, 2, timeout=DEADLINE_S)
        connect_again(db2)
        with db2.admin() as admin:
            wait_until(lambda: observe(primary).gtid_owned <= observe(admin).gtid_received, what="db2 to receive it")
        wait_for_waiting(db1, commit)
        connect_again(db3)
        assert commit.result(timeout=DEADLINE_S) == 1

        disconnect(db1, db3, db2)
        connect_again(db2)
        commit = writers.write(db1, 2)
        wait_for_waiting(db1, commit)
        set_required_acks(primary, 1, timeout=DEADLINE_S)
        assert commit.result(timeout=DEADLINE_S) == 1


def test_only_an_acknowledging_replica_counts(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """And what it received before it began to acknowledge needs a nudge, in a switchover too: it keeps the server from
    becoming read-only, and then leaves it writable."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    with db1.admin() as primary, db2.admin() as replica:
        become_replica(replica, acknowledging=False, timeout=DEADLINE_S)
        assert wait_receiving(replica, timeout=DEADLINE_S)
        assert not observe(replica).semi_sync.replica_status
        commit = writers.write(db1, 1)
        wait_for_waiting(db1, commit)
        wait_until(lambda: observe(primary).gtid_owned <= observe(replica).gtid_received, what="db2 to receive it")

        become_replica(replica, acknowledging=True, timeout=DEADLINE_S)
        wait_until(lambda: observe(replica).semi_sync.replica_status, what="the replica to acknowledge")
        wait_until(lambda: observe(primary).semi_sync.clients == 1, what="the primary to count on it")
        wait_for_waiting(db1, commit)
        assert not set_super_read_only(primary, timeout=DEADLINE_S)
        assert observe(primary).writable
        nudge(primary, timeout=DEADLINE_S)
        assert commit.result(timeout=DEADLINE_S) == 1
        assert set_super_read_only(primary, timeout=DEADLINE_S)


def test_what_is_acknowledged_is_on_disk(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """Every event is synced, also right after a time in which none was; what was received before is synced then."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    with db2.admin() as replica:
        assert observe(replica).relay_log_synced
        become_replica(replica, acknowledging=False, timeout=DEADLINE_S)
        assert not observe(replica).relay_log_synced
        become_replica(replica, acknowledging=True, timeout=DEADLINE_S)
        assert observe(replica).relay_log_synced
        assert wait_receiving(replica, timeout=DEADLINE_S)
        replica.execute("SET GLOBAL sync_relay_log = 10000")  # somebody else's doing
        connected = replica.scalar("SELECT THREAD_ID FROM performance_schema.replication_connection_status")
        become_replica(replica, acknowledging=True, timeout=DEADLINE_S)
        assert observe(replica).relay_log_synced
        assert wait_receiving(replica, timeout=DEADLINE_S)
        again = replica.scalar("SELECT THREAD_ID FROM performance_schema.replication_connection_status")
        assert again != connected, "acknowledged by a receiver that began before the sync"
    assert writers.write(db1, 1).result(timeout=DEADLINE_S) == 1


def test_the_source_flag_stays_on_while_a_commit_can_wait(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """Rule R8: turning it off acknowledges waiting commits falsely."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    with db1.admin() as primary:
        assert not source_off_if_idle(primary, timeout=DEADLINE_S), "a commit could begin"
        disconnect(db1, db2)
        commit = writers.write(db1, 1)
        wait_for_waiting(db1, commit)
        assert not set_super_read_only(primary, timeout=DEADLINE_S), "a commit is under way"
        assert not source_off_if_idle(primary, timeout=DEADLINE_S)
        assert not commit.done()

        connect_again(db2)
        assert commit.result(timeout=DEADLINE_S) == 1
        assert set_super_read_only(primary, timeout=DEADLINE_S)
        assert source_off_if_idle(primary, timeout=DEADLINE_S)
        assert not observe(primary).semi_sync.source_enabled
        assert source_off_if_idle(primary, timeout=DEADLINE_S)


def test_become_source_overrides_settings_that_would_lose_writes(mysqld_factory: MySQLFactory) -> None:
    member = MySQLMember("db1", mysqld_factory("db1"))
    with member.root() as root:
        root.execute("SET GLOBAL rpl_semi_sync_source_timeout = 1000")
        root.execute("SET GLOBAL rpl_semi_sync_source_wait_no_replica = OFF")
        root.execute("SET GLOBAL rpl_semi_sync_source_wait_point = AFTER_COMMIT")
        become_source(root, 2, timeout=DEADLINE_S)
        assert observe(root).semi_sync.source_status
        assert observe(root).semi_sync.required_acks == 2


def test_a_source_that_fell_back_waits_again(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """Somebody shortened the timeout, and it was over once: only its status says that commits wait for nobody."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    with db1.admin() as primary, db1.root() as root:
        disconnect(db1, db2)
        root.execute("SET GLOBAL rpl_semi_sync_source_timeout = 10")
        assert writers.write(db1, 1).result(timeout=DEADLINE_S) == 1, "acknowledged by nobody"
        seen = observe(primary).semi_sync
        assert (seen.source_enabled, seen.required_acks, seen.waits_for) == (True, 1, 0)
        assert waits_for(primary, timeout=DEADLINE_S) == 0
        become_source(primary, 1, timeout=DEADLINE_S)
        assert observe(primary).semi_sync.waits_for == waits_for(primary, timeout=DEADLINE_S) == 1
        wait_for_waiting(db1, writers.write(db1, 2))


def test_waiting_can_be_ended_and_begun_under_writes(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """With k = 0 what waits is let go; a replica that was connected all the time acknowledges again afterwards."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    with db1.admin() as primary:
        disconnect(db1, db2)
        commit = writers.write(db1, 1)
        wait_for_waiting(db1, commit)
        stop_waiting(primary, timeout=DEADLINE_S)
        assert commit.result(timeout=DEADLINE_S) == 1
        assert waits_for(primary, timeout=DEADLINE_S) == 0
        assert writers.write(db1, 2).result(timeout=DEADLINE_S) == 1

        connect_again(db2)
        with db2.admin() as replica:
            wait_until(lambda: observe(replica).semi_sync.replica_status, what="the replica to be ready to acknowledge")
        become_source(primary, 1, timeout=DEADLINE_S)
        assert waits_for(primary, timeout=DEADLINE_S) == 1
        assert writers.write(db1, 3).result(timeout=DEADLINE_S) == 1
        disconnect(db1, db2)
        wait_for_waiting(db1, writers.write(db1, 4))
