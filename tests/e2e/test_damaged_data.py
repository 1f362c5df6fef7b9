"""Data that are damaged, half copied or gone are replaced without a person, while an application writes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raftctl.controller import rebuild_mark
from raftctl.mysql.client import connect
from raftctl.mysql.replication import stop_replica
from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from tests.e2e.test_failures import raftctl
from tests.integration.tail.test_cut_on_mysqld import assert_mysqlbinlog_reads
from tests.support.damage import age_last_page, has_pages
from tests.support.dba import dba_of
from tests.support.errant import write_errant
from tests.support.stage import Stage
from tests.support.stage import stage as stage_of
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


def a_replica(stage: Stage) -> str:
    status = stage.wait_healthy()
    return next(m for m in stage.sandbox.layout.names if m not in (status.primary, status.leader))


def kinds(stage: Stage, member: str) -> list[str]:
    return [entry.kind for entry in stage.history() if entry.member == member]


def test_a_replica_whose_innodb_reports_damage_is_rebuilt(netns_stage: Stage) -> None:
    stage = netns_stage
    replica = a_replica(stage)
    with stage.writing() as writer:
        with connect(stage.own_endpoint(replica), timeout=10.0) as conn:
            conn.execute("SET GLOBAL innodb_max_dirty_pages_pct = 0")  # have it write its pages
        table = stage.data_directory(replica) / stage.database / "raftctl_written.ibd"
        wait_until(lambda: has_pages(table), what="the table is on disk", timeout=60)
        stage.sandbox.kill(replica, Target.MYSQLD, restart=False)
        age_last_page(table)
        stage.sandbox.start(replica, Target.MYSQLD)
        wait_until(lambda: "rebuilt" in kinds(stage, replica), what=f"{replica} is rebuilt", timeout=120)
        assert kinds(stage, replica).index("data-damaged") < kinds(stage, replica).index("begin-rebuild")
        assert writer.wait_for(20, 60)
        status = stage.wait_healthy()
        assert replica in (status.durability.sync_set or ())
    stage.verify(writer)


def test_a_rebuild_does_not_wait_for_an_applier_that_does_not_end(netns_stage: Stage) -> None:
    """It waits for a lock of a DBA's session, which offline mode does not end."""
    stage = netns_stage
    replica = a_replica(stage)
    dba = dba_of(stage, replica)
    with stage.writing() as writer, connect(dba, timeout=10.0) as conn:
        conn.execute("FLUSH TABLES WITH READ LOCK")
        done = raftctl(stage, "member", "rebuild", replica, "--yes", timeout=180.0)
        assert done.returncode == 0, done
    stage.verify(writer)


def test_a_copy_whose_first_start_is_interrupted_is_made_again(
    netns_stage: Stage, distribution: MySQLDistribution
) -> None:
    """What it throws away is saved before."""
    stage = netns_stage
    replica = a_replica(stage)
    errant = write_errant(stage, replica)
    begun = kinds(stage, replica).count("rebuild-started")
    directory = stage.sandbox.directory / replica / "state"  # the controller's own
    with stage.writing() as writer:
        command = ThreadPoolExecutor(1).submit(raftctl, stage, "member", "rebuild", replica, "--yes", timeout=180.0)
        wait_until(lambda: starts(directory) == 1, what="mysqld starts on the copy", timeout=60, pause_max=0.005)
        stage.sandbox.kill(replica, Target.MYSQLD)
        done = command.result()
        assert done.returncode == 0, done
        assert kinds(stage, replica).count("rebuild-started") == begun + 2
        status = stage.wait_healthy()
        (saved,) = [entry for entry in stage.history() if entry.kind == "errant-saved"]
        assert (saved.member, saved.detail["gtids"]) == (replica, str(errant))
        assert [m.mysql.saved for m in status.members if m.name == replica and m.mysql] == [saved.detail["saved"]]
        assert_mysqlbinlog_reads(distribution, Path(str(saved.detail["saved"])), errant)
    stage.verify(writer)


@pytest.fixture(scope="module")
def strict_pair(distribution: MySQLDistribution) -> Iterator[Stage]:
    with stage_of(nodes=2, witnesses=1) as made:
        yield made


def test_the_only_replica_that_strict_has_is_rebuilt_when_its_data_are_gone(strict_pair: Stage) -> None:
    """Writes wait meanwhile, nothing that was acknowledged is lost, and nobody has to be called."""
    stage = strict_pair
    replica = stage.wait_healthy().primary
    (primary,) = (m.name for m in stage.status().members if m.mysql and m.name != replica)
    assert replica
    with stage.writing(patience=60.0) as writer:
        stage.make_primary(primary)  # now the log says what a member has at least
        stage.sandbox.kill(replica, Target.CONTROLLER, restart=False)  # it would start replication in between
        with connect(stage.own_endpoint(replica), timeout=20.0) as conn:
            stop_replica(conn, timeout=20.0)
            conn.execute("RESET BINARY LOGS AND GTIDS")
            conn.execute("RESET REPLICA ALL")
        stage.sandbox.start(replica, Target.CONTROLLER)
        stage.wait(lambda _: "rebuilt" in kinds(stage, replica), f"{replica} is rebuilt")
        assert writer.wait_for(20, 90)
        status = stage.wait_healthy()
        assert set(status.durability.sync_set or ()) == {primary, replica}
    stage.verify(writer)


def starts(directory: Path) -> int:
    mark = rebuild_mark.load(directory)
    return mark.starts if mark else 0
