"""Membership: what is refused and why, and that every leader finds the next step of what the log holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from raftctl.cluster import commands as c
from raftctl.cluster.apply import apply
from raftctl.cluster.facts import MemberReport, MySQLState
from raftctl.cluster.state import ClusterState, Member, MemberRole, Phase, Settings
from raftctl.planner.leader import Verdict, decide
from raftctl.planner.membership import (
    Reshape,
    advance,
    request_add,
    request_rebuild,
    request_rejoin,
    request_removal,
    request_set,
    steps,
)
from raftctl.planner.refusal import Reason, Refusal
from raftctl.planner.switchover import request_switchover
from raftctl.planner.view import ClusterView
from tests.support.planner_builders import (
    UUIDS,
    a_change,
    a_channel,
    a_member,
    a_replica,
    a_report,
    a_semi_sync,
    a_state,
    a_view,
    applied,
    gtids,
)

STEADY = a_state()
TWO = a_state(members=[a_member("db1"), a_member("db2"), a_member("w1", role=MemberRole.WITNESS)])
NEW = msgspec.structs.replace(a_member("db4"), uid="f00d")
LEAVING = a_state(leaving="db3")
JOINING = applied(STEADY, c.AddMember(based_on=10, member=NEW))
REBUILDING = a_state(rebuilds={"db3": UUIDS["B"]})


def seen(
    state: ClusterState, *, voters: tuple[str, ...] = (), learners: tuple[str, ...] = (), **view: Any
) -> ClusterView:
    """Everybody is there; Raft's voters are by default the members."""
    view.setdefault("reports", [])
    witnesses = [
        MemberReport(member=m.name, seq=1, version=state.version, epoch=state.epoch)
        for m in state.members.values()
        if m.role is MemberRole.WITNESS
    ]
    made = a_view(state, **(view | {"reports": [*witnesses, *view["reports"]]}))
    return msgspec.structs.replace(made, voters=voters or tuple(sorted(state.members)), learners=learners)


def removal(state: ClusterState, name: str, **view: Any) -> c.BeginRemoval | list[Refusal]:
    return request_removal(state, seen(state, **view), name, by="dba")


def rebuild(state: ClusterState, name: str, **view: Any) -> c.BeginRebuild | list[Refusal]:
    return request_rebuild(state, seen(state, **view), name, by="dba")


def rejoin(state: ClusterState, name: str, **view: Any) -> c.CancelRemoval | c.Admit | list[Refusal]:
    return request_rejoin(state, seen(state, **view), name, by="dba")


def set_role(state: ClusterState, name: str, role: MemberRole, **view: Any) -> c.SetMember | list[Refusal]:
    return request_set(state, seen(state, **view), name, role=role, by="dba")


# --- refused ----------------------------------------------------------------------------------------

WITH_ASYNC = a_state(
    members=[*(a_member(f"db{i}") for i in (1, 2, 3)), a_member("db4", role=MemberRole.ASYNC)],
    sync_set=("db1", "db2", "db3"),
)
DURABILITY_2 = a_state(settings=Settings(durability="2"), required_acks=2)
DOWN = a_report("db3", state=STEADY, mysql=MySQLState.DOWN)
LOST = a_report("db3", state=STEADY, seen=a_replica(channel=a_channel(receiver="CONNECTING")), mysql=MySQLState.JOINING)
ERRANT = a_report("db3", state=STEADY, errant="C:1")
OUT = a_state(sync_set=("db1", "db2"), locked=("db3",))
ALONE = a_state(data=1)

# What would keep controllers from connecting, from making its account, or from starting again, once it is in the log.
INVALID: list[tuple[str, Any]] = [
    *(("name", name) for name in ("", "x" * 20, "db'4", "db 4", "-db4", "db4\n")),
    *(
        ("raft", address)
        for address in ("", "db4", "db4:", "db4:port", "db4:0", "db4:65536", ":8007", "a/b:1", "db4:1\n")
    ),
    ("api", "::1:8008"),
    ("mysql", None),
    ("mysql", "db4:3306x"),
    ("role", MemberRole.WITNESS),
    ("uid", ""),
    ("zone", "a" * 256),
    ("priority", 1 << 70),
]

