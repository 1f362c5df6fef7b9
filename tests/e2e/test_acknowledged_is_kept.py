"""What was acknowledged and not applied anywhere: it survives the replicas' crash, and a promotion waits for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection, connect
from raftctl.mysql.observe import observe
from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.dba import dba_of
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


@contextlib.contextmanager
def transaction_held(stage: Stage, member: str) -> Iterator[GTIDSet]:
    """A session there owns the number of a transaction that is soon to come, so that the applier waits for its end:
    not for a lock, of which raftctl would find the holder."""
    primary = stage.status().primary
    assert primary
    with connect(stage.own_endpoint(primary), timeout=10.0) as conn:
        uuid = conn.scalar("SELECT @@server_uuid")
    dba = dba_of(stage, member)
    number = max(i.last for i in stage.executed(primary).restrict(uuid).intervals()) + 100
    with connect(dba, timeout=60.0) as conn:
        conn.execute("SET gtid_next = %s", (f"{uuid}:{number}",))
        conn.execute("BEGIN")
        yield GTIDSet.parse(f"{uuid}:{number}")


def has_received(stage: Stage, member: str, gtids: GTIDSet) -> bool:
    with connect(stage.own_endpoint(member), timeout=10.0) as conn:
        return gtids <= observe(conn).gtid_received


def unapplied(stage: Stage, member: str) -> int:
    with connect(stage.own_endpoint(member), timeout=10.0) as conn:
        seen = observe(conn)
        return (seen.gtid_received - seen.gtid_executed).count()


def test_the_primary_dies_while_no_replica_applies(spoiled_stage: Stage) -> None:
    """What holds the next primary up, here a client's table lock, is ended."""
    stage = spoiled_stage
    primary = stage.wait_healthy().primary
    assert primary
    with stage.writing() as writer:
        with appliers_held(stage, *replicas_of(stage, primary)):
            assert writer.wait_for(50, 60)
            stage.sandbox.kill(primary, Target.MYSQLD)
            status = stage.wait_new_primary(primary)
            assert writer.wait_for(20, 60)
        ended = [e for e in stage.history() if e.kind == "sessions-ended" and e.member == status.primary]
        assert len(ended) == 1, stage.story()
        assert "app@" in ended[0].why
        stage.wait_healthy()
    stage.verify(writer)


def test_the_primary_dies_while_the_replicas_are_backed_up(spoiled_stage: Stage) -> None:
    """The backups' lock keeps accounts from being locked out; a primary is worth more than a backup."""
    stage = spoiled_stage
    primary = stage.wait_healthy().primary
    assert primary
    with contextlib.ExitStack() as close:
        writer = close.enter_context(stage.writing())
        logins = [dba_of(stage, member) for member in replicas_of(stage, primary)]  # made before anything is locked
        for login in logins:
            close.enter_context(connect(login, timeout=60.0)).execute("LOCK INSTANCE FOR BACKUP")
        stage.sandbox.kill(primary, Target.MYSQLD, restart=False)  # back, it would not have to be locked out
        chosen = stage.wait_new_primary(primary).primary
        assert writer.wait_for(20, 60)
        ended = [e.why for e in stage.history() if e.kind == "sessions-ended" and e.member == chosen]
        assert any("dba@" in why for why in ended), stage.story()
        stage.sandbox.start(primary, Target.MYSQLD)
        stage.wait_healthy()
    stage.verify(writer)


def test_another_target_is_chosen_when_it_has_applied(spoiled_stage: Stage) -> None:
    stage = spoiled_stage
    before = stage.wait_healthy()
    primary = before.primary
    assert primary
    first, second = sorted(replicas_of(stage, primary))
    with stage.writing() as writer:
        with transaction_held(stage, first) as held, connect(stage.endpoint(primary), timeout=60.0) as lock:
            wait_until(lambda: has_received(stage, first, held), what=f"{first} to stand still", timeout=60)
            # Whatever only `first` had received could only come from it: nobody else could take over then.
            lock.execute(f"LOCK TABLES `{stage.database}`.raftctl_written READ")
            wait_until(lambda: stage.executed(second) == stage.executed(primary), what=f"{second} to have all")
            stage.sandbox.kill(primary, Target.MYSQLD)
            status = stage.wait(lambda s: s.primary == second and s.phase == "steady", f"{second} takes over")
            assert status.primary == second
            opened = [e.member for e in stage.history() if e.kind == "opened" and e.epoch > before.epoch]
            assert first not in opened, "it had not applied all that it received"
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
