"""What was acknowledged and not applied anywhere: it survives the replicas' crash, and a promotion waits for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection, connect
from raftctl.mysql.observe import observe
from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def spoiled_stage(distribution: MySQLDistribution) -> Iterator[Stage]:
    """A cluster of its own: the last test takes a member's data away."""
    with stage() as made:
        yield made


def replicas_of(stage: Stage, primary: str) -> list[str]:
    return [m for m in stage.sandbox.layout.names if m != primary]


@contextlib.contextmanager
def appliers_held(stage: Stage, *members: str) -> Iterator[list[Connection]]:
    """A table lock on each of them: transactions are received and acknowledged, and none is applied."""
    with contextlib.ExitStack() as close:
        locks = []
        for member in members:
            conn = close.enter_context(connect(stage.endpoint(member), timeout=60.0))
            wait_until(lambda conn=conn: held(stage, conn), what=f"{member} to have the table", timeout=60)
            locks.append(conn)
        yield locks


def held(stage: Stage, conn: Connection) -> bool:
    try:
        conn.execute(f"LOCK TABLES `{stage.database}`.raftctl_written READ")
    except MySQLError:
        return False  # the applier has not made it yet
    return True


def unapplied(stage: Stage, member: str) -> int:
    with connect(stage.own_endpoint(member), timeout=10.0) as conn:
        seen = observe(conn)
        return (seen.gtid_received - seen.gtid_executed).count()


def test_the_primary_dies_while_no_replica_applies(spoiled_stage: Stage) -> None:
    stage = spoiled_stage
    primary = stage.wait_healthy().primary
    assert primary
    with stage.writing() as writer:
        with appliers_held(stage, *replicas_of(stage, primary)):
            assert writer.wait_for(50, 60)
            stage.sandbox.kill(primary, Target.MYSQLD)
            stage.wait(lambda s: s.primary not in (None, primary), "a target is chosen")
            stage.wait(
                lambda s: any(m.note and "received transactions" in m.note for m in s.members if m.name == s.primary),
                "status says what the target has to apply",
            )
            assert not any(m.mysql and m.mysql.writable for m in stage.status().members)
        stage.wait_new_primary(primary)
        assert writer.wait_for(20, 60)
        stage.wait_healthy()
    stage.verify(writer)


def test_another_target_is_chosen_when_it_has_applied(spoiled_stage: Stage) -> None:
    stage = spoiled_stage
    primary = stage.wait_healthy().primary
    assert primary
    first, second = sorted(replicas_of(stage, primary))
    with stage.writing() as writer:
        with appliers_held(stage, first), connect(stage.endpoint(primary), timeout=60.0) as lock:
            assert writer.wait_for(50, 60)
            # Whatever only `first` had received could only come from it: nobody else could take over then.
            lock.execute(f"LOCK TABLES `{stage.database}`.raftctl_written READ")
            wait_until(lambda: stage.executed(second) == stage.executed(primary), what=f"{second} to have all")
            stage.sandbox.kill(primary, Target.MYSQLD)
            status = stage.wait(lambda s: s.primary == second and s.phase == "steady", f"{second} takes over")
            assert status.primary == second
        assert writer.wait_for(20, 60)
        stage.wait_healthy()
    stage.verify(writer)


def test_everything_crashes_and_the_primarys_disk_is_gone(spoiled_stage: Stage) -> None:
    """What was acknowledged is only in the replicas' relay logs."""
    stage = spoiled_stage
    primary = stage.wait_healthy().primary
    assert primary
    others = replicas_of(stage, primary)
    with stage.writing() as writer:
        with appliers_held(stage, *others):
            assert writer.wait_for(50, 60)
            wait_until(lambda: all(unapplied(stage, m) >= 40 for m in others), what="relay logs to fill", timeout=60)
            threads = [
                threading.Thread(target=stage.sandbox.kill, args=(m, Target.MYSQLD), kwargs={"restart": False})
                for m in stage.sandbox.layout.names
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        stage.data_directory(primary).rename(stage.data_directory(primary).with_suffix(".gone"))
        for member in others:
            stage.sandbox.start(member, Target.MYSQLD)
        stage.wait_new_primary(primary)
        assert writer.wait_for(20, 60), stage.story()
    status = stage.status()
    assert status.primary in others
    tally = writer.tally(stage.endpoint(status.primary))
    assert (tally.lost, tally.twice) == (0, 0), (tally, stage.story())
