"""A short chaos run, from a fixed seed. `make chaos MINUTES=20` is a long one."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from raftctl.sandbox.distribution import MySQLDistribution
from tests.chaos.run import Plan, Run, summary, tell
from tests.support import disk

MINUTES = 2.0
SEED = int(os.environ.get("RAFTCTL_CHAOS_SEED", "1"))

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(1200)]


def test_nothing_acknowledged_is_lost_whatever_happens(distribution: MySQLDistribution) -> None:
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the ip command")
    directory = Path(tempfile.mkdtemp(prefix="rc-chaos-"))
    result = Run(Plan(seed=SEED, minutes=MINUTES, disks=disk.can_be_had()), directory, tell).run()
    assert not result.violations, summary(result, directory)
    assert result.counts.acknowledged > 100
    shutil.rmtree(directory)  # kept after a failure: it explains itself
