"""`sandbox up --driver docker`: the same command line and the same faults, on hosts that are containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftctl.sandbox.cluster import Target
from tests.support.container_hosts import require_engine, require_images
from tests.support.container_image import BASE, docker
from tests.support.stage import Stage, stage

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


def what_is_there(tag: str) -> str:
    label = f"label=raftctl.sandbox={tag}"
    return docker("ps", "--all", "--quiet", "--filter", label) + docker("network", "ls", "--quiet", "--filter", label)


@pytest.fixture(scope="module")
def docker_stage() -> Iterator[Stage]:
    """Two data members and a witness."""
    require_engine()
    require_images()
    with stage(namespaces=False, nodes=2, witnesses=1, settings=("durability_policy=available",), image=BASE) as made:
        tag = made.sandbox.layout.tag
        assert what_is_there(tag)
        yield made
    assert what_is_there(tag) == "", "`down --purge` removes everything"


@pytest.mark.long
def test_a_host_without_power_is_replaced_and_returns(docker_stage: Stage) -> None:
    stage = docker_stage
    old = stage.wait_healthy().primary
    assert old
    with stage.writing() as writer:
        stage.sandbox.kill(old, Target.HOST)
        stage.wait_new_primary(old)
        assert writer.wait_for(20, 60), stage.story()
        stage.sandbox.start(old, Target.HOST)
        stage.wait_healthy()
    stage.verify(writer)


def test_a_partition_fails_over_and_heals(docker_stage: Stage) -> None:
    stage = docker_stage
    old = stage.wait_healthy().primary
    assert old
    with stage.writing() as writer:
        stage.sandbox.partition([[old]], one_way=False)
        try:
            stage.wait_new_primary(old)
            assert writer.wait_for(20, 60), stage.story()
        finally:
            stage.sandbox.heal()
        stage.wait_healthy()
    stage.verify(writer)


@pytest.mark.long
def test_units_are_killed_frozen_and_started(docker_stage: Stage) -> None:
    stage = docker_stage
    primary = stage.wait_healthy().primary
    assert primary
    replica = next(row.name for row in stage.status().members if row.name != primary and row.role == "data")
    with stage.writing() as writer:
        stage.sandbox.kill(replica, Target.MYSQLD)
        stage.sandbox.freeze("w1", Target.HOST)
        stage.sandbox.thaw("w1", Target.HOST)
        stage.sandbox.kill("w1", Target.CONTROLLER)
        stage.wait(lambda s: s.health != "ok", "the witness is missed")
        stage.sandbox.start("w1", Target.CONTROLLER)
        stage.wait_healthy()
        stage.sandbox.freeze(primary, Target.MYSQLD)
        stage.wait_new_primary(primary)
        assert writer.wait_for(20, 60), stage.story()
    stage.verify(writer)
