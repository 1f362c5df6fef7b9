"""Interrupted: whoever leads next finds the next step."""

from __future__ import annotations

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster.facts import MySQLState
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner.leader import decide
from raftctl.planner.view import ClusterView
from tests.support.leader_views import (
    FOLLOWING,
    HEALTHY,
    LONG,
    STEADY,
    STOPPED,
    ask,
    down,
    fenced,
    quiet,
    reasons,
    returning,
)
from tests.support.planner_builders import (
    a_channel,
    a_replica,
    a_report,
    a_view,
    applied,
)


def test_a_failover_goes_on_from_every_step() -> None:
    """Each step is decided by a leader that knows nothing but the committed state and a fresh view."""
    state = STEADY
    state = applied(state, _decided(state, down(state), c.BeginFailover))
    assert reasons(list(decide(state, a_view(state)).refusals))
    state = applied(state, _decided(state, fenced(state, db2="A:1-100", db3="A:1-99"), c.Promote))
    assert (
        decide(state, a_view(state, reports=[a_report("db2", state=state, mysql=MySQLState.JOINING)])).command is None
    )
    state = applied(state, _decided(state, _reign_of_db2(state), c.CompletePromotion))
    back = a_report("db1", state=state, seen=STOPPED)
    state = applied(state, _decided(state, _reign_of_db2(state, back), c.Admit))
    back = a_report("db1", state=state, seen=msgspec.structs.replace(FOLLOWING, channel=a_channel(source="db2")))
    state = applied(state, _decided(state, _reign_of_db2(state, back), c.GrowSyncSet))
    assert (state.primary, state.sync_set, state.locked) == ("db2", ("db1", "db2", "db3"), ())
    assert decide(state, _reign_of_db2(state)).command is None


def _reign_of_db2(state: ClusterState, *reports: object) -> ClusterView:
    replica = a_replica(channel=a_channel(source="db2"))
    others = [a_report(m, state=state, seen=replica) for m in ("db1", "db3")]
    return a_view(state, reports=[*others, *reports])


def _decided(state: ClusterState, view: ClusterView, kind: type[c.Decision]) -> c.Decision:
    command = decide(state, view).command
    assert isinstance(command, kind), command
    return command


def test_a_switchover_goes_on_from_every_step() -> None:
    begin = ask()
    assert isinstance(begin, c.BeginSwitchover)
    state = applied(STEADY, begin)
    assert decide(state, a_view(state, version_seconds=0.1)).command is None
    state = applied(state, _decided(state, quiet(state), c.Promote))
    state = applied(state, _decided(state, _reign_of_db2(state), c.CompletePromotion))
    assert (state.primary, state.phase) == ("db2", Phase.STEADY)


def test_a_switchover_whose_primary_dies_ends_as_a_failover() -> None:
    begin = ask()
    assert isinstance(begin, c.BeginSwitchover)
    state = applied(STEADY, begin)
    state = applied(state, _decided(state, down(state), c.BeginFailover))
    assert isinstance(decide(state, fenced(state, db2="A:1-100", db3="A:1-100")).command, c.Promote)


def test_a_shrink_goes_on_from_every_step() -> None:
    state = applied(STEADY, _decided(STEADY, a_view(STEADY, receiving_ages={"db3": LONG}), c.Lockout))
    state = applied(state, _decided(state, a_view(state, missing=["db3"]), c.ShrinkSyncSet))
    state = applied(state, _decided(state, returning(state), c.Admit))
    state = applied(state, _decided(state, returning(state, FOLLOWING), c.GrowSyncSet))
    assert (state.sync_set, state.locked) == (STEADY.sync_set, ())


def test_before_the_cluster_is_bootstrapped_nothing_is_decided() -> None:
    assert decide(ClusterState(), HEALTHY).command is None
