"""Cutting the tail of real servers: what the binary log loses, InnoDB loses with it, and nothing else."""

from __future__ import annotations

import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.errors import HostError
from raftctl.mysql import tail
from raftctl.mysql.binlog import open_binlog
from raftctl.mysql.client import Connection
from raftctl.mysql.fencing import allow_writes
from raftctl.mysql.observe import parse_owned
from raftctl.mysql.semisync import become_source
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.mysql_members import DEADLINE_S, MySQLMember, executed, follow, start_members, values
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.slow]

WRITERS = 16

# In flight when the server dies; what exists before, and a question that tells whether it was undone.
STATEMENTS = {
    "create-table": ("CREATE TABLE t.new (id INT PRIMARY KEY)", "SHOW TABLES FROM t LIKE 'new'", 0),
    "create-select": ("CREATE TABLE t.new SELECT * FROM t.t", "SHOW TABLES FROM t LIKE 'new'", 0),
    "alter-instant": ("ALTER TABLE t.t ADD w INT, ALGORITHM=INSTANT", "SHOW COLUMNS FROM t.t LIKE 'w'", 0),
    "alter-copy": ("ALTER TABLE t.t ADD w INT, ALGORITHM=COPY", "SHOW COLUMNS FROM t.t LIKE 'w'", 0),
    "truncate": ("TRUNCATE TABLE t.t", "SELECT * FROM t.t LIMIT 1", 1),
    "drop-table": ("DROP TABLE t.t", "SHOW TABLES FROM t LIKE 't'", 1),
    "create-database": ("CREATE DATABASE other", "SHOW DATABASES LIKE 'other'", 0),
    "create-user": ("CREATE USER other", "SELECT 1 FROM mysql.user WHERE user = 'other'", 0),
    "big-transaction": ("UPDATE t.t SET v = v + 1000", "SELECT 1 FROM t.t WHERE v >= 1000 LIMIT 1", 0),
}


class Clients:
    """Sessions whose statements never return until the server dies."""

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=count)
        self._connections: list[Connection] = []

    def run(self, member: MySQLMember, sql: str) -> Future[int]:
        conn = member.root()
        self._connections.append(conn)
        return self._threads.submit(conn.execute, sql, timeout=10 * DEADLINE_S)

    def close(self) -> None:
        self._threads.shutdown(wait=True)


def written(member: MySQLMember) -> GTIDSet:
    """What is in the binary log, or about to be."""
    with member.admin() as admin:
        return parse_owned(admin.scalar("SELECT @@GLOBAL.gtid_owned")) | GTIDSet.parse(executed(member))


def files_of(member: MySQLMember) -> tail.ServerFiles:
    with member.admin() as admin:
        return tail.server_files(admin, timeout=DEADLINE_S)


def source_without_replicas(make: MySQLFactory) -> tuple[MySQLMember, GTIDSet, tail.ServerFiles]:
    """A primary with rows in t.t whose commits wait from now on, and what it had until now."""
    (member,) = start_members(make, "db1")
    with member.root() as root:
        root.execute("INSERT INTO t.t (v) VALUES (1), (2), (3)")
    kept = GTIDSet.parse(executed(member))
    with member.admin() as admin:
        become_source(admin, 1, timeout=DEADLINE_S)
    return member, kept, files_of(member)


def crash_with(member: MySQLMember, statements: list[str], kept: GTIDSet) -> GTIDSet:
    """Kill it when each statement waits for its acknowledgement; returns what nobody acknowledged."""
    clients = Clients(len(statements))
    answers = [clients.run(member, sql) for sql in statements]
    lacking = wait_until(
        lambda: (tail_ := written(member) - kept).count() >= len(statements) and tail_, what="all wait", timeout=30
    )
    member.server.kill()
    clients.close()
    assert all(answer.exception() is not None for answer in answers)
    return lacking


def cut(files: tail.ServerFiles, keep: GTIDSet, tails: Path) -> tail.Cut:
    with tail.held_down(files):
        plan = tail.plan_cut(files, keep)
        assert isinstance(plan, tail.Cut), plan
        tail.save(plan, tails)
        tail.apply(plan, files)
    return plan


