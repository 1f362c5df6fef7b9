"""The planned change of primary, and what a person may ask for."""

from __future__ import annotations

import pytest

from raftctl.cluster import commands as c
from raftctl.cluster.facts import MySQLState
from raftctl.cluster.state import Pause
from raftctl.planner.leader import decide
from raftctl.planner.switchover import HAND_OVER_SECONDS, request_failover, request_switchover
from raftctl.planner.view import ClusterView
from tests.support.leader_views import (
    STEADY,
    SWITCHOVER,
    down,
    quiet,
)
from tests.support.planner_builders import (
    a_member,
    a_report,
    a_source,
    a_state,
    a_view,
)


def test_a_switchover_goes_to_the_highest_priority() -> None:
    state = a_state(members=[a_member("db1"), a_member("db2"), a_member("db3", priority=1)])
    command = request_switchover(state, a_view(state), by="ann")
    assert isinstance(command, c.BeginSwitchover)
    assert (command.target, command.by) == ("db3", "ann")


def test_the_target_is_promoted_once_it_holds_what_the_primary_has() -> None:
    promote = decide(SWITCHOVER, quiet(SWITCHOVER)).command
    assert isinstance(promote, c.Promote)
    assert (promote.target, promote.proof, promote.reporters) == ("db2", c.Proof.PRIMARY_FENCED, ("db1", "db2"))
    assert (promote.sync_set, promote.locked) == (SWITCHOVER.sync_set, ())


@pytest.mark.parametrize(
    "view",
    [
        a_view(SWITCHOVER, version_seconds=1.0, missing=["db2"]),
        a_view(SWITCHOVER, version_seconds=1.0, reports=[a_report("db2", state=SWITCHOVER, mysql=MySQLState.DOWN)]),
        a_view(SWITCHOVER, version_seconds=HAND_OVER_SECONDS + 1),
    ],
    ids=["target silent", "target down", "takes too long"],
)
def test_a_switchover_that_cannot_end_is_given_up(view: ClusterView) -> None:
    assert isinstance(decide(SWITCHOVER, view).command, c.AbortSwitchover)


@pytest.mark.parametrize("view", [down(SWITCHOVER), a_view(SWITCHOVER, missing=["db1"])], ids=["down", "silent"])
def test_a_primary_lost_in_a_switchover_is_failed_over(view: ClusterView) -> None:
    assert isinstance(decide(SWITCHOVER, view).command, c.BeginFailover)


def test_a_person_may_fail_over_a_primary_that_does_not_serve() -> None:
    view = a_view(STEADY, reports=[a_report("db1", state=STEADY, seen=a_source(offline_mode=True))])
    command = request_failover(STEADY, view, target="db3", by="ann")
    assert isinstance(command, c.BeginFailover)
    assert (command.cause, command.target, command.by) == (c.Cause.REQUESTED, "db3", "ann")


def test_a_person_may_fail_over_while_paused() -> None:
    state = a_state(paused=Pause("upgrade", "ann", 0))
    assert isinstance(request_failover(state, down(state), by="ann"), c.BeginFailover)
