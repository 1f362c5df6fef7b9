"""An old primary that died with commits nobody acknowledged replicates again: by itself, without a CLONE."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from raftctl.bootstrap.layout import Layout
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import HistoryEntry
from raftctl.cluster.status_model import ClusterStatus
from raftctl.controller.gate_protocol import TAILS
from raftctl.errors import MySQLError
from raftctl.mysql.client import connect
from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.sandboxes import mysqld_pid, query, wait_for_mysqld
from tests.support.stage import Stage, connect_soon, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.slow, pytest.mark.timeout(600)]

WRITERS = 16
WAITING = (
    "SELECT VARIABLE_VALUE FROM performance_schema.global_status"
    " WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_wait_sessions'"
)


@pytest.fixture(scope="module")
def cluster(distribution: MySQLDistribution) -> Iterator[Stage]:
    with stage(namespaces=False) as made:
        yield made


def start(stage: Stage, member: str, sql: str) -> None:
    """A client that runs one statement, as root, until it ends or the server does."""

    def run() -> None:
        with contextlib.suppress(pymysql.MySQLError):
            query(stage.sandbox, member, sql)

    threading.Thread(target=run, daemon=True).start()


def write_on(stage: Stage, member: str) -> None:
    """Clients that write until the server dies."""

    def run() -> None:
        with contextlib.suppress(MySQLError), connect(stage.endpoint(member), timeout=60.0) as conn:
            while True:
                conn.execute(f"INSERT INTO `{stage.database}`.rows_ (v) VALUES (1)")

    for _ in range(WRITERS):
        threading.Thread(target=run, daemon=True).start()


@contextlib.contextmanager
def nobody_acknowledges(stage: Stage, primary: str) -> Iterator[None]:
    """No replica receives; their controllers, frozen, do not see to it. At the end all goes on by itself."""
    others = [name for name in stage.sandbox.layout.names if name != primary]
    for name in others:
        stage.sandbox.freeze(name, Target.CONTROLLER)
    try:
        for name in others:
            query(stage.sandbox, name, "STOP REPLICA IO_THREAD")
        yield
    finally:
        for name in others:
            stage.sandbox.thaw(name, Target.CONTROLLER)


def last_binlog(stage: Stage, member: str) -> Path:
    return max((stage.sandbox.directory / member / "data").glob("binlog.0*"))


def state_directory(stage: Stage, member: str) -> Path:
    return Path(Layout(str(stage.sandbox.directory / member)).state)


def saved_tails(stage: Stage, member: str) -> set[Path]:
    return set((state_directory(stage, member) / TAILS).glob("*"))


def wait_rejoined(stage: Stage, old: str) -> ClusterStatus:
    return stage.wait(lambda s: s.primary not in (None, old) and s.health == "ok", f"{old} is a replica")


def since(stage: Stage, before: list[HistoryEntry]) -> list[HistoryEntry]:
    return [entry for entry in stage.history() if entry.index > max(e.index for e in before)]


def crash(stage: Stage, *, waiting: Callable[[str], object]) -> tuple[str, list[HistoryEntry]]:
    """Kill the primary's mysqld while commits wait: `waiting` makes them wait. Returns its name, and what the history
    was before."""
    before = stage.history()
    old = stage.wait_healthy().primary
    assert old
    with nobody_acknowledges(stage, old):
        waiting(old)
        stage.sandbox.kill(old, Target.MYSQLD)
    return old, before


def check_cut(stage: Stage, old: str, before: list[HistoryEntry], saved_before: set[Path], at_least: int) -> GTIDSet:
    """It was cut, saved and recorded, nothing was rebuilt, and all members are equal."""
    status = wait_rejoined(stage, old)
    assert status.primary
    stage.wait_equal(status.primary)
    entries = since(stage, before)
    cuts = [entry for entry in entries if entry.kind == "tail-cut"]
    assert [entry.member for entry in cuts] == [old], stage.story()
    assert not [entry for entry in entries if entry.kind in ("rebuild-started", "tail-not-cut")], stage.story()
    (saved,) = saved_tails(stage, old) - saved_before
    assert str(saved) == cuts[0].detail["saved"]
    removed = GTIDSet.parse(cuts[0].detail["gtids"])
    assert removed.count() == cuts[0].detail["count"] >= at_least
    assert not removed & stage.executed(status.primary)
    assert saved.stat().st_size > 0
    with connect_soon(stage) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS after_ (id INT PRIMARY KEY)")
        conn.execute("DROP TABLE after_")
    stage.wait_equal(status.primary)
    return removed


def test_sixteen_writers(cluster: Stage) -> None:
    with connect_soon(cluster) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS rows_ (id BIGINT AUTO_INCREMENT PRIMARY KEY, v INT)")
    saved: set[Path] = set()

    def waiting(old: str) -> None:
        saved.update(saved_tails(cluster, old))
        write_on(cluster, old)
        wait_until(lambda: int(query(cluster.sandbox, old, WAITING)) > 0, what="commits wait", timeout=30)

    for _ in range(int(os.environ.get("RAFTCTL_KILLS", "3"))):
        old, before = crash(cluster, waiting=waiting)
        check_cut(cluster, old, before, saved, at_least=1)
        sums = {
            name: query(cluster.sandbox, name, f"SELECT COUNT(*), MAX(id) FROM `{cluster.database}`.rows_")
            for name in cluster.sandbox.layout.names
        }
        assert len(set(sums.values())) == 1, sums


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE fresh (id INT PRIMARY KEY)",
        "ALTER TABLE altered ADD v INT",
        "DROP TABLE dropped",
        "CREATE USER somebody",
    ],
)
def test_ddl_in_flight(cluster: Stage, sql: str) -> None:
    with connect_soon(cluster) as conn:
        conn.execute("DROP TABLE IF EXISTS fresh, altered, dropped")
        conn.execute("CREATE TABLE altered (id INT PRIMARY KEY)")
        conn.execute("CREATE TABLE dropped (id INT PRIMARY KEY)")
    saved: set[Path] = set()

    def waiting(old: str) -> None:
        saved.update(saved_tails(cluster, old))
        log = last_binlog(cluster, old)
        size = log.stat().st_size
        start(cluster, old, sql.replace("TABLE ", f"TABLE `{cluster.database}`."))
        wait_until(lambda: log.stat().st_size > size, what="it is in the binary log", timeout=30)

    old, before = crash(cluster, waiting=waiting)
    check_cut(cluster, old, before, saved, at_least=1)
    new = cluster.status().primary
    assert new
    for name in (old, new):
        assert query(cluster.sandbox, name, f"SHOW TABLES FROM `{cluster.database}` LIKE 'fresh'") == ""
        assert query(cluster.sandbox, name, f"SHOW TABLES FROM `{cluster.database}` LIKE 'dropped'") == "dropped"
        assert query(cluster.sandbox, name, f"SHOW COLUMNS FROM `{cluster.database}`.altered LIKE 'v'") == ""
        assert query(cluster.sandbox, name, "SELECT user FROM mysql.user WHERE user = 'somebody'") == ""


def test_started_uncut_it_is_rebuilt_under_a_new_uuid(cluster: Stage) -> None:
    """A person's override: mysqld commits its tail, so only CLONE removes it. No number is ever given twice."""
    with connect_soon(cluster) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS rows_ (id BIGINT AUTO_INCREMENT PRIMARY KEY, v INT)")
    uuids: list[str] = []

    def waiting(old: str) -> None:
        uuids.append(query(cluster.sandbox, old, "SELECT @@server_uuid"))
        write_on(cluster, old)
        wait_until(lambda: int(query(cluster.sandbox, old, WAITING)) > 0, what="commits wait", timeout=30)
        Path(Layout(str(cluster.sandbox.directory / old)).gate_open).touch()

    old, before = crash(cluster, waiting=waiting)
    status = wait_rejoined(cluster, old)
    assert status.primary
    cluster.wait_equal(status.primary)
    assert {"rebuild-started", "rebuilt"} <= {entry.kind for entry in since(cluster, before) if entry.member == old}
    assert query(cluster.sandbox, old, "SELECT @@server_uuid") != uuids[0]


def test_without_its_controller_mysqld_waits_until_a_person_says_otherwise(cluster: Stage) -> None:
    status = cluster.wait_healthy()
    replica = next(name for name in cluster.sandbox.layout.names if name != status.primary)
    pid = mysqld_pid(cluster.sandbox, replica)
    assert pid
    cluster.sandbox.kill(replica, Target.CONTROLLER)
    cluster.sandbox.kill(replica, Target.MYSQLD)
    cluster.sandbox.start(replica, Target.MYSQLD, ungated=True)
    wait_for_mysqld(cluster.sandbox, replica, other_than=pid)
    assert query(cluster.sandbox, replica, "SELECT @@super_read_only") == "1"
    cluster.sandbox.start(replica, Target.CONTROLLER)
    cluster.wait_healthy()