def test_insert_by_many_sessions(mysqld_factory: MySQLFactory, tmp_path: Path) -> None:
    member, kept, files = source_without_replicas(mysqld_factory)
    lacking = crash_with(member, [f"INSERT INTO t.t (v) VALUES ({100 + n})" for n in range(WRITERS)], kept)
    plan = cut(files, kept, tmp_path)
    assert plan.gtids == lacking
    member.server.start()
    assert GTIDSet.parse(executed(member)) == kept
    assert values(member) == [1, 2, 3]


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_in_flight(mysqld_factory: MySQLFactory, tmp_path: Path, name: str) -> None:
    sql, question, rows = STATEMENTS[name]
    member, kept, files = source_without_replicas(mysqld_factory)
    # a waiting CREATE USER lets nobody log in, so look at the file: what it has more than before is what waits
    last = tail.last_file(files)
    before = last.stat().st_size
    clients = Clients(1)
    answer = clients.run(member, sql)
    wait_until(lambda: last.stat().st_size > before, what="it is in the binary log", timeout=30)
    member.server.kill()
    clients.close()
    assert answer.exception() is not None
    plan = cut(files, kept, tmp_path)
    assert plan.gtids.count() == 1
    member.server.start()
    assert GTIDSet.parse(executed(member)) == kept
    with member.root() as root:
        assert len(root.query(question)) == rows


def test_only_the_lacking_ones_go_and_the_server_follows_the_new_primary(
    mysqld_factory: MySQLFactory, distribution: MySQLDistribution, tmp_path: Path
) -> None:
    """The new primary received the first of the waiting transactions, not the others; it goes on writing."""
    old, new = start_members(mysqld_factory, "db1", "db2")
    with old.admin() as admin:
        become_source(admin, 2, timeout=DEADLINE_S)  # one replica is not enough: everything waits
    shared = GTIDSet.parse(executed(old))
    wait_until(lambda: shared <= GTIDSet.parse(executed(new)), what="the replica has what there is")
    clients = Clients(WRITERS + 1)
    clients.run(old, "INSERT INTO t.t (v) VALUES (1)")
    wait_until(lambda: values(new) == [1], what="the new primary has the first one")
    with new.root() as root:
        root.execute("STOP REPLICA")
        root.execute("RESET REPLICA ALL")
    for n in range(WRITERS):
        clients.run(old, f"INSERT INTO t.t (v) VALUES ({100 + n})")
    wait_until(lambda: (written(old) - shared).count() == WRITERS + 1 or None, what="all wait")
    files = files_of(old)
    old_uuid = (old.server.datadir / "auto.cnf").read_text()
    old.server.kill()
    clients.close()
    with new.admin() as admin:
        allow_writes(admin, timeout=DEADLINE_S)
    with new.root() as root:
        root.execute("INSERT INTO t.t (v) VALUES (2)")

    plan = cut(files, GTIDSet.parse(executed(new)), tmp_path)
    assert plan.gtids.count() == WRITERS
    old.server.start()
    follow(old, new)
    wait_until(lambda: values(old) == [1, 2] or None, what="the old primary has caught up")
    assert GTIDSet.parse(executed(old)) == GTIDSet.parse(executed(new))
    assert (old.server.datadir / "auto.cnf").read_text() != old_uuid

    (saved,) = tmp_path.iterdir()
    assert_mysqlbinlog_reads(distribution, saved, plan.gtids)


