"""Whether mysqld may start: who waits for what, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from raftctl.cluster.state import ClusterState, Pause, Phase, Settings
from raftctl.planner.gate import CHANGE_SECONDS, GRACE_SECONDS, Compare, Start, Wait, decide_gate
from tests.support.member_facts import cluster_state

FAILOVER: dict[str, Any] = {"phase": Phase.FAILOVER, "epoch": 5, "primary": "", "previous_primary": "db1"}


def state(**changes: Any) -> ClusterState:
    return cluster_state(**changes)


@pytest.mark.parametrize(
    ("me", "now", "waited", "kind"),
    [
        ("db1", ClusterState(), 0.0, Start),  # not bootstrapped
        # the primary: the leader fails over at once if it can
        ("db1", state(), 0.0, Wait),
        ("db1", state(), GRACE_SECONDS, Start),
        ("db1", state(sync_set=("db1",), required_acks=0), 0.0, Start),
        ("db1", state(settings=Settings(failover_automatic=False)), 0.0, Start),
        ("db1", state(paused=Pause(reason="", by="", at_ms=0)), 0.0, Start),
        # a failover is under way: the previous primary waits for the next one, for as long as it may not be needed
        ("db1", state(**FAILOVER), 0.0, Wait),
        ("db1", state(**FAILOVER), CHANGE_SECONDS, Start),
        ("db2", state(**FAILOVER), 0.0, Start),
        ("db3", state(**FAILOVER, sync_set=("db1", "db2")), 100.0, Wait),
        # another primary
        ("db2", state(), 0.0, Start),
        ("db1", state(primary="db2", sync_set=("db2", "db3")), 0.0, Compare),
        ("db1", state(primary="db2", phase=Phase.PROMOTING, sync_set=("db2", "db3")), 0.0, Compare),
        ("db9", state(), 0.0, Compare),  # asynchronous, or no member any more
    ],
)
def test_who_may_start(me: str, now: ClusterState, waited: float, kind: type) -> None:
    assert isinstance(decide_gate(now, me, waited=waited), kind)


def test_compared_with_the_primary_of_now() -> None:
    now = state(primary="db2", previous_primary="db1", sync_set=("db2", "db3"))
    assert decide_gate(now, "db1", waited=0.0) == Compare("db2")