REFUSALS: dict[str, tuple[Reason, Callable[[], object]]] = {
    "add before bootstrap": (Reason.NOT_INITIALIZED, lambda: request_add(ClusterState(), NEW, by="dba")),
    "add during a failover": (
        Reason.CHANGE_UNDER_WAY,
        lambda: request_add(a_change(Phase.FAILOVER), NEW, by="dba"),
    ),
    "add during a promotion": (
        Reason.CHANGE_UNDER_WAY,
        lambda: request_add(a_state(phase=Phase.PROMOTING), NEW, by="dba"),
    ),
    "add a member": (Reason.ALREADY_A_MEMBER, lambda: request_add(STEADY, a_member("db2"), by="dba")),
    "add at another's address": (
        Reason.ADDRESS_IN_USE,
        lambda: request_add(STEADY, msgspec.structs.replace(NEW, api="db2:8008"), by="dba"),
    ),
    **{
        f"add one with {field} {value!r:.40}": (
            Reason.INVALID_MEMBER,
            partial(request_add, STEADY, msgspec.structs.replace(NEW, **{field: value}), by="dba"),
        )
        for field, value in INVALID
    },
    "set a priority that no log could hold": (
        Reason.INVALID_MEMBER,
        lambda: request_set(STEADY, seen(STEADY), "db3", priority=1 << 70, by="dba"),
    ),
    "set a zone of two lines": (
        Reason.INVALID_MEMBER,
        lambda: request_set(STEADY, seen(STEADY), "db3", zone="a\nb", by="dba"),
    ),
    "remove a stranger": (Reason.UNKNOWN_MEMBER, lambda: removal(STEADY, "db9")),
    "remove twice": (Reason.ALREADY_UNDER_WAY, lambda: removal(LEAVING, "db3")),
    "remove two at once": (Reason.CHANGE_UNDER_WAY, lambda: removal(LEAVING, "db2")),
    "remove the only one": (Reason.LAST_MEMBER, lambda: removal(ALONE, "db1")),
    "remove while another voter is away": (
        Reason.WOULD_LOSE_QUORUM,
        lambda: removal(STEADY, "db2", missing=["db3"]),
    ),
    "remove the last replica": (Reason.WOULD_LOSE_DURABILITY, lambda: removal(TWO, "db2")),
    "remove the primary with one replica": (Reason.WOULD_LOSE_DURABILITY, lambda: removal(TWO, "db1")),
    "remove one of as many as must acknowledge": (Reason.WOULD_LOSE_DURABILITY, lambda: removal(DURABILITY_2, "db3")),
    "remove one while another does not receive": (
        Reason.WOULD_LOSE_DURABILITY,
        lambda: removal(STEADY, "db2", reports=[LOST]),
    ),
    "remove a primary that cannot hand over": (
        Reason.NO_TARGET,
        lambda: removal(STEADY, "db1", reports=[LOST, a_report("db2", state=STEADY, errant="C:1")]),
    ),
    "rebuild the primary": (Reason.ALREADY_PRIMARY, lambda: rebuild(STEADY, "db1")),
    "rebuild a witness": (Reason.NOT_A_DATA_MEMBER, lambda: rebuild(TWO, "w1")),
    "rebuild twice": (Reason.ALREADY_UNDER_WAY, lambda: rebuild(REBUILDING, "db3")),
    "rebuild one that leaves": (Reason.ALREADY_UNDER_WAY, lambda: rebuild(LEAVING, "db3")),
    "rebuild a silent one": (Reason.NOT_REPORTING, lambda: rebuild(STEADY, "db3", missing=["db3"])),
    "rebuild a dead mysqld": (Reason.MYSQLD_DOWN, lambda: rebuild(STEADY, "db3", reports=[DOWN])),
    "rebuild the only one that acknowledges": (Reason.WOULD_LOSE_DURABILITY, lambda: rebuild(TWO, "db2")),
    "make the primary async": (Reason.ALREADY_PRIMARY, lambda: set_role(STEADY, "db1", MemberRole.ASYNC)),
    "make the last replica async": (Reason.WOULD_LOSE_DURABILITY, lambda: set_role(TWO, "db2", MemberRole.ASYNC)),
    "make one async while another is removed": (
        Reason.CHANGE_UNDER_WAY,
        lambda: set_role(LEAVING, "db2", MemberRole.ASYNC),
    ),
    "give a witness data": (Reason.INVALID_ROLE, lambda: set_role(TWO, "w1", MemberRole.DATA)),
    "take the data of a member": (Reason.INVALID_ROLE, lambda: set_role(STEADY, "db3", MemberRole.WITNESS)),
    "let a silent one acknowledge": (
        Reason.NOT_REPORTING,
        lambda: set_role(WITH_ASYNC, "db4", MemberRole.DATA, missing=["db4"]),
    ),
    "set a stranger": (Reason.UNKNOWN_MEMBER, lambda: set_role(STEADY, "db9", MemberRole.DATA)),
    "rejoin with errant transactions": (
        Reason.ERRANT_TRANSACTIONS,
        lambda: rejoin(STEADY, "db3", reports=[ERRANT]),
    ),
    "rejoin while it leaves S": (Reason.LOCKED_OUT, lambda: rejoin(OUT, "db3")),
    "rejoin one that does not connect": (Reason.NOT_REPLICATING, lambda: rejoin(STEADY, "db3", reports=[LOST])),
}