def assert_mysqlbinlog_reads(distribution: MySQLDistribution, saved: Path, gtids: GTIDSet) -> None:
    argv = [*distribution.client_argv[:-1], str(Path(distribution.client_argv[-1]).with_name("mysqlbinlog"))]
    if not Path(argv[-1]).exists():
        return  # a client package may lack it; the server's own reading is tested elsewhere
    done = subprocess.run([*argv, str(saved)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done
    told = [line.split("'")[1] for line in done.stdout.splitlines() if "SET @@SESSION.GTID_NEXT= '" in line]
    assert GTIDSet.parse(",".join(gtid for gtid in told if gtid != "AUTOMATIC")) == gtids


def test_a_commit_that_innodb_finished_is_found_after_the_start(mysqld_factory: MySQLFactory, tmp_path: Path) -> None:
    """Cutting does not undo it, and its GTID says so: it is rebuilt then, never forgotten."""
    (member,) = start_members(mysqld_factory, "db1")
    kept = GTIDSet.parse(executed(member))
    files = files_of(member)
    with member.root() as root:
        root.execute("INSERT INTO t.t (v) VALUES (1)")
    finished = GTIDSet.parse(executed(member)) - kept
    member.server.kill()
    assert cut(files, kept, tmp_path).gtids == finished
    member.server.start()
    if values(member):
        assert finished <= GTIDSet.parse(executed(member))


def test_a_running_server_is_not_touched(mysqld_factory: MySQLFactory) -> None:
    (member,) = start_members(mysqld_factory, "db1")
    with pytest.raises(HostError, match="a server runs"), tail.held_down(files_of(member)):
        pass
    member.server.restart()


def test_after_a_clean_shutdown_nothing_is_cut(mysqld_factory: MySQLFactory) -> None:
    (member,) = start_members(mysqld_factory, "db1")
    files = files_of(member)
    with member.root() as root:
        root.execute("SHUTDOWN")
    member.server.wait_exit()
    plan = tail.plan_cut(files, GTIDSet())
    assert isinstance(plan, tail.NoCut)
    assert plan.reason is tail.Reason.CLEAN_SHUTDOWN


def test_a_tail_that_a_start_committed_is_in_an_older_file(mysqld_factory: MySQLFactory) -> None:
    member, kept, files = source_without_replicas(mysqld_factory)
    crash_with(member, ["INSERT INTO t.t (v) VALUES (9)"], kept)
    member.server.start()
    member.server.kill()
    plan = tail.plan_cut(files, kept)
    assert isinstance(plan, tail.NoCut)
    assert plan.reason is tail.Reason.OLDER_FILE


def test_what_is_not_in_innodb_is_left_alone(mysqld_factory: MySQLFactory) -> None:
    (member,) = start_members(mysqld_factory, "db1")
    kept = GTIDSet.parse(executed(member))
    files = files_of(member)
    with member.root() as root:
        root.execute("CREATE TABLE t.old (v INT) ENGINE=MyISAM")
        root.execute("INSERT INTO t.old VALUES (1)")
    member.server.kill()
    plan = tail.plan_cut(files, kept)
    assert isinstance(plan, tail.NoCut)
    assert plan.reason is tail.Reason.NOT_TRANSACTIONAL


def test_what_the_parser_reads_is_what_the_server_executed(mysqld_factory: MySQLFactory, tmp_path: Path) -> None:
    """Statements of all kinds, rotated files, tagged GTIDs, compression, with and without checksums, many sessions;
    then one file cut short at many places."""
    (member,) = start_members(mysqld_factory, "db1")
    files = files_of(member)
    with member.root() as root:
        tags = tuple(map(int, str(root.scalar("SELECT VERSION()")).split("-")[0].split("."))) >= (8, 3, 0)
        for checksum in ("CRC32", "NONE", "CRC32"):
            root.execute(f"SET GLOBAL binlog_checksum = {checksum}")  # rotates
            write_everything(root, tagged=tags)
            assert read_last(files) == GTIDSet.parse(executed(member))
        root.execute("FLUSH BINARY LOGS")
        assert read_last(files) == GTIDSet.parse(executed(member))
        write_everything(root, tagged=tags)
    with ThreadPoolExecutor(WRITERS) as sessions:
        for _ in range(WRITERS):
            sessions.submit(insert_often, member)
    wanted = GTIDSet.parse(executed(member))
    assert read_last(files) == wanted
    member.server.kill()
    contents = tail.last_file(files).read_bytes()
    check_every_cut(contents, tmp_path / "short")


def write_everything(root: Connection, *, tagged: bool) -> None:
    for sql in (
        "CREATE TABLE t.a (id INT PRIMARY KEY AUTO_INCREMENT, text LONGTEXT)",
        "INSERT INTO t.a (text) VALUES (REPEAT('x', 100000)), ('y')",
        "SET SESSION binlog_transaction_compression = ON",
        "INSERT INTO t.a (text) SELECT text FROM t.a",
        "SET SESSION binlog_transaction_compression = OFF",
        *(("SET gtid_next = 'AUTOMATIC:tag_1'",) if tagged else ()),
        "UPDATE t.a SET text = id",
        "ALTER TABLE t.a ADD b INT",
        "SET gtid_next = 'AUTOMATIC'",
        "CREATE USER someone",
        "DROP USER someone",
        "XA START 'x'",
        "INSERT INTO t.a (text) VALUES ('z')",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
        "ANALYZE TABLE t.a",
        "DROP TABLE t.a",
    ):
        root.execute(sql)


def insert_often(member: MySQLMember) -> None:
    with member.root() as root:
        for n in range(20):
            root.execute(f"INSERT INTO t.t (v) VALUES ({n})")


def read_last(files: tail.ServerFiles) -> GTIDSet:
    with open_binlog(tail.last_file(files)) as binlog:
        for found in binlog.transactions():
            assert binlog.events(found), found
        return binlog.gtids


def check_every_cut(contents: bytes, path: Path) -> None:
    path.write_bytes(contents)
    with open_binlog(path) as binlog:
        transactions = list(binlog.transactions())
    begin, end = transactions[-40].offset, transactions[-1].end
    for length in range(begin, end, 7):
        path.write_bytes(contents[:length])
        with open_binlog(path) as binlog:
            assert list(binlog.transactions()) == [t for t in transactions if t.end <= length]
