"""`GET /metrics`: dashboards and alerts stand on these names, on every member alike."""

from __future__ import annotations

import dataclasses
import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from raftctl.controller.metrics import Sample, render

NAMES = {
    "raftctl_current_term",
    "raftctl_state",
    "raftctl_leader",
    "raftctl_election_count",
    "raftctl_log_index",
    "raftctl_active_nodes",
    "raftctl_primary",
    "raftctl_replicas",
    "raftctl_semi_sync_enabled",
    "raftctl_replication_lag_seconds",
}
REPLICA = Sample(
    term=3,
    role="follower",
    leader="db1",
    elections=2,
    log_index=40,
    controllers=3,
    epoch=1,
    primary="db1",
    replicas=2,
    semi_sync=True,
    lag_seconds=1.5,
)


def samples(sample: Sample) -> dict[str, float]:
    families = text_string_to_metric_families(render(sample).decode())
    return {found.name: found.value for family in families for found in family.samples}


@pytest.mark.parametrize(
    "sample",
    [
        REPLICA,
        dataclasses.replace(REPLICA, role="leader", writable=True, lag_seconds=0.0),
        dataclasses.replace(REPLICA, leader="", primary="", semi_sync=False, lag_seconds=None),
    ],
    ids=["replica", "primary", "witness without a leader"],
)
def test_every_member_has_every_metric_by_its_name(sample: Sample) -> None:
    assert set(samples(sample)) >= NAMES


def test_values() -> None:
    found = samples(REPLICA)
    assert (found["raftctl_election_count"], found["raftctl_replication_lag_seconds"]) == (2, 1.5)
    assert (found["raftctl_semi_sync_enabled"], found["raftctl_writable"]) == (1, 0)


def test_a_lag_that_nobody_knows_is_not_zero() -> None:
    assert math.isnan(samples(dataclasses.replace(REPLICA, lag_seconds=None))["raftctl_replication_lag_seconds"])
