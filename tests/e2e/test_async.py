"""`durability: async`: a failover waits for the old lease, takes the most advanced member, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.cluster.state import HistoryEntry
from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the hook writes who was promoted."""
    return tmp_path_factory.mktemp("hook") / "promoted"


@pytest.fixture(scope="module")
def async_stage(distribution: MySQLDistribution, promoted: Path) -> Iterator[Stage]:
    hook = promoted.with_name("after_promote")
    hook.write_text(f'#!/bin/sh\necho "$RAFTCTL_PRIMARY after $RAFTCTL_PREVIOUS_PRIMARY" >> {promoted}\n')
    hook.chmod(0o755)
    fence = promoted.with_name("fence")
    fence.write_text(f'#!/bin/sh\necho "$RAFTCTL_FENCE_MEMBER at $RAFTCTL_FENCE_ADDRESS" > {promoted}.fenced\n')
    fence.chmod(0o755)
    settings = ("durability=async", f"hooks.after_promote={hook}", f"hooks.fence={fence}")
    with stage(settings=settings) as made:
        yield made


def fenced_from_outside(stage: Stage) -> HistoryEntry | None:
    return next((entry for entry in stage.history() if entry.kind == "fence-from-outside"), None)


def test_the_primarys_host_is_lost(async_stage: Stage, promoted: Path) -> None:
    stage = async_stage
    before = stage.wait_healthy()
    assert before.primary
    assert before.durability.required_acks == 0
    with stage.writing() as writer:
        stage.sandbox.kill(before.primary, Target.HOST)
        stage.wait_new_primary(before.primary)
        assert writer.wait_for(20, 60), stage.story()
        promote = next(e for e in reversed(stage.history()) if e.kind == "promote")
        begin = next(e for e in reversed(stage.history()) if e.kind == "begin-failover")
        assert promote.detail["proof"] == "async-majority"
        assert f"what only {before.primary} had is lost" in promote.why
        assert promote.at_ms - begin.at_ms >= 1000 * 4, "the lease of 4 s was waited out"
        hooked = next(e for e in reversed(stage.history()) if e.kind == "hook")
        assert (hooked.member, hooked.why) == (promote.member, "after_promote: exit status 0")
        assert promoted.read_text().splitlines()[-1] == f"{promote.member} after {before.primary}"
        told = wait_until(lambda: fenced_from_outside(stage), what="the attempt to fence is in the history", timeout=90)
        assert (told.member, told.why) == (before.primary, "fenced: exit status 0")
        address = stage.cluster.inventory.host(before.primary).address
        assert promoted.with_name("promoted.fenced").read_text() == f"{before.primary} at {address}\n"
        stage.sandbox.start(before.primary, Target.HOST)
        status = stage.wait_healthy()
        assert writer.wait_for(20, 60)
    assert status.primary
    stage.wait_equal(status.primary)
