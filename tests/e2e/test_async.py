"""`durability: async`: a failover waits for the old lease, takes the most advanced member, and says so."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.stage import Stage, stage

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def async_stage(distribution: MySQLDistribution) -> Iterator[Stage]:
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the ip command")
    parent = Path(tempfile.mkdtemp(prefix="rc-e2e-"))  # a unix socket's path must stay short
    try:
        hook = parent / "after_promote"
        hook.write_text(f'#!/bin/sh\necho "$RAFTCTL_PRIMARY after $RAFTCTL_PREVIOUS_PRIMARY" >> {parent}/promoted\n')
        hook.chmod(0o755)
        settings = ("durability=async", f"hooks.after_promote={hook}")
        with stage(parent / "s", namespaces=True, settings=settings) as made:
            yield made
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def test_the_primarys_host_is_lost(async_stage: Stage) -> None:
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
        promoted = (stage.sandbox.directory.parent / "promoted").read_text().splitlines()
        assert promoted[-1] == f"{promote.member} after {before.primary}"
        stage.sandbox.start(before.primary, Target.HOST)
        status = stage.wait_healthy()
        assert writer.wait_for(20, 60)
    assert status.primary
    stage.wait_equal(status.primary)
