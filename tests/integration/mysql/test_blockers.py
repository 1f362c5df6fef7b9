"""A backup, or somebody's open transaction, on a server that is to take over: only what is in the way is ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.mysql.accounts import keep_accounts, lock_exactly, locked_out
from raftctl.mysql.blockers import end_queries, free_accounts, free_applier, free_writers
from raftctl.mysql.client import Connection
from raftctl.mysql.errors import LockWaitTimeout
from raftctl.mysql.fencing import prove_quiet, set_super_read_only
from raftctl.mysql.replication import forget_source, point_to, wait_applied
from tests.support.mysql_members import DEADLINE_S, PASSWORD, MySQLMember, Writers, executed, start_members
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql

NAMES = ("db1", "db2")


def lock_db1(conn: Connection) -> None:
    lock_exactly(conn, ("db1",), known=NAMES, timeout=3.0)


def keep_db3(conn: Connection) -> None:
    keep_accounts(conn, {"db3": PASSWORD}, of_bootstrap=dict.fromkeys(NAMES), timeout=3.0)


def impatient(member: MySQLMember) -> Connection:
    conn = member.admin()
    conn.timeout = 3.0
    return conn


def catch_up(replica: MySQLMember, source: MySQLMember) -> None:
    with replica.admin() as conn:
        assert wait_applied(conn, GTIDSet.parse(executed(source)), timeout=DEADLINE_S)


@pytest.mark.parametrize("backup", ["LOCK INSTANCE FOR BACKUP", "FLUSH TABLES WITH READ LOCK"])
@pytest.mark.parametrize("statement", [lock_db1, keep_db3])
def test_an_account_statement_gives_up_and_passes_when_the_backup_is_ended(
    backup: str, statement: Callable[[Connection], None], mysqld_factory: MySQLFactory
) -> None:
    member, *_ = start_members(mysqld_factory, *NAMES)
    with member.root() as holder, member.app() as reader, impatient(member) as conn:
        holder.execute(backup)
        with pytest.raises(LockWaitTimeout):
            statement(conn)
        assert conn.is_open, "nothing of it is carried out later"
        assert locked_out(conn) == frozenset()
        assert free_applier(conn, timeout=DEADLINE_S) == [], "it does not wait for that"
        assert free_accounts(conn, timeout=DEADLINE_S) == ["root@localhost"]
        statement(conn)
        assert reader.scalar("SELECT 1") == 1
        assert free_accounts(conn, timeout=DEADLINE_S) == []


@pytest.mark.parametrize(
    ("lock", "written"),
    [
        ("FLUSH TABLES WITH READ LOCK", "INSERT INTO t.t (v) VALUES (1)"),
        ("LOCK TABLES t.t READ", "INSERT INTO t.t (v) VALUES (1)"),
        ("SELECT COUNT(*) FROM t.t", "ALTER TABLE t.t ADD COLUMN w INT"),
        ("SELECT * FROM t.t WHERE id = 1 FOR SHARE", "UPDATE t.t SET v = 1 WHERE id = 1"),
    ],
)
def test_what_the_applier_waits_for_is_ended_and_no_other_client(
    lock: str, written: str, mysqld_factory: MySQLFactory, writers: Writers
) -> None:
    source, replica = start_members(mysqld_factory, *NAMES)
    writers.write(source, 0).result()
    catch_up(replica, source)
    with replica.root() as holder, replica.app() as reader, replica.admin() as conn:
        reader.execute("BEGIN")
        reader.query("SELECT 1")
        holder.execute("BEGIN")
        holder.execute(lock)
        with source.root() as root:
            root.execute(written)
        everything = GTIDSet.parse(executed(source))
        assert not wait_applied(conn, everything, timeout=1.0)
        ended = wait_until(lambda: free_applier(conn, timeout=DEADLINE_S) or None, what="the applier waits for it")
        assert ended == ["root@localhost"]
        assert wait_applied(conn, everything, timeout=DEADLINE_S)
        assert reader.query("SELECT 1")


def test_a_long_query_is_ended_and_its_session_and_idle_ones_stay(
    mysqld_factory: MySQLFactory, writers: Writers
) -> None:
    (member,) = start_members(mysqld_factory, "db1")
    writers.write(member, 0).result()
    with member.app() as reader, member.app() as idle, member.admin() as conn:
        idle.execute("BEGIN")
        idle.query("SELECT * FROM t.t")
        query = writers.execute(reader, f"SELECT SLEEP({DEADLINE_S}) FROM t.t")
        set_super_read_only(conn, timeout=DEADLINE_S)
        with pytest.raises(LockWaitTimeout):
            wait_until(lambda: prove_quiet(conn, timeout=DEADLINE_S), what="the query runs")
        assert end_queries(conn, timeout=DEADLINE_S) == ["app@localhost"]
        prove_quiet(conn, timeout=DEADLINE_S)
        query.exception(timeout=DEADLINE_S)  # SLEEP answers 1, other queries error 1317
        assert reader.scalar("SELECT 1") == idle.scalar("SELECT 1") == 1


def test_readers_are_not_in_the_way_of_a_write_that_waits_for_somebody_else(
    mysqld_factory: MySQLFactory, writers: Writers
) -> None:
    source, replica = start_members(mysqld_factory, *NAMES)
    catch_up(replica, source)
    with replica.root() as holder, replica.app() as reader, replica.admin() as conn:
        reader.execute("BEGIN")
        reader.query("SELECT * FROM t.t")
        holder.execute("LOCK TABLES t.t READ")
        writers.write(source, 0).result()
        ended = wait_until(lambda: free_applier(conn, timeout=DEADLINE_S) or None, what="the applier waits for it")
        assert ended == ["root@localhost"]
        assert wait_applied(conn, GTIDSet.parse(executed(source)), timeout=DEADLINE_S)
        assert reader.query("SELECT * FROM t.t") == []


@pytest.mark.parametrize(
    "lock",
    ["LOCK TABLES t.t WRITE", "LOCK TABLES t.t READ", "FLUSH TABLES t.t WITH READ LOCK", "FLUSH TABLES t.t FOR EXPORT"],
)
def test_a_table_lock_does_not_keep_a_server_from_becoming_read_only(lock: str, mysqld_factory: MySQLFactory) -> None:
    (member,) = start_members(mysqld_factory, "db1")
    with member.root() as holder, member.app() as idle, member.admin() as conn:
        idle.execute("BEGIN")
        idle.query("SELECT * FROM t.t")
        if lock.endswith("WRITE"):
            idle.execute("ROLLBACK")  # LOCK TABLES would wait for it
        holder.execute(lock)
        assert not is_quiet(conn)
        assert free_writers(conn, timeout=DEADLINE_S) == ["root@localhost"]
        wait_until(lambda: is_quiet(conn), what="it is read-only and quiet")
        assert idle.scalar("SELECT 1") == 1
        assert free_writers(conn, timeout=DEADLINE_S) == []


def is_quiet(conn: Connection) -> bool:
    try:
        if not set_super_read_only(conn, timeout=DEADLINE_S):
            return False
        prove_quiet(conn, timeout=DEADLINE_S)
    except LockWaitTimeout:
        return False
    return True


def test_a_statement_that_only_waits_for_a_transaction_is_ended_and_the_transaction_stays(
    mysqld_factory: MySQLFactory, writers: Writers
) -> None:
    (member,) = start_members(mysqld_factory, "db1")
    with member.app() as idle, member.root() as dba, member.admin() as conn:
        idle.execute("BEGIN")
        idle.query("SELECT * FROM t.t")
        alter = writers.execute(dba, "ALTER TABLE t.t ADD COLUMN w INT")
        wait_until(lambda: not set_super_read_only(conn, timeout=DEADLINE_S), what="the ALTER TABLE waits")
        assert free_writers(conn, timeout=DEADLINE_S) == ["root@localhost"]
        assert alter.exception(timeout=DEADLINE_S) is not None
        assert is_quiet(conn)
        assert dba.scalar("SELECT 1") == idle.scalar("SELECT 1") == 1


def test_a_server_that_is_backed_up_changes_its_source(mysqld_factory: MySQLFactory) -> None:
    """One that was the primary follows a new one, and one that becomes the primary forgets its own."""
    source, replica = start_members(mysqld_factory, *NAMES)
    catch_up(replica, source)  # a server that is locked for backup applies no CREATE USER
    with source.root() as backup, source.admin() as conn:
        backup.execute("LOCK INSTANCE FOR BACKUP")
        point_to(conn, source.as_source_of(replica), timeout=DEADLINE_S)
        forget_source(conn, timeout=DEADLINE_S)
    with replica.root() as backup, replica.admin() as conn:
        backup.execute("LOCK INSTANCE FOR BACKUP")
        forget_source(conn, timeout=DEADLINE_S)
