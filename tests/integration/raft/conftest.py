from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.raft_cluster import RaftCluster

ClusterFactory = Callable[..., RaftCluster]


@pytest.fixture
def raft_cluster(tmp_path: Path) -> Iterator[ClusterFactory]:
    """Starts groups of processes; none outlives the test."""
    clusters: list[RaftCluster] = []

    def start(**settings: Any) -> RaftCluster:
        cluster = RaftCluster(tmp_path, **settings)
        clusters.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in clusters:
        cluster.kill()
    for cluster in clusters:
        for member in cluster.members.values():
            assert "raftctl: fatal" not in member.log_text()
            assert "Traceback" not in member.log_text()
