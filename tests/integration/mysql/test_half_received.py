"""A source that dies in the middle of sending a transaction leaves its beginning at the replicas, whose appliers have
begun it. That must hold nobody up, and nobody may take it for received."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.mysql.clone import AfterClone, clone_from
from raftctl.mysql.observe import observe
from raftctl.mysql.replication import (
    end_applier,
    forget_source,
    point_to,
    receiver_state,
    start_applier,
    start_receiver,
    stop_receiver,
    stop_replica,
    wait_applied,
    wait_receiving,
)
from tests.support.cut_connection import CutConnection
from tests.support.mysql_members import DEADLINE_S, MySQLMember, executed, start_members
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.slow]

# A transaction of 10 MB, of which each replica receives the first 3 MB.
INSERT = "INSERT INTO t.big (text) SELECT REPEAT('x', 100000) FROM information_schema.columns LIMIT 100"
RECEIVED_BYTES = 3_000_000

# Not information_schema.innodb_trx: it shows a copy that MySQL renews only after a tenth of a second without readers;
# who looks more often than that sees the first answer for ever.
LOCKS = "SELECT COUNT(*) FROM performance_schema.data_locks WHERE OBJECT_SCHEMA = 't' AND OBJECT_NAME = 'big'"


@contextlib.contextmanager
def receiving_through(connection: CutConnection, replica: MySQLMember, source: MySQLMember) -> Iterator[None]:
    """The replica's connection to its source is cut in the middle of the transaction that is written meanwhile."""
    with replica.admin() as admin:
        point_to(admin, replace(source.as_source_of(replica), port=connection.port), timeout=20.0)
        start_receiver(admin, timeout=DEADLINE_S)
        assert wait_receiving(admin, timeout=DEADLINE_S)
        connection.cut_after(RECEIVED_BYTES)
        yield
        wait_until(lambda: receiver_state(admin) == "CONNECTING", what="it has read all that came")
        stop_receiver(admin, spare=(), timeout=DEADLINE_S)
    wait_until(lambda: has_begun(replica), what="its applier has begun it")


def replicas_of_a_big_table(make: MySQLFactory) -> tuple[MySQLMember, MySQLMember, MySQLMember]:
    source, first, second = start_members(make, "db1", "db2", "db3")
    with source.root() as root:
        root.execute("CREATE TABLE t.big (id INT PRIMARY KEY AUTO_INCREMENT, text LONGTEXT)")
    catch_up(source, first, second)
    return source, first, second


def catch_up(source: MySQLMember, *replicas: MySQLMember) -> None:
    everything = GTIDSet.parse(executed(source))
    for replica in replicas:
        with replica.admin() as admin:
            assert wait_applied(admin, everything, timeout=DEADLINE_S)


def write(source: MySQLMember) -> None:
    with source.root() as root:
        root.execute(INSERT, timeout=DEADLINE_S)


def half_received(make: MySQLFactory) -> tuple[MySQLMember, MySQLMember]:
    """Two replicas whose source died while they received a transaction; the appliers of both have begun it."""
    source, first, second = replicas_of_a_big_table(make)
    everything = GTIDSet.parse(executed(source))
    with contextlib.ExitStack() as connections:
        for replica in (first, second):
            connection = connections.enter_context(contextlib.closing(CutConnection(source.server.port)))
            connections.enter_context(receiving_through(connection, replica, source))
        write(source)
    source.server.kill()
    for replica in (first, second):
        with replica.admin() as admin:
            assert observe(admin).holds == everything
    return first, second


def repoint(replica: MySQLMember, source: MySQLMember) -> None:
    with replica.admin() as admin:
        point_to(admin, source.as_source_of(replica), timeout=20.0)
        start_receiver(admin, timeout=DEADLINE_S)
        assert wait_receiving(admin, timeout=DEADLINE_S)


def checksum(member: MySQLMember) -> int:
    with member.root() as root:
        return int(root.query("CHECKSUM TABLE t.big")[0]["Checksum"])


def has_begun(member: MySQLMember) -> bool:
    with member.root() as root:
        return root.scalar(LOCKS) > 0


def test_a_promoted_server_lets_go_of_it_at_once(mysqld_factory: MySQLFactory) -> None:
    """STOP REPLICA alone waits a minute for the rest, with the rows locked, and so did every client that needs them."""
    promoted, _ = half_received(mysqld_factory)
    with promoted.admin() as admin:
        forget_source(admin, timeout=20.0)
        assert observe(admin).channel is None
    assert not has_begun(promoted)


