"""Receiving, applying and repointing: proofs (rule R3) and refusals (rule R5)."""

from __future__ import annotations

import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection
from raftctl.mysql.errors import NotApplied, StatementTimeout
from raftctl.mysql.observe import observe
from raftctl.mysql.replication import (
    applier_state,
    forget_source,
    point_to,
    receiver_state,
    start_applier,
    start_receiver,
    stop_receiver,
    stop_replica,
    unapplied,
    wait_applied,
    wait_receiving,
)
from tests.support.mysql_members import DEADLINE_S, MySQLMember, Writers, follow, start_members, values
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


def executed(member: MySQLMember) -> GTIDSet:
    with member.admin() as admin:
        return observe(admin).gtid_executed


def catch_up(replica: Connection, source: MySQLMember) -> None:
    assert wait_applied(replica, executed(source), timeout=DEADLINE_S)


def test_stop_receiver_outlasts_a_start_that_was_sent_before(mysqld_factory: MySQLFactory) -> None:
    """A controller gave up on a START REPLICA while mysqld was frozen: it must not take effect after the proof."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2")
    with db2.admin() as abandoned, db2.admin() as monitor, db2.admin() as conn:
        stop_replica(conn, timeout=DEADLINE_S)
        db2.server.freeze()
        with pytest.raises(StatementTimeout):
            abandoned.execute("START REPLICA IO_THREAD", timeout=0.05)
        db2.server.thaw()

        stop_receiver(conn, spare=[monitor.thread_id], timeout=DEADLINE_S)

        sessions = conn.query("SELECT ID AS id FROM performance_schema.processlist WHERE USER = 'raftctl'")
        assert {row["id"] for row in sessions} == {conn.thread_id, monitor.thread_id}
        assert receiver_state(monitor) == "OFF"
        promised = observe(conn).holds
        with db1.app() as app:
            app.execute("INSERT INTO t.t (v) VALUES (1)")
        assert observe(monitor).holds == promised


def test_the_applier_goes_on_without_the_receiver(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    db1, db2 = start_members(mysqld_factory, "db1", "db2")
    with db2.admin() as conn:
        writers.write(db1, 1).result()
        stop_receiver(conn, spare=[], timeout=DEADLINE_S)
        stop_receiver(conn, spare=[], timeout=DEADLINE_S)
        assert applier_state(conn) == "ON"
        writers.write(db1, 2).result()
        assert not wait_applied(conn, executed(db1), timeout=0.1)
        start_receiver(conn, timeout=DEADLINE_S)
        assert wait_receiving(conn, timeout=DEADLINE_S)
        assert wait_applied(conn, executed(db1), timeout=DEADLINE_S)
    assert values(db2) == [1, 2]


def test_waiting_for_an_applier_that_stopped_says_why(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    db1, db2 = start_members(mysqld_factory, "db1", "db2")
    with db2.root() as root, db2.admin() as conn:
        catch_up(conn, db1)
        root.execute("SET GLOBAL super_read_only = OFF")
        root.execute("SET SESSION sql_log_bin = 0")
        root.execute("DROP TABLE t.t")
        writers.write(db1, 1).result()
        with pytest.raises(MySQLError, match=r"applier has stopped: .*t\.t"):
            wait_applied(conn, executed(db1), timeout=DEADLINE_S)


def test_nothing_received_is_thrown_away(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """Rule R5: neither a repoint nor forgetting the source happens before everything received is applied."""
    db1, db2, db3 = start_members(mysqld_factory, "db1", "db2", "db3")
    with db2.admin() as admin:
        catch_up(admin, db1)
    with db3.admin() as conn:
        catch_up(conn, db1)
        conn.execute("STOP REPLICA SQL_THREAD")
        writers.write(db1, 1).result()
        wait_until(lambda: unapplied(conn).count() == 1, what="db3 to receive the row")

        with pytest.raises(NotApplied, match="1 received transactions"):
            point_to(conn, db2.as_source_of(db3), timeout=DEADLINE_S)
        with pytest.raises(NotApplied):
            forget_source(conn, timeout=DEADLINE_S)
        assert unapplied(conn).count() == 1

        start_applier(conn, timeout=DEADLINE_S)
        catch_up(conn, db1)
        for source in (db2, db1, db2):
            point_to(conn, source.as_source_of(db3), timeout=DEADLINE_S)
            assert applier_state(conn) == "ON", "only the address changes, so the applier is left running"
        start_receiver(conn, timeout=DEADLINE_S)
        assert wait_receiving(conn, timeout=DEADLINE_S)
        channel = observe(conn).channel
        assert channel is not None
        assert (channel.source_port, channel.source_user) == (db2.server.port, "raftctl_repl_db3")
    assert values(db3) == [1]


def test_options_that_are_not_ours_are_replaced(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """An adopted replica may have been configured by hand, by file and position."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2")
    with db2.admin() as conn:
        catch_up(conn, db1)
        stop_replica(conn, timeout=DEADLINE_S)
        conn.execute("CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = 0, SOURCE_HEARTBEAT_PERIOD = 30")
    follow(db2, db1)
    with db2.admin() as conn:
        row = conn.query("SELECT * FROM performance_schema.replication_connection_configuration")[0]
        assert (row["AUTO_POSITION"], row["HEARTBEAT_INTERVAL"], row["SSL_ALLOWED"]) == ("1", 1.0, "YES")
        writers.write(db1, 1).result()
        catch_up(conn, db1)


def test_a_promoted_server_forgets_its_source(mysqld_factory: MySQLFactory) -> None:
    db1, db2 = start_members(mysqld_factory, "db1", "db2")
    with db2.admin() as conn:
        catch_up(conn, db1)
        forget_source(conn, timeout=DEADLINE_S)
        assert observe(conn).channel is None
        assert not observe(conn).gtid_received
        assert (receiver_state(conn), applier_state(conn)) == ("OFF", "OFF")
        with pytest.raises(MySQLError):
            start_receiver(conn, timeout=DEADLINE_S)
        forget_source(conn, timeout=DEADLINE_S)


def test_received_transactions_survive_a_crash(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """Rule R2: an acknowledgement must survive the acknowledger's restart."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    with db2.admin() as conn:
        catch_up(conn, db1)
        conn.execute("STOP REPLICA SQL_THREAD")
    writers.write(db1, 1).result()
    db2.server.restart()
    with db2.admin() as conn:
        after = observe(conn)
        assert executed(db1) <= after.holds
        assert not executed(db1) <= after.gtid_executed
        start_applier(conn, timeout=DEADLINE_S)
        catch_up(conn, db1)
    assert values(db2) == [1]