@pytest.mark.parametrize(("reason", "result"), REFUSALS.values(), ids=REFUSALS)
def test_refusal(reason: Reason, result: Callable[[], object]) -> None:
    refused = result()
    assert isinstance(refused, list)
    assert reason in {refusal.reason for refusal in refused}


# --- granted ----------------------------------------------------------------------------------------


def test_a_dead_member_outside_the_sync_set_may_be_removed() -> None:
    state = a_state(sync_set=("db1", "db2"), locked=("db3",))
    assert isinstance(removal(state, "db3", missing=["db3"]), c.BeginRemoval)


def test_available_lets_the_last_replica_go() -> None:
    state = msgspec.structs.replace(TWO, settings=Settings(durability_policy="available"))
    assert isinstance(removal(state, "db2"), c.BeginRemoval)


def test_a_rejoin_calls_a_removal_off() -> None:
    assert rejoin(LEAVING, "db3") == c.CancelRemoval(based_on=10, member="db3", why="requested by dba", by="dba")


def test_a_rejoin_of_a_replica_changes_nothing() -> None:
    assert rejoin(STEADY, "db3") == []


def test_a_rejoin_admits_what_cannot_acknowledge_by_mistake() -> None:
    silent = a_replica(channel=None, semi_sync=a_semi_sync(replica_enabled=False))
    report = a_report("db3", state=OUT, seen=silent, mysql=MySQLState.JOINING)
    assert rejoin(OUT, "db3", reports=[report]) == c.Admit(based_on=10, member="db3", by="dba")


def test_every_request_says_what_would_be_done() -> None:
    requests = [
        request_add(STEADY, NEW, by="dba"),
        removal(STEADY, "db1"),
        rebuild(STEADY, "db3"),
        rejoin(LEAVING, "db3"),
        set_role(STEADY, "db3", MemberRole.ASYNC),
        request_set(STEADY, seen(STEADY), "db1", zone="b", priority=3, by="dba"),
        c.Admit(based_on=10, member="db3"),
    ]
    assert all(not isinstance(r, list) and steps(STEADY, r) for r in requests)
    wanted = set_role(WITH_ASYNC, "db4", MemberRole.DATA, reports=[a_report("db4", state=WITH_ASYNC)])
    assert isinstance(wanted, c.SetMember)
    assert steps(WITH_ASYNC, wanted) == ("db4 has the role data and joins the sync set",)


# --- step by step -----------------------------------------------------------------------------------


def step(state: ClusterState, view: ClusterView) -> tuple[ClusterState, Verdict]:
    """What a leader that knows nothing but state and view does, and the state after it."""
    verdict = decide(state, view)
    if verdict.command is not None:
        state, outcome = apply(state, verdict.command, 99)
        assert outcome.applied, (verdict, outcome)
    return state, verdict


def kinds(state: ClusterState, view: ClusterView) -> str:
    _, verdict = step(state, view)
    return type(verdict.command or verdict.reshape).__name__


def silent_replica(name: str, state: ClusterState) -> MemberReport:
    """One that does not acknowledge and replicates from nobody yet."""
    observation = a_replica(channel=None, semi_sync=a_semi_sync(replica_enabled=False))
    return a_report(name, state=state, seen=observation, mysql=MySQLState.JOINING)


