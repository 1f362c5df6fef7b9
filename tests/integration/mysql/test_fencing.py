"""The rungs of the fencing ladder against servers with waiting commits (rule R8)."""

from __future__ import annotations

import pytest

from raftctl.mysql.errors import (
    ConnectionLost,
    LockWaitTimeout,
    NotVerified,
    OfflineMode,
    ReadOnly,
    StatementTimeout,
)
from raftctl.mysql.fencing import allow_writes, end_client_sessions, prove_quiet, set_offline, set_super_read_only
from raftctl.mysql.observe import observe
from raftctl.mysql.semisync import waiting_sessions
from tests.support.mysql_members import (
    DEADLINE_S,
    Writers,
    follow,
    start_members,
    values,
    wait_for_stuck_account_statement,
)
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


def test_waiting_clients_get_an_error_and_never_an_ok(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)
    with db1.admin() as conn:
        commits = [writers.write(db1, value) for value in range(3)]
        wait_until(lambda: observe(conn).gtid_owned.count() == 3, what="three commits to wait")
        assert not set_super_read_only(conn, timeout=DEADLINE_S)
        assert not any(commit.done() for commit in commits)

        set_offline(conn, timeout=DEADLINE_S)

        for commit in commits:
            assert isinstance(commit.exception(timeout=DEADLINE_S), ConnectionLost)
        with pytest.raises(OfflineMode):
            db1.app()
        assert waiting_sessions(conn) == 1, "without its client it waits on"
        with db1.admin() as another:
            assert not observe(another).writable
    db1.server.kill()


def test_killed_clients_get_an_error_too(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)
    with db1.admin() as conn, db1.app() as idle:
        commit = writers.write(db1, 1)
        wait_until(lambda: waiting_sessions(conn) == 1, what="the commit to wait")
        assert end_client_sessions(conn, timeout=DEADLINE_S) >= 2
        assert isinstance(commit.exception(timeout=DEADLINE_S), ConnectionLost)
        with pytest.raises(ConnectionLost):
            idle.query("SELECT 1")
        wait_until(lambda: end_client_sessions(conn, timeout=DEADLINE_S) == 1, what="the waiting one to be left")


def test_a_replica_is_no_client(mysqld_factory: MySQLFactory) -> None:
    db1, _ = start_members(mysqld_factory, "db1", "db2")
    with db1.admin() as conn:
        wait_until(lambda: end_client_sessions(conn, timeout=DEADLINE_S) == 0, what="no client to be left")
        wait_until(lambda: observe(conn).receivers == ("raftctl_repl_db2",), what="the replica to be served")


def test_super_read_only_waits_for_a_statement_and_lets_nothing_begin(mysqld_factory: MySQLFactory) -> None:
    (db1,) = start_members(mysqld_factory, "db1")
    with db1.admin() as conn, db1.app() as app:
        app.execute("BEGIN")
        app.execute("INSERT INTO t.t (v) VALUES (1)")
        assert set_super_read_only(conn, timeout=DEADLINE_S), "an idle open transaction does not hinder"
        with pytest.raises(ReadOnly):
            app.execute("COMMIT")
        allow_writes(conn, timeout=DEADLINE_S)
        assert observe(conn).writable
        app.execute("INSERT INTO t.t (v) VALUES (2)")
    assert values(db1) == [2]


def test_read_only_is_no_proof_while_it_is_still_coming_into_force(
    mysqld_factory: MySQLFactory, writers: Writers
) -> None:
    """`super_read_only` reads ON while the statement that sets it waits for commits under way; those still land."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    with db1.admin() as conn:
        with pytest.raises(NotVerified):
            prove_quiet(conn, timeout=DEADLINE_S)
        db2.server.freeze()
        commit = writers.write(db1, 1)
        wait_until(lambda: waiting_sessions(conn) == 1, what="the commit to wait")
        read_only = writers.execute(db1.admin(), "SET GLOBAL super_read_only = ON")
        wait_until(lambda: conn.scalar("SELECT @@GLOBAL.super_read_only") == 1, what="the variable to read ON")
        with pytest.raises(LockWaitTimeout):
            prove_quiet(conn, timeout=DEADLINE_S)
        assert not read_only.done()
        db2.server.thaw()
        assert commit.result(timeout=DEADLINE_S) == 1
        read_only.result(timeout=DEADLINE_S)
        prove_quiet(conn, timeout=DEADLINE_S)
    assert values(db1) == [1]


def test_a_waiting_account_statement_makes_the_server_unresponsive(
    mysqld_factory: MySQLFactory, writers: Writers
) -> None:
    """It holds the lock of the privilege tables: only SIGKILL ends that, so every call must end by its deadline."""
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)
    with db1.admin() as conn, db1.admin() as monitor, db1.admin() as probe:
        statement = writers.execute(db1.root(), "CREATE USER hang IDENTIFIED BY 'x'")
        wait_for_stuck_account_statement(probe)
        with pytest.raises(StatementTimeout):
            observe(monitor, timeout=0.3)
        with pytest.raises(StatementTimeout):
            set_offline(conn, timeout=0.3)
        db1.server.kill()
        assert isinstance(statement.exception(timeout=DEADLINE_S), ConnectionLost)


def test_a_commit_that_waits_on_without_its_client_lands_when_a_replica_connects(
    mysqld_factory: MySQLFactory, writers: Writers
) -> None:
    """Why offline_mode alone is no proof: the transaction was not acknowledged to anybody, and appears all the same."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    with db2.admin() as replica:
        replica.execute("STOP REPLICA IO_THREAD")
    with db1.admin() as conn:
        wait_until(lambda: observe(conn).semi_sync.clients == 0, what="the source to notice")
        commit = writers.write(db1, 1)
        wait_until(lambda: waiting_sessions(conn) == 1, what="the commit to wait")
        set_offline(conn, timeout=DEADLINE_S)
        assert isinstance(commit.exception(timeout=DEADLINE_S), ConnectionLost)
        conn.execute("SET GLOBAL offline_mode = OFF")
        follow(db2, db1)
        wait_until(lambda: values(db1) == [1], what="the commit to land")
