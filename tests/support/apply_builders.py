"""States that commands are applied to, and commands that several tests of `apply` share."""

from __future__ import annotations

from typing import Any

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster.apply import apply
from raftctl.cluster.rejection import Rejection
from raftctl.cluster.state import ClusterState, Phase, Settings
from tests.support.planner_builders import a_change, a_promote, a_state, applied, gtids

STEADY = a_state()
AVAILABLE = a_state(settings=Settings(durability_policy="available"))
FAILOVER = a_change(Phase.FAILOVER)
SWITCHOVER = a_change(Phase.SWITCHOVER, target="db2")
PROMOTING = applied(FAILOVER, a_promote(FAILOVER))


def a_shrink() -> c.ShrinkSyncSet:
    return c.ShrinkSyncSet(based_on=10, members=("db3",), required_acks=1)


def a_forced_membership(**changes: Any) -> c.ForceMembers:
    forced = c.ForceMembers(
        incarnation=2, survivors=("db2",), learners=("db1", "db3"), target="db2", certificate=gtids("A:1-40")
    )
    return msgspec.structs.replace(forced, **changes)


def rejection(state: ClusterState, command: c.AnyCommand) -> Rejection | None:
    after, outcome = apply(state, command, 1)
    assert outcome.applied or after is state
    return outcome.rejection