def test_a_new_member_is_a_learner_first_then_a_voter_then_in_the_sync_set() -> None:
    state, four = JOINING, ("db1", "db2", "db3", "db4")
    assert (state.joining, state.locked, state.required_acks) == (("db4",), ("db4",), 1)
    three = ("db1", "db2", "db3")
    assert advance(state, seen(state, voters=three, missing=["db4"])) == Reshape(three, ("db4",))
    waits = seen(state, voters=three, learners=("db4",), missing=["db4"])
    assert advance(state, waits) is None  # nothing was heard of it
    behind = msgspec.structs.replace(silent_replica("db4", state), version=state.version - 1)
    assert advance(state, seen(state, voters=three, learners=("db4",), reports=[behind])) is None
    caught_up = seen(state, voters=three, learners=("db4",), reports=[silent_replica("db4", state)])
    assert advance(state, caught_up) == Reshape(four, ())
    state, verdict = step(state, seen(state, voters=four, reports=[silent_replica("db4", state)]))
    assert isinstance(verdict.command, c.Admit)
    state, verdict = step(state, seen(state))
    assert isinstance(verdict.command, c.GrowSyncSet)
    assert state.required_acks == 1  # a member that still joins does not count
    state, verdict = step(state, seen(state))
    assert isinstance(verdict.command, c.CompleteJoin)
    assert kinds(state, seen(state)) == "ChangeAcks"  # four data members: two acknowledgements are a majority


def test_a_failover_does_not_ask_for_a_joiners_acknowledgement() -> None:
    state = applied(JOINING, c.BeginFailover(based_on=JOINING.version, cause=c.Cause.MYSQLD_DEAD))
    reports = [a_report(m, state=state, fenced=True, mysql=MySQLState.FENCED) for m in ("db2", "db3")]
    verdict = decide(state, seen(state, missing=["db1", "db4"], reports=reports))
    assert isinstance(verdict.command, c.Promote)
    assert (verdict.command.required_acks, verdict.command.locked) == (1, ("db1", "db4"))


def test_a_witness_and_an_async_member_join_when_they_do_their_duty() -> None:
    for role in (MemberRole.WITNESS, MemberRole.ASYNC):
        member = msgspec.structs.replace(a_member("x1", role=role), uid="f00d")
        state = applied(STEADY, c.AddMember(based_on=10, member=member))
        assert state.locked == ()
        missing = seen(state, voters=("db1", "db2", "db3", "x1"), missing=["x1"])
        assert advance(state, missing) is None
        there = seen(state, reports=[a_report("x1", state=state)] if role is MemberRole.ASYNC else [])
        assert advance(state, there) == c.CompleteJoin(based_on=11, member="x1")


def test_a_replica_leaves_the_sync_set_then_raft_then_the_cluster() -> None:
    state = LEAVING
    state, verdict = step(state, seen(state))
    assert isinstance(verdict.command, c.Lockout)
    state, verdict = step(state, seen(state))
    assert isinstance(verdict.command, c.ShrinkSyncSet)
    assert decide(state, seen(state)).reshape == Reshape(("db1", "db2"), ())
    state, verdict = step(state, seen(state, voters=("db1", "db2")))
    assert verdict.command == c.RemoveMember(based_on=12, member="db3")
    assert (state.data_members, state.locked, state.leaving) == (("db1", "db2"), (), "")
    assert decide(state, seen(state)) == Verdict()


def test_the_sync_set_is_kept_while_raft_does_not_let_a_member_go() -> None:
    """db3 has left S, then db2 is lost: Raft keeps db3 until db2 is back, and writes must not wait for that."""
    settings = Settings(durability_policy="available")
    state = a_state(leaving="db3", sync_set=("db1", "db2"), locked=("db3",), settings=settings)
    verdict = decide(state, seen(state, missing=["db2"]))
    assert verdict.reshape == Reshape(("db1", "db2"), ())
    assert isinstance(verdict.command, c.Lockout)


def test_a_removal_that_waits_does_not_keep_away_the_member_that_it_waits_for() -> None:
    """db2 was lost just after the removal of db3 was begun: only the new db4 could acknowledge in db3's place."""
    state = applied(LEAVING, c.AddMember(based_on=10, member=NEW))
    three = ("db1", "db2", "db3")
    verdict = decide(state, seen(state, voters=three, missing=["db2", "db4"]))
    assert verdict.reshape == Reshape(three, ("db4",))
    there = [silent_replica("db4", state)]
    verdict = decide(state, seen(state, voters=three, learners=("db4",), missing=["db2"], reports=there))
    assert verdict.reshape == Reshape((*three, "db4"), ())


