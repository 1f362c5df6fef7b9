"""More than one thing at a time: a lost replica, a failover that fails, partitions that are not clean."""

from __future__ import annotations

import pytest

from raftctl.sandbox.cluster import Target
from tests.support.stage import Stage

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


def others(stage: Stage, member: str) -> list[str]:
    return [m for m in stage.sandbox.layout.names if m != member]


def test_lost_replica_is_not_noticed_by_the_writer(netns_stage: Stage) -> None:
    """The lost host leaves the sync set, so that the loss of the primary could be survived as well, and comes back."""
    stage = netns_stage
    status = stage.wait_healthy()
    assert status.primary
    lost = next(m for m in others(stage, status.primary) if m != status.leader)
    with stage.writing(patience=30.0) as writer:
        stage.sandbox.kill(lost, Target.HOST)
        stage.wait(lambda s: s.durability.sync_set and lost not in s.durability.sync_set, f"{lost} leaves the sync set")
        assert writer.wait_for(50, 60)
        stage.sandbox.start(lost, Target.HOST)
        after = stage.wait_healthy()
        assert lost in (after.durability.sync_set or ())
    assert writer.errors == []
    stage.verify(writer)


def test_new_primary_killed_as_soon_as_it_is_chosen(netns_stage: Stage) -> None:
    stage = netns_stage
    first = stage.wait_healthy().primary
    assert first
    with stage.writing() as writer:
        stage.sandbox.kill(first, Target.MYSQLD)
        second = stage.wait(lambda s: s.primary not in (None, first), "somebody is chosen").primary
        assert second
        stage.sandbox.kill(second, Target.MYSQLD)
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_every_mysqld_killed_at_once(netns_stage: Stage) -> None:
    stage = netns_stage
    stage.wait_healthy()
    with stage.writing() as writer:
        for name in stage.sandbox.layout.names:
            stage.sandbox.kill(name, Target.MYSQLD)
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_leader_and_primary_killed_together(netns_stage: Stage) -> None:
    """The election and the failover at once: the next leader takes up what the view shows."""
    stage = netns_stage
    status = stage.wait_healthy()
    assert status.primary
    assert status.leader
    with stage.writing() as writer:
        stage.sandbox.kill(status.leader, Target.CONTROLLER)
        stage.sandbox.kill(status.primary, Target.MYSQLD)
        stage.wait(lambda s: s.phase == "steady" and s.leader != status.leader, "the next leader has a primary")
        stage.sandbox.start(status.leader, Target.CONTROLLER)
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_one_way_loss_from_the_primary(netns_stage: Stage) -> None:
    """The primary hears the others and cannot be heard: it is replaced, or it goes on; never both."""
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    with stage.writing() as writer:
        stage.sandbox.partition([[primary], others(stage, primary)], one_way=True)
        stage.wait_new_primary(primary)
        assert writer.wait_for(20, 60)
        stage.sandbox.heal()
        stage.wait_healthy()
    stage.verify(writer)


def test_bridge_partition(netns_stage: Stage) -> None:
    """The primary and one replica cannot hear each other; the third hears both: writes go on or move, never twice."""
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    cut = others(stage, primary)[0]
    with stage.writing() as writer:
        stage.sandbox.partition([[primary], [cut]], one_way=True)
        stage.sandbox.partition([[cut], [primary]], one_way=True)
        assert writer.wait_for(50, 90), stage.story()
        stage.sandbox.heal()
        stage.wait_healthy()
    stage.verify(writer)
