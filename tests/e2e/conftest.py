"""One cluster in network namespaces for all tests of a module, each of which leaves it healthy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.stage import Stage, stage


@pytest.fixture(scope="module")
def netns_stage(distribution: MySQLDistribution) -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.fixture(scope="module")
def calm_stage(distribution: MySQLDistribution) -> Iterator[Stage]:
    """With long leases: on a machine that is busy otherwise, the restart of a controller must not outlast one."""
    with stage(settings=("raft.election_timeout=4s",)) as made:
        yield made