def test_a_member_that_leaves_does_not_come_back_to_raft() -> None:
    state = a_state(leaving="db3")
    assert advance(state, seen(state, voters=("db1", "db2"))) is None
    assert advance(state, seen(state, voters=("db1", "db2"), learners=("db3",))) is None


def test_a_member_that_leaves_is_not_admitted_again() -> None:
    state = a_state(leaving="db3", sync_set=("db1", "db2"), locked=("db3",))
    assert kinds(state, seen(state, reports=[silent_replica("db3", state)])) == "Reshape"


def test_the_primary_hands_over_before_it_leaves() -> None:
    state = a_state(leaving="db1")
    state, verdict = step(state, seen(state))
    assert isinstance(verdict.command, c.BeginSwitchover)
    assert verdict.command.target == "db2"


def test_a_hand_over_that_was_aborted_ends_the_removal() -> None:
    state = applied(
        a_state(leaving="db1"),
        c.BeginSwitchover(based_on=10, target="db2"),
        c.AbortSwitchover(based_on=11, why="not done in time"),
    )
    assert (state.primary, state.leaving) == ("db1", "")


def test_k_is_lowered_before_the_member_that_it_needs_leaves() -> None:
    """All three acknowledge; of two, one can: k first, or the leaver could never be done without."""
    state = a_state(settings=Settings(durability="all"), required_acks=2, leaving="db3")
    state, verdict = step(state, seen(state))
    assert isinstance(verdict.command, c.ChangeAcks)
    assert state.required_acks == 1
    assert kinds(state, seen(state)) == "Lockout"


def test_a_member_to_be_rebuilt_leaves_the_sync_set_and_is_admitted_for_its_clone() -> None:
    state = a_state(rebuilds={"db3": UUIDS["B"]})
    state, verdict = step(state, seen(state))
    assert isinstance(verdict.command, c.Lockout)
    state, verdict = step(state, seen(state))
    assert isinstance(verdict.command, c.ShrinkSyncSet)
    state, verdict = step(state, seen(state, reports=[silent_replica("db3", state)]))
    assert isinstance(verdict.command, c.Admit)
    assert decide(state, seen(state)) == Verdict()  # as it is, it does not come back
    other = a_report("db3", state=state, seen=a_replica(server_uuid=UUIDS["C"]))
    state, verdict = step(state, seen(state, reports=[other]))
    assert verdict.command == c.CompleteRebuild(based_on=13, member="db3")
    assert kinds(state, seen(state)) == "GrowSyncSet"


def test_a_member_to_be_rebuilt_takes_over_only_when_it_must() -> None:
    """And what was asked for is called off then: the primary's data are those of the cluster."""
    state = applied(
        a_state(rebuilds={"db2": UUIDS["B"]}), c.BeginFailover(based_on=10, cause=c.Cause.MYSQLD_DEAD, why="lost")
    )
    reports = [a_report(m, state=state, fenced=True, mysql=MySQLState.FENCED) for m in ("db2", "db3")]
    both = decide(state, seen(state, missing=["db1"], reports=reports)).command
    assert isinstance(both, c.Promote)
    assert both.target == "db3"
    assert applied(state, both).rebuilds == state.rebuilds
    db2 = msgspec.structs.replace(both, target="db2")
    assert applied(state, db2).rebuilds == {}


def test_nobody_hands_over_to_a_member_that_is_to_be_rebuilt() -> None:
    handed = request_switchover(REBUILDING, seen(REBUILDING, ages={"db2": 99.0}), by="dba")
    assert isinstance(handed, list)
    assert isinstance(request_switchover(REBUILDING, seen(REBUILDING), target="db3", by="dba"), c.BeginSwitchover)


# A failover has left the promoted db1 alone in S: it stays closed until somebody can acknowledge.
SHORT = a_state(phase=Phase.PROMOTING, sync_set=("db1",), required_acks=1)


def short(**changes: Any) -> ClusterState:
    return msgspec.structs.replace(SHORT, **changes)


def closed(state: ClusterState) -> MemberReport:
    return a_report("db1", state=state, mysql=MySQLState.JOINING)


def test_a_promotion_that_waits_for_a_rebuilt_replica_gets_it() -> None:
    state = short(rebuilds={"db3": UUIDS["B"]})
    other = a_report("db3", state=state, seen=a_replica(server_uuid=UUIDS["C"]))
    view = seen(state, missing=["db2"], reports=[closed(state), other])
    state, verdict = step(state, view)
    assert verdict.command == c.CompleteRebuild(based_on=10, member="db3")
    other = msgspec.structs.replace(other, version=state.version)
    state, verdict = step(state, seen(state, missing=["db2"], reports=[closed(state), other]))
    assert verdict.command == c.GrowSyncSet(based_on=11, member="db3")