def test_its_applier_ends_at_once_however_often(mysqld_factory: MySQLFactory) -> None:
    """STOP REPLICA waits a minute also for an applier that was killed just before and has not noticed."""
    replica, _ = half_received(mysqld_factory)
    with replica.admin() as admin:
        for _ in range(50):
            start_applier(admin, timeout=DEADLINE_S)
            wait_until(lambda: has_begun(replica), what="its applier has begun it")
            end_applier(admin, timeout=20.0)
            assert not has_begun(replica)
            stop_replica(admin, timeout=20.0)


def test_it_is_owned_by_the_applier_and_held_by_nobody(mysqld_factory: MySQLFactory) -> None:
    replica, _ = half_received(mysqld_factory)
    with replica.admin() as admin:
        seen = observe(admin)
    assert not seen.gtid_owned <= seen.holds
    assert not seen.gtid_owned.restrict(seen.server_uuid)


def test_a_replica_drops_it_when_its_next_source_does_not_have_it(mysqld_factory: MySQLFactory) -> None:
    promoted, replica = half_received(mysqld_factory)
    with promoted.admin() as admin:
        forget_source(admin, timeout=20.0)
    repoint(replica, promoted)
    wait_until(lambda: not has_begun(replica), what="its applier has rolled it back")


def test_a_channel_with_options_of_its_own_is_repointed_at_once(mysqld_factory: MySQLFactory) -> None:
    promoted, replica = half_received(mysqld_factory)
    with promoted.admin() as admin:
        forget_source(admin, timeout=20.0)
    with replica.root() as root:
        root.execute("STOP REPLICA IO_THREAD")
        root.execute("CHANGE REPLICATION SOURCE TO SOURCE_CONNECT_RETRY = 7")
    repoint(replica, promoted)
    with replica.admin() as admin:
        start_applier(admin, timeout=DEADLINE_S)
    assert not has_begun(replica)


def test_a_replica_applies_it_anew_when_its_next_source_has_it(mysqld_factory: MySQLFactory) -> None:
    source, promoted, replica = replicas_of_a_big_table(mysqld_factory)
    with (
        contextlib.closing(CutConnection(source.server.port)) as connection,
        receiving_through(connection, replica, source),
    ):
        write(source)
    catch_up(source, promoted)
    source.server.kill()
    with promoted.admin() as admin:
        forget_source(admin, timeout=20.0)
    repoint(replica, promoted)
    catch_up(promoted, replica)
    assert len({checksum(server) for server in (promoted, replica)}) == 1


def test_changing_the_source_keeps_our_options_and_a_running_applier(mysqld_factory: MySQLFactory) -> None:
    """The second and every further change, too."""
    db1, db2, db3 = start_members(mysqld_factory, "db1", "db2", "db3")
    query = "SELECT HEARTBEAT_INTERVAL FROM performance_schema.replication_connection_configuration"
    applier = "SELECT THREAD_ID FROM performance_schema.replication_applier_status_by_coordinator"
    with db3.admin() as admin:
        assert wait_applied(admin, GTIDSet.parse(executed(db1)), timeout=DEADLINE_S)
        before = admin.scalar(applier)
        for source in (db2, db1, db2):
            point_to(admin, source.as_source_of(db3), timeout=DEADLINE_S)
            start_receiver(admin, timeout=DEADLINE_S)
            assert wait_receiving(admin, timeout=DEADLINE_S)
            assert admin.scalar(query) == 1
        assert admin.scalar(applier) == before


def test_a_rebuild_does_not_wait_for_the_rest(mysqld_factory: MySQLFactory) -> None:
    """CLONE stops replication itself before it drops the data, and waits for the rest for as long as it takes."""
    source, _, replica = replicas_of_a_big_table(mysqld_factory)
    with (
        contextlib.closing(CutConnection(source.server.port)) as connection,
        receiving_through(connection, replica, source),
    ):
        write(source)
    with replica.admin() as admin:
        assert clone_from(admin, source.as_source_of(replica), timeout=DEADLINE_S) is AfterClone.RESTARTS
    assert replica.server.wait_exit() == 16
    replica.server.start()
    assert checksum(replica) == checksum(source)
