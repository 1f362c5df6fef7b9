"""One cluster in network namespaces for all tests of a module, each of which leaves it healthy."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.stage import Stage, stage


@pytest.fixture(scope="module")
def netns_stage(distribution: MySQLDistribution) -> Iterator[Stage]:
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the ip command")
    parent = Path(tempfile.mkdtemp(prefix="rc-e2e-"))  # a unix socket's path must stay short
    try:
        with stage(parent / "s", namespaces=True) as made:
            yield made
    finally:
        shutil.rmtree(parent, ignore_errors=True)