def test_a_promotion_that_waits_for_a_replica_takes_one_that_was_to_go() -> None:
    for state in (short(retiring=("db3",)), short(leaving="db3")):
        view = seen(state, missing=["db2"], reports=[closed(state)])
        assert decide(state, view).command == c.GrowSyncSet(based_on=10, member="db3")
    locked = short(leaving="db3", locked=("db3",))
    view = seen(locked, missing=["db2"], reports=[closed(locked), silent_replica("db3", locked)])
    assert decide(locked, view).command == c.Admit(based_on=10, member="db3")


def test_what_waits_because_a_member_cannot_be_done_without_is_said() -> None:
    for asked in ({"leaving": "db3"}, {"retiring": ("db3",)}, {"rebuilds": {"db3": UUIDS["B"]}}):
        verdict = decide(a_state(**asked), seen(a_state(**asked), missing=["db2"], version_seconds=1.0))
        assert verdict.command is None
        assert [(r.reason, r.member) for r in verdict.refusals] == [(Reason.WOULD_LOSE_DURABILITY, "db3")]


def test_a_member_that_was_to_go_acknowledges_again_when_the_others_are_lost_meanwhile() -> None:
    """db3 is locked out and in S still, since db2 does not hold everything yet; then db2 is lost."""
    for asked in ({"leaving": "db3"}, {"retiring": ("db3",)}, {"rebuilds": {"db3": UUIDS["B"]}}):
        state = a_state(locked=("db3",), **asked)
        view = seen(state, missing=["db2"])
        assert decide(state, view).command == c.Admit(based_on=10, member="db3")
        at_once = msgspec.structs.replace(view, version_seconds=1.0)
        assert decide(state, at_once).command is None  # db2 may be back in a moment


def test_a_member_becomes_async_once_it_cannot_acknowledge_any_more() -> None:
    state = applied(STEADY, c.SetMember(based_on=10, member="db3", role=MemberRole.ASYNC))
    assert state.members["db3"].role is MemberRole.DATA
    for expected in (c.Lockout, c.ShrinkSyncSet):
        state, verdict = step(state, seen(state))
        assert isinstance(verdict.command, expected)
    assert decide(state, seen(state)).command is None  # it would acknowledge
    state, verdict = step(state, seen(state, reports=[silent_replica("db3", state)]))
    assert isinstance(verdict.command, c.Admit)
    state, verdict = step(state, seen(state, reports=[silent_replica("db3", state)]))
    assert isinstance(verdict.command, c.CompleteRetirement)
    assert (state.data_members, state.required_acks, state.retiring) == (("db1", "db2"), 1, ())
    assert decide(state, seen(state)) == Verdict()


def test_an_async_member_acknowledges_before_it_counts() -> None:
    state = applied(WITH_ASYNC, c.SetMember(based_on=10, member="db4", role=MemberRole.DATA))
    assert (state.joining, state.required_acks) == (("db4",), 1)
    for expected in (c.GrowSyncSet, c.CompleteJoin):
        state, verdict = step(state, seen(state))
        assert isinstance(verdict.command, expected)
    assert kinds(state, seen(state)) == "ChangeAcks"


def test_a_retirement_is_called_off() -> None:
    state = applied(STEADY, c.SetMember(based_on=10, member="db3", role=MemberRole.ASYNC))
    assert isinstance(set_role(state, "db3", MemberRole.DATA), c.SetMember)
    assert set_role(state, "db3", MemberRole.ASYNC) == []
    state = applied(state, c.SetMember(based_on=11, member="db3", role=MemberRole.DATA))
    assert (state.retiring, decide(state, seen(state))) == ((), Verdict())


def test_the_name_of_a_removed_member_is_free() -> None:
    state = applied(a_state(leaving="db3", sync_set=("db1", "db2")), c.RemoveMember(based_on=10, member="db3"))
    member = Member(name="db3", role=MemberRole.DATA, raft="x:1", api="x:2", mysql="x:3", uid="beef")
    again = request_add(state, member, by="dba")
    assert isinstance(again, c.AddMember)
    assert state.floor == gtids("A:1-50")
