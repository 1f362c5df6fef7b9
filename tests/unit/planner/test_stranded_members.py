"""A member of the sync set that only a CLONE can help leaves it, also under `strict` when it is needed there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftctl.cluster import commands as c
from raftctl.cluster.apply import Outcome, apply
from raftctl.cluster.facts import MemberReport
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.rejection import Rejection
from raftctl.cluster.state import ClusterState, Phase, Settings
from raftctl.planner import local
from raftctl.planner.leader import decide
from raftctl.planner.local import decide_local, promised_epoch
from raftctl.planner.sync_set import GONE_SECONDS
from raftctl.planner.view import ClusterView
from tests.support.leader_views import LONG
from tests.support.planner_builders import (
    a_change,
    a_channel,
    a_context,
    a_purged_channel,
    a_replica,
    a_report,
    a_semi_sync,
    a_source,
    a_state,
    a_view,
    gtids,
)

PAIR = a_state(data=2)
LOCKED = a_state(data=2, locked=("db2",))
PURGED = a_replica(channel=a_purged_channel())
WIPED = a_replica(executed="", channel=None)


def stranded(state: ClusterState) -> MemberReport:
    report = a_report("db2", state=state, seen=PURGED)
    assert report.mysql is not None
    return msgspec.structs.replace(report, mysql=msgspec.structs.replace(report.mysql, stranded="purged"))


def seen_by_leader(state: ClusterState, source: MySQLObservation | None = None, **primary: object) -> ClusterView:
    reports = [stranded(state), a_report("db1", state=state, seen=source, **primary)]
    return a_view(state, reports=reports, receiving_ages={"db2": LONG})


@pytest.mark.parametrize("seen", [PURGED, WIPED], ids=["purged", "wiped"])
def test_it_says_that_it_has_to_leave_s(seen: MySQLObservation) -> None:
    plan = decide_local(PAIR, "db2", seen, a_context())
    assert plan.stranded
    assert not any(isinstance(action, local.Rebuild) for action in plan.actions)


def test_outside_of_s_it_is_rebuilt() -> None:
    state = a_state(data=2, sync_set=("db1",))
    seen = a_replica(executed="", channel=None, semi_sync=a_semi_sync(replica_enabled=False))
    (rebuild,) = decide_local(state, "db2", seen, a_context()).actions
    assert isinstance(rebuild, local.Rebuild)


def test_without_its_data_it_promises_nothing() -> None:
    """Its report would pass for one of a member that holds what it acknowledged (rule R3)."""
    state = a_change(Phase.FAILOVER)
    context = a_context(stopped_epoch=state.epoch)
    stopped = a_replica(channel=a_channel(receiver="OFF"))
    assert promised_epoch(state, "db2", stopped, context) == state.epoch
    assert promised_epoch(state, "db2", WIPED, context) == 0


def a_failover_with(held: str) -> ClusterState:
    return a_change(Phase.FAILOVER, floor=gtids("A:1-100"), held={"db2": gtids(held)})


@pytest.mark.parametrize(
    ("executed", "promises"),
    [("A:1-50", True), ("A:1-20", False), ("F:1-9", False), ("F:1-9,A:51-60", False)],
    ids=["behind, as it may be", "restored from a backup", "installed anew, and used", "and receiving again"],
)
def test_it_promises_only_with_what_it_held_when_it_joined(executed: str, promises: bool) -> None:
    state = a_failover_with("A:1-50")
    seen = a_replica(executed=executed, channel=a_channel(receiver="OFF"))
    assert bool(promised_epoch(state, "db2", seen, a_context(stopped_epoch=state.epoch))) is promises


def test_a_server_made_anew_is_noticed_when_nobody_knows_what_it_held() -> None:
    state = a_change(Phase.FAILOVER)
    used = a_replica(executed="F:1-9", channel=a_channel(receiver="OFF"))
    assert promised_epoch(state, "db2", used, a_context(stopped_epoch=state.epoch)) == 0


def test_a_relieved_primary_without_the_floor_proves_nothing() -> None:
    """Its own set would pass for all that was acknowledged."""
    state = a_change(Phase.FAILOVER)
    for executed, promise in (("A:1-50", state.epoch), ("A:1-49", 0), ("F:1-9", 0)):
        seen = a_replica(executed=executed, channel=None, semi_sync=a_semi_sync(replica_enabled=False))
        assert promised_epoch(state, "db1", seen, a_context(stopped_epoch=state.epoch)) == promise


def test_one_with_older_data_leaves_s_and_then_catches_up() -> None:
    older = a_replica(executed="A:1-20")
    assert decide_local(a_state(held={"db2": gtids("A:1-50")}), "db2", older, a_context()).stranded
    plan = decide_local(a_state(sync_set=("db1", "db3")), "db2", older, a_context(primary_executed=gtids("A:1-100")))
    assert not any(isinstance(action, local.Rebuild) for action in plan.actions)


def test_it_is_locked_out_although_nobody_else_can_acknowledge() -> None:
    command = decide(PAIR, seen_by_leader(PAIR)).command
    assert isinstance(command, c.Lockout)
    assert command.member == "db2"


TRIO = a_state()
AFTER = a_state(locked=("db2",))
BOTH = a_state(locked=("db2", "db3"))


def with_db3_gone(state: ClusterState, *, away: float = 3600.0, **changes: Any) -> ClusterView:
    source = a_source(clients=0)
    reports = [stranded(state), a_report("db1", state=state, seen=source)]
    ages = {"db2": LONG, "db3": away}
    return a_view(state, **({"reports": reports, "missing": ["db3"], "receiving_ages": ages} | changes))


def test_with_the_third_one_gone_it_is_locked_out_first() -> None:
    command = decide(TRIO, with_db3_gone(TRIO)).command
    assert isinstance(command, c.Lockout)
    assert command.member == "db2"


def test_who_is_gone_stands_in_the_way_and_is_locked_out_then() -> None:
    command = decide(AFTER, with_db3_gone(AFTER)).command
    assert isinstance(command, c.Lockout)
    assert command.member == "db3"


def test_both_leave_together_and_what_the_primary_has_becomes_the_floor() -> None:
    command = decide(BOTH, with_db3_gone(BOTH)).command
    assert isinstance(command, c.ShrinkSyncSet)
    assert (command.members, command.required_acks, command.floor) == (("db2", "db3"), 1, gtids("A:1-100"))
    after, outcome = apply(BOTH, command, 1)
    assert outcome == Outcome()
    assert (after.sync_set, after.required_acks) == (("db1",), 1)


def acknowledges(state: ClusterState) -> MemberReport:
    """It is only this leader that does not hear db3."""
    return a_report("db1", state=state, seen=a_source(clients=1))


@pytest.mark.parametrize(
    "view",
    [
        with_db3_gone(AFTER, listening=GONE_SECONDS - 1),
        with_db3_gone(AFTER, reports=[stranded(AFTER), acknowledges(AFTER)]),
        with_db3_gone(AFTER, reports=[a_report("db2", state=AFTER), acknowledges(AFTER)]),
    ],
    ids=["not long enough", "the primary still has it", "nobody has to be rebuilt"],
)
def test_who_is_gone_stays_in_s(view: ClusterView) -> None:
    command = decide(AFTER, view).command
    assert not isinstance(command, c.Lockout)


def test_one_that_comes_back_in_time_is_admitted_and_acknowledges_again() -> None:
    stopped = a_replica(channel=a_channel(receiver="OFF"))
    reports = [
        stranded(BOTH),
        a_report("db1", state=BOTH, seen=a_source(clients=0)),
        a_report("db3", state=BOTH, seen=stopped),
    ]
    command = decide(BOTH, with_db3_gone(BOTH, reports=reports, missing=[])).command
    assert isinstance(command, c.Admit)
    assert command.member == "db3"


def test_what_the_primary_has_becomes_the_floor() -> None:
    command = decide(LOCKED, seen_by_leader(LOCKED)).command
    assert isinstance(command, c.ShrinkSyncSet)
    assert (command.members, command.required_acks, command.floor) == (("db2",), 1, gtids("A:1-100"))
    after, outcome = apply(LOCKED, command, 1)
    assert outcome == Outcome()
    assert (after.sync_set, after.required_acks, after.floor) == (("db1",), 1, gtids("A:1-100"))


@pytest.mark.parametrize(
    "view",
    [
        seen_by_leader(LOCKED, a_source(owned="A:101", waiting=1)),
        seen_by_leader(LOCKED, locked=()),
        seen_by_leader(LOCKED, source_acks=None),
        seen_by_leader(LOCKED, version=LOCKED.version - 1),
    ],
    ids=["a commit waits", "not locked yet", "not known what it waits for", "of an earlier state"],
)
def test_not_before_nothing_can_be_acknowledged(view: ClusterView) -> None:
    assert decide(LOCKED, view).command is None


def test_commits_that_nobody_can_acknowledge_end_with_an_error() -> None:
    waiting = a_source(owned="A:101", waiting=1, clients=0)
    context = a_context(locked=("db2",), commits_stand_still=True)
    (action,) = decide_local(LOCKED, "db1", waiting, context).actions
    assert isinstance(action, local.Fence)
    lowering = a_state(data=2, locked=("db2",), settings=Settings(durability_policy="available"))
    assert not any(isinstance(a, local.Fence) for a in decide_local(lowering, "db1", waiting, context).actions)


@pytest.mark.parametrize(
    ("state", "floor"),
    [
        (LOCKED, GTIDSet()),
        (LOCKED, gtids("A:1-49")),
        (a_state(data=2, locked=("db2",), settings=Settings(durability_policy="available")), gtids("A:1-100")),
    ],
    ids=["no floor", "a lower floor", "available"],
)
def test_the_log_takes_no_shorter_s_without_a_higher_floor(state: ClusterState, floor: GTIDSet) -> None:
    command = c.ShrinkSyncSet(based_on=state.version, members=("db2",), required_acks=1, floor=floor)
    assert apply(state, command, 1)[1].rejection is Rejection.INVALID_SET
