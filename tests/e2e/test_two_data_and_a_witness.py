"""Two data hosts and a witness with `durability_policy: available`: any one is lost, writes go on, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftctl.cluster.status_model import ClusterStatus, IssueCode
from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.stage import Stage, stage

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def small_stage(distribution: MySQLDistribution) -> Iterator[Stage]:
    with stage(nodes=2, witnesses=1, settings=("durability_policy=available",)) as made:
        yield made


def codes(status: ClusterStatus) -> set[IssueCode]:
    return {issue.code for issue in status.issues}


def other(stage: Stage, member: str) -> str:
    return next(m for m in ("db1", "db2") if m != member)


def test_a_replica_is_lost(small_stage: Stage) -> None:
    stage = small_stage
    primary = stage.wait_healthy().primary
    assert primary
    with stage.writing() as writer:
        stage.sandbox.kill(other(stage, primary), Target.HOST)
        alone = stage.wait(lambda s: s.durability.required_acks == 0, "k is lowered")
        assert writer.wait_for(100, 60), stage.story()
        assert alone.durability.sync_set == (primary,)
        assert IssueCode.DURABILITY_LOWERED in codes(alone)
        stage.sandbox.start(other(stage, primary), Target.HOST)
        again = stage.wait_healthy()
        assert again.durability.required_acks == 1
        assert again.primary == primary
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_the_primary_is_lost(small_stage: Stage) -> None:
    stage = small_stage
    primary = stage.wait_healthy().primary
    assert primary
    with stage.writing() as writer:
        stage.sandbox.kill(primary, Target.HOST)
        stage.wait_new_primary(primary)
        assert writer.wait_for(100, 60), stage.story()
        stage.sandbox.start(primary, Target.HOST)
        assert stage.wait_healthy().durability.required_acks == 1
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_the_witness_is_lost(small_stage: Stage) -> None:
    stage = small_stage
    before = stage.wait_healthy()
    with stage.writing() as writer:
        stage.sandbox.kill("w1", Target.HOST)
        assert writer.wait_for(200, 60), stage.story()
        stage.sandbox.start("w1", Target.HOST)
        after = stage.wait_healthy()
        assert (after.primary, after.epoch) == (before.primary, before.epoch)
    stage.verify(writer)


def test_a_lone_primary_is_not_succeeded(small_stage: Stage) -> None:
    """The replica is away, the primary wrote alone, and its mysqld dies: nobody takes over, and when it is back
    everything is there."""
    stage = small_stage
    primary = stage.wait_healthy().primary
    assert primary
    replica = other(stage, primary)
    with stage.writing() as writer:
        stage.sandbox.kill(replica, Target.HOST)
        alone = stage.wait(lambda s: s.durability.required_acks == 0, "k is lowered")
        assert writer.wait_for(100, 60), stage.story()
        stage.sandbox.kill(primary, Target.MYSQLD, restart=False)
        stage.sandbox.start(replica, Target.HOST)
        stage.wait(
            lambda s: any(m.name == replica and m.raft.state for m in s.members) and s.leader, "the replica is back"
        )
        waiting = stage.status()
        assert (waiting.primary, waiting.epoch) == (primary, alone.epoch)
        assert IssueCode.DURABILITY_LOWERED in codes(waiting)
        stage.sandbox.start(primary, Target.MYSQLD)
        after = stage.wait_healthy()
        assert (after.primary, after.epoch) == (primary, alone.epoch)
        assert writer.wait_for(20, 60)
    stage.verify(writer)
