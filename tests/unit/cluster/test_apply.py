"""`apply`: every command, every rejection, and the invariants on random command sequences."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftctl.cluster import commands as c
from raftctl.cluster.apply import Outcome, apply, assert_invariants
from raftctl.cluster.rejection import Rejection
from raftctl.cluster.state import HISTORY_LIMIT, ClusterState, MemberRole, Phase, Settings
from tests.support.planner_builders import a_change, a_member, a_promote, a_state, an_init, applied, gtids

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


# --- what each command does -------------------------------------------------------------------------


def test_init_cluster_begins_the_first_epoch() -> None:
    state = applied(ClusterState(), an_init())
    assert (state.phase, state.epoch, state.primary, state.version) == (Phase.PROMOTING, 1, "db1", 1)
    assert (state.sync_set, state.required_acks, state.floor) == (("db1", "db2", "db3"), 1, gtids("A:1-50"))


def test_begin_failover_ends_the_reign() -> None:
    state = applied(STEADY, c.BeginFailover(based_on=10, cause=c.Cause.HOST_SILENT, target="db3"))
    assert (state.phase, state.epoch, state.primary) == (Phase.FAILOVER, 2, "")
    assert (state.previous_primary, state.target, state.version) == ("db1", "db3", 11)


def test_other_settings_are_numbered_and_remember_the_ones_before() -> None:
    wished = Settings(durability="all", failover_cooldown=5.0)
    after = applied(STEADY, c.ChangeSettings(replaces=0, settings=wished))
    assert (after.settings, after.settings_before, after.settings_number) == (wished, STEADY.settings, 1)
    assert (after.version, after.required_acks, after.source_acks) == (11, 1, 1), "k follows by steps of its own"
    assert after.history[-1].detail == {"durability": "majority -> all", "failover_cooldown": "60.0 -> 5.0"}
    back = applied(after, c.ChangeSettings(replaces=1, settings=STEADY.settings))
    assert (back.settings, back.settings_before, back.settings_number) == (STEADY.settings, wished, 2)


def test_available_lowers_k_to_what_the_sync_set_can_give() -> None:
    """Writes wait for a replica that is not there: this is how a person lets them go on."""
    short = a_state(sync_set=("db1",))
    after = applied(short, c.ChangeSettings(replaces=0, settings=Settings(durability_policy="available")))
    assert (after.required_acks, after.source_acks) == (0, 0)


def test_a_forced_membership_begins_a_new_line_with_one_member() -> None:
    """Also in the middle of a change, and when it takes transactions back: what is lost is lost."""
    for before in (STEADY, FAILOVER, SWITCHOVER, PROMOTING, AVAILABLE):
        after = applied(before, a_forced_membership())
        assert (after.incarnation, after.phase, after.primary) == (2, Phase.PROMOTING, "db2")
        assert (after.epoch, after.version) == (before.epoch + 1, before.version + 1)
        assert (after.sync_set, after.required_acks, after.source_acks) == (("db2",), 0, 0)
        assert (after.locked, after.floor) == (("db1", "db3"), gtids("A:1-40"))
        assert after.members == before.members
        assert rejection(after, a_forced_membership()) is Rejection.STALE


def test_a_forced_membership_forgets_what_was_under_way() -> None:
    busy = a_state(joining=("db2", "db3"), leaving="db2", rebuilds={"db3": "uuid"})
    after = applied(busy, a_forced_membership())
    assert (after.joining, after.leaving, after.rebuilds) == (("db3",), "", {})


def test_a_failover_begun_during_a_change_relieves_the_same_primary() -> None:
    state = applied(SWITCHOVER, c.BeginFailover(based_on=10, cause=c.Cause.MYSQLD_DEAD))
    assert (state.phase, state.epoch, state.previous_primary) == (Phase.FAILOVER, 3, "db1")


def test_begin_failover_of_one_who_is_still_promoting() -> None:
    state = applied(PROMOTING, c.BeginFailover(based_on=PROMOTING.version, cause=c.Cause.MYSQLD_DEAD))
    assert (state.phase, state.epoch, state.previous_primary) == (Phase.FAILOVER, 3, "db2")


def test_begin_switchover() -> None:
    state = applied(STEADY, c.BeginSwitchover(based_on=10, target="db2"))
    assert (state.phase, state.epoch, state.primary, state.target) == (Phase.SWITCHOVER, 2, "", "db2")


def test_promote_makes_the_certificate_the_floor() -> None:
    assert (PROMOTING.phase, PROMOTING.primary, PROMOTING.epoch) == (Phase.PROMOTING, "db2", 2)
    assert (PROMOTING.floor, PROMOTING.sync_set, PROMOTING.locked) == (gtids("A:1-100"), ("db2", "db3"), ("db1",))


def test_promote_on_the_previous_primarys_word() -> None:
    command = a_promote(SWITCHOVER, proof=c.Proof.PRIMARY_FENCED, reporters=("db1", "db2"), locked=())
    assert applied(SWITCHOVER, command).primary == "db2"


def test_promote_without_acknowledgements() -> None:
    state = a_change(Phase.FAILOVER, required_acks=0, settings=Settings(durability="async"))
    assert applied(state, a_promote(state, proof=c.Proof.ASYNC_MAJORITY)).primary == "db2"


def test_abort_switchover_gives_the_reign_back() -> None:
    state = applied(SWITCHOVER, c.AbortSwitchover(based_on=10, why="db2 was lost"))
    assert (state.phase, state.primary, state.epoch, state.target) == (Phase.PROMOTING, "db1", 2, "")


def test_complete_promotion() -> None:
    assert applied(PROMOTING, c.CompletePromotion(based_on=PROMOTING.version)).phase is Phase.STEADY


def test_a_leaver_is_locked_out_then_leaves_and_comes_back() -> None:
    locked = applied(STEADY, c.Lockout(based_on=10, member="db3", why="silent"))
    assert (locked.sync_set, locked.locked) == (("db1", "db2", "db3"), ("db3",))
    shrunk = applied(locked, c.ShrinkSyncSet(based_on=11, members=("db3",), required_acks=1))
    assert (shrunk.sync_set, shrunk.locked) == (("db1", "db2"), ("db3",))
    admitted = applied(shrunk, c.Admit(based_on=12, member="db3"))
    assert (admitted.sync_set, admitted.locked) == (("db1", "db2"), ())
    grown = applied(admitted, c.GrowSyncSet(based_on=13, member="db3"))
    assert (grown.sync_set, grown.locked) == (("db1", "db2", "db3"), ())


def test_available_lowers_k_with_the_last_leavers() -> None:
    state = applied(
        AVAILABLE, c.Lockout(based_on=10, member="db2", why=""), c.Lockout(based_on=11, member="db3", why="")
    )
    alone = applied(state, c.ShrinkSyncSet(based_on=12, members=("db2", "db3"), required_acks=0))
    assert (alone.sync_set, alone.required_acks, alone.source_acks) == (("db1",), 0, 0)
    assert not alone.is_async


def test_k_grows_after_the_primary_waits_for_more() -> None:
    waits = applied(a_state(required_acks=1, source_acks=1), c.ChangeAcks(based_on=10, required_acks=1, source_acks=2))
    assert (waits.required_acks, waits.source_acks) == (1, 2)
    proven = applied(waits, c.ChangeAcks(based_on=11, required_acks=2, source_acks=2))
    assert (proven.required_acks, proven.source_acks) == (2, 2)
    lowered = applied(proven, c.ChangeAcks(based_on=12, required_acks=1, source_acks=1))
    assert (lowered.required_acks, lowered.source_acks) == (1, 1)


def test_zone_and_priority_change_at_once() -> None:
    state = applied(STEADY, c.SetMember(based_on=10, member="db3", zone="b", priority=7))
    assert (state.members["db3"].zone, state.members["db3"].priority) == ("b", 7)
    assert state.members["db3"].role is MemberRole.DATA


def test_a_failover_keeps_the_role_of_the_member_that_it_promotes() -> None:
    failing = a_change(Phase.FAILOVER, retiring=("db2", "db3"))
    assert applied(failing, a_promote(failing, target="db2")).retiring == ("db3",)


def test_pause_and_resume_are_no_decisions() -> None:
    paused = applied(STEADY, c.PauseFailover(reason="upgrade", by="ann", at_ms=5))
    assert paused.paused is not None
    assert (paused.paused.reason, paused.paused.by, paused.paused.at_ms) == ("upgrade", "ann", 5)
    resumed = applied(paused, c.ResumeFailover(by="ann"))
    assert (resumed.paused, resumed.version) == (None, STEADY.version)


def test_record_is_only_remembered() -> None:
    state = applied(STEADY, c.Record(kind="rebuild", member="db3", epoch=1, why="tail", detail={"seconds": 5.0}))
    assert (state.history[-1].kind, state.history[-1].detail) == ("rebuild", {"seconds": 5.0})
    assert state.version == STEADY.version


def test_history_says_who_why_before_and_after() -> None:
    state = applied(
        STEADY, c.BeginFailover(based_on=10, cause=c.Cause.REQUESTED, why="disk", by="ann", at_ms=7, target="db2")
    )
    entry = state.history[-1]
    assert (entry.kind, entry.by, entry.why, entry.at_ms) == ("begin-failover", "ann", "disk", 7)
    assert (entry.before, entry.after, entry.epoch, entry.detail) == ("db1", "", 2, {"cause": "requested"})
    promoted = applied(state, a_promote(state)).history[-1]
    assert promoted.detail["proof"] == "replicas-fenced"
    assert promoted.detail["certificate"] == str(gtids("A:1-100"))


def test_history_is_bounded() -> None:
    state = STEADY
    for index in range(HISTORY_LIMIT + 5):
        state = apply(state, c.Record(kind="note", member="db1", epoch=1), index)[0]
    assert len(state.history) == HISTORY_LIMIT
    assert state.history[-1].index == HISTORY_LIMIT + 4


# --- every rejection --------------------------------------------------------------------------------

WITNESSED = a_state(members=[a_member("db1"), a_member("db2"), a_member("w1", role=MemberRole.WITNESS)])
LOCKED = a_state(locked=("db3",))
BIG = a_change(Phase.FAILOVER, data=5)
FIVE = ("db1", "db2", "db3", "db4", "db5")

OTHER = Settings(failover_cooldown=1.0)
REJECTIONS = {
    "settings that replace others than those in force": (
        Rejection.STALE,
        STEADY,
        c.ChangeSettings(replaces=1, settings=OTHER),
    ),
    "settings in the middle of a failover": (
        Rejection.WRONG_PHASE,
        FAILOVER,
        c.ChangeSettings(replaces=0, settings=OTHER),
    ),
    "the same settings": (
        Rejection.NOTHING_TO_DO,
        STEADY,
        c.ChangeSettings(replaces=0, settings=STEADY.settings),
    ),
    "more acknowledgements than replicas": (
        Rejection.INVALID_SETTINGS,
        STEADY,
        c.ChangeSettings(replaces=0, settings=Settings(durability="3")),
    ),
    "a word for durability that nobody knows": (
        Rejection.INVALID_SETTINGS,
        STEADY,
        c.ChangeSettings(replaces=0, settings=Settings(durability="both")),
    ),
    "times that controllers have in their configuration": (
        Rejection.INVALID_SETTINGS,
        STEADY,
        c.ChangeSettings(replaces=0, settings=Settings(election_timeout=2.0)),
    ),
    "an incarnation that is not a later one": (
        Rejection.STALE,
        a_state(incarnation=2),
        a_forced_membership(),
    ),
    "a forced primary that is lost": (
        Rejection.NOT_ELIGIBLE,
        STEADY,
        a_forced_membership(target="db1"),
    ),
    "a survivor that is no member": (
        Rejection.UNKNOWN_MEMBER,
        STEADY,
        a_forced_membership(survivors=("db2", "db9")),
    ),
    "decided on an earlier version": (Rejection.STALE, STEADY, c.Lockout(based_on=9, member="db3", why="")),
    "decided on a later version": (Rejection.STALE, STEADY, c.Lockout(based_on=11, member="db3", why="")),
    "initialised twice": (Rejection.ALREADY_INITIALIZED, STEADY, an_init()),
    "nothing there yet": (Rejection.NOT_INITIALIZED, ClusterState(), c.ResumeFailover()),
    "init: the primary is outside S": (Rejection.INVALID_SET, ClusterState(), an_init(sync_set=("db2", "db3"))),
    "init: the primary is unknown": (Rejection.INVALID_SET, ClusterState(), an_init(primary="db9")),
    "init: S has an unknown member": (Rejection.INVALID_SET, ClusterState(), an_init(sync_set=("db1", "db9"))),
    "failover in a failover": (Rejection.WRONG_PHASE, FAILOVER, c.BeginFailover(based_on=10, cause=c.Cause.REQUESTED)),
    "failover to an outsider": (
        Rejection.NOT_ELIGIBLE,
        a_state(sync_set=("db1", "db2")),
        c.BeginFailover(based_on=10, cause=c.Cause.REQUESTED, target="db3"),
    ),
    "switchover in a failover": (Rejection.WRONG_PHASE, FAILOVER, c.BeginSwitchover(based_on=10, target="db2")),
    "switchover to the primary": (Rejection.NOT_ELIGIBLE, STEADY, c.BeginSwitchover(based_on=10, target="db1")),
    "switchover to a locked member": (Rejection.NOT_ELIGIBLE, LOCKED, c.BeginSwitchover(based_on=10, target="db3")),
    "switchover to a stranger": (Rejection.NOT_ELIGIBLE, STEADY, c.BeginSwitchover(based_on=10, target="db9")),
    "promote in a reign": (Rejection.WRONG_PHASE, STEADY, a_promote(STEADY)),
    "promote an outsider": (
        Rejection.NOT_ELIGIBLE,
        a_change(Phase.FAILOVER, sync_set=("db1", "db3")),
        a_promote(FAILOVER),
    ),
    "promote below the floor": (
        Rejection.BELOW_FLOOR,
        FAILOVER,
        a_promote(FAILOVER, certificate=gtids("A:1-49")),
    ),
    "promote into a larger S": (
        Rejection.INVALID_SET,
        a_change(Phase.FAILOVER, sync_set=("db1", "db2", "db3"), data=4),
        a_promote(FAILOVER, sync_set=("db2", "db4")),
    ),
    "promote one that is locked out": (
        Rejection.INVALID_SET,
        FAILOVER,
        a_promote(FAILOVER, locked=("db1", "db2")),
    ),
    "promote: a stranger is locked": (Rejection.INVALID_SET, FAILOVER, a_promote(FAILOVER, locked=("db9",))),
    "promote: the target did not report": (
        Rejection.NO_PROOF,
        FAILOVER,
        a_promote(FAILOVER, reporters=("db1", "db3")),
    ),
    "promote: one reporter too few": (Rejection.NO_PROOF, FAILOVER, a_promote(FAILOVER, reporters=("db2",))),
    "promote: the previous primary is no fenced replica": (
        Rejection.NO_PROOF,
        FAILOVER,
        a_promote(FAILOVER, reporters=("db1", "db2")),
    ),
    "promote: an outsider's report does not count": (
        Rejection.NO_PROOF,
        a_change(Phase.FAILOVER, sync_set=("db1", "db2", "db4"), data=4, required_acks=1),
        a_promote(FAILOVER, sync_set=("db2",)),
    ),
    "promote: two of five are too few": (
        Rejection.NO_PROOF,
        BIG,
        a_promote(BIG, locked=("db1", "db4", "db5")),
    ),
    "promote: replicas in a switchover": (Rejection.NO_PROOF, SWITCHOVER, a_promote(SWITCHOVER)),
    "promote: the primary's word without the primary": (
        Rejection.NO_PROOF,
        SWITCHOVER,
        a_promote(SWITCHOVER, proof=c.Proof.PRIMARY_FENCED),
    ),
    "promote: a majority proves nothing with k = 1": (
        Rejection.NO_PROOF,
        FAILOVER,
        a_promote(FAILOVER, proof=c.Proof.ASYNC_MAJORITY),
    ),
    "promote: nobody is known to hold everything": (
        Rejection.NO_PROOF,
        a_change(Phase.FAILOVER, sync_set=("db1",)),
        a_promote(FAILOVER, target="db1", sync_set=("db1",), locked=(), reporters=("db1",)),
    ),
    "abort a failover": (Rejection.WRONG_PHASE, FAILOVER, c.AbortSwitchover(based_on=10, why="")),
    "complete in a steady reign": (Rejection.WRONG_PHASE, STEADY, c.CompletePromotion(based_on=10)),
    "lock out while promoting": (
        Rejection.WRONG_PHASE,
        PROMOTING,
        c.Lockout(based_on=PROMOTING.version, member="db3", why=""),
    ),
    "lock out the primary": (Rejection.INVALID_SET, STEADY, c.Lockout(based_on=10, member="db1", why="")),
    "lock out twice": (Rejection.INVALID_SET, LOCKED, c.Lockout(based_on=10, member="db3", why="")),
    "lock out an outsider": (
        Rejection.INVALID_SET,
        a_state(sync_set=("db1", "db2")),
        c.Lockout(based_on=10, member="db3", why=""),
    ),
    "shrink in a failover": (
        Rejection.WRONG_PHASE,
        FAILOVER,
        a_shrink(),
    ),
    "shrink by one that is not locked": (
        Rejection.NOT_LOCKED,
        STEADY,
        a_shrink(),
    ),
    "shrink by an outsider": (
        Rejection.NOT_LOCKED,
        a_state(sync_set=("db1", "db2"), locked=("db3",)),
        a_shrink(),
    ),
    "shrink below k + 1": (
        Rejection.INVALID_SET,
        a_state(sync_set=("db1", "db3"), locked=("db3",)),
        a_shrink(),
    ),
    "shrink and lower k under the strict policy": (
        Rejection.INVALID_ACKS,
        LOCKED,
        c.ShrinkSyncSet(based_on=10, members=("db3",), required_acks=0),
    ),
    "shrink and raise k": (
        Rejection.INVALID_ACKS,
        LOCKED,
        c.ShrinkSyncSet(based_on=10, members=("db3",), required_acks=2),
    ),
    "shrink by nobody": (Rejection.NOT_LOCKED, LOCKED, c.ShrinkSyncSet(based_on=10, members=(), required_acks=1)),
    "init: more acknowledgements than available can have": (
        Rejection.INVALID_ACKS,
        ClusterState(),
        an_init(required_acks=3, settings=Settings(durability_policy="available")),
    ),
    "promote with more acknowledgements than available can have": (
        Rejection.INVALID_ACKS,
        a_change(Phase.FAILOVER, settings=Settings(durability_policy="available")),
        a_promote(FAILOVER, required_acks=2),
    ),
    "k grows before the primary waits for more": (
        Rejection.INVALID_ACKS,
        STEADY,
        c.ChangeAcks(based_on=10, required_acks=2, source_acks=2),
    ),
    "the primary waits for fewer than k": (
        Rejection.INVALID_ACKS,
        STEADY,
        c.ChangeAcks(based_on=10, required_acks=1, source_acks=0),
    ),
    "the primary waits for more than there are": (
        Rejection.INVALID_ACKS,
        STEADY,
        c.ChangeAcks(based_on=10, required_acks=1, source_acks=3),
    ),
    "acks in a failover": (
        Rejection.WRONG_PHASE,
        FAILOVER,
        c.ChangeAcks(based_on=10, required_acks=0, source_acks=0),
    ),
    "acks as they are": (
        Rejection.NOTHING_TO_DO,
        STEADY,
        c.ChangeAcks(based_on=10, required_acks=1, source_acks=1),
    ),
    "promote by majority although the policy only lowered k": (
        Rejection.NO_PROOF,
        a_change(Phase.FAILOVER, required_acks=0, settings=Settings(durability_policy="available")),
        a_promote(FAILOVER, required_acks=0, proof=c.Proof.ASYNC_MAJORITY),
    ),
    "admit without a primary": (
        Rejection.WRONG_PHASE,
        a_change(Phase.FAILOVER, locked=("db3",)),
        c.Admit(based_on=10, member="db3"),
    ),
    "admit one that is in": (Rejection.NOT_LOCKED, STEADY, c.Admit(based_on=10, member="db3")),
    "grow while promoting": (
        Rejection.WRONG_PHASE,
        PROMOTING,
        c.GrowSyncSet(based_on=PROMOTING.version, member="db1"),
    ),
    "grow by a member of S": (Rejection.INVALID_SET, STEADY, c.GrowSyncSet(based_on=10, member="db3")),
    "grow by one that is locked": (
        Rejection.INVALID_SET,
        a_state(sync_set=("db1", "db2"), locked=("db3",)),
        c.GrowSyncSet(based_on=10, member="db3"),
    ),
    "grow by a witness": (Rejection.INVALID_SET, WITNESSED, c.GrowSyncSet(based_on=10, member="w1")),
    "pause twice": (
        Rejection.NOTHING_TO_DO,
        applied(STEADY, c.PauseFailover(reason="a")),
        c.PauseFailover(reason="b"),
    ),
    "resume what runs": (Rejection.NOTHING_TO_DO, STEADY, c.ResumeFailover()),
    "add a member that is one": (
        Rejection.ALREADY_A_MEMBER,
        STEADY,
        c.AddMember(based_on=10, member=a_member("db2")),
    ),
    "add a member at another's address": (
        Rejection.ADDRESS_IN_USE,
        STEADY,
        c.AddMember(based_on=10, member=msgspec.structs.replace(a_member("db4"), raft="db2:8007")),
    ),
    "add during a failover": (Rejection.WRONG_PHASE, FAILOVER, c.AddMember(based_on=10, member=a_member("db4"))),
    "remove a stranger": (Rejection.UNKNOWN_MEMBER, STEADY, c.BeginRemoval(based_on=10, member="db9")),
    "remove the only member": (Rejection.STILL_NEEDED, a_state(data=1), c.BeginRemoval(based_on=10, member="db1")),
    "remove another one meanwhile": (
        Rejection.CHANGE_UNDER_WAY,
        a_state(leaving="db2"),
        c.BeginRemoval(based_on=10, member="db3"),
    ),
    "remove what nobody asked for": (Rejection.NOTHING_TO_DO, STEADY, c.RemoveMember(based_on=10, member="db3")),
    "remove a member of S": (
        Rejection.STILL_NEEDED,
        a_state(leaving="db3"),
        c.RemoveMember(based_on=10, member="db3"),
    ),
    "make a witness of a member with data": (
        Rejection.INVALID_ROLE,
        STEADY,
        c.SetMember(based_on=10, member="db3", role=MemberRole.WITNESS),
    ),
    "make the primary async": (
        Rejection.STILL_NEEDED,
        STEADY,
        c.SetMember(based_on=10, member="db1", role=MemberRole.ASYNC),
    ),
    "set what is so": (
        Rejection.NOTHING_TO_DO,
        STEADY,
        c.SetMember(based_on=10, member="db3", role=MemberRole.DATA, priority=0),
    ),
    "make a member of S async": (
        Rejection.STILL_NEEDED,
        a_state(retiring=("db3",)),
        c.CompleteRetirement(based_on=10, member="db3"),
    ),
    "rebuild the primary": (
        Rejection.STILL_NEEDED,
        STEADY,
        c.BeginRebuild(based_on=10, member="db1", server_uuid="u"),
    ),
    "record a stranger": (Rejection.UNKNOWN_MEMBER, STEADY, c.Record(kind="x", member="db9", epoch=1)),
}


@pytest.mark.parametrize(("expected", "state", "command"), REJECTIONS.values(), ids=REJECTIONS)
def test_rejection(expected: Rejection, state: ClusterState, command: c.AnyCommand) -> None:
    assert rejection(state, command) is expected


def test_every_rejection_is_tested() -> None:
    assert {case[0] for case in REJECTIONS.values()} == set(Rejection)


# --- any sequence -----------------------------------------------------------------------------------

NAMES = st.sampled_from(("db1", "db2", "db3", "db4", "w1", "db9"))
NAME_SETS = st.lists(NAMES, unique=True, max_size=5).map(tuple)
SETS = st.sampled_from(("", "A:1-50", "A:1-60", "A:1-100", "A:1-100,B:1-5", "B:1-5")).map(gtids)
MEMBERS = (*(a_member(f"db{i}") for i in range(1, 5)), a_member("w1", role=MemberRole.WITNESS))


DURABILITIES = st.sampled_from(("majority", "all", "async", "1", "2", "9", "both"))
POLICIES = st.sampled_from(("strict", "available"))


@st.composite
def command_on(draw: st.DrawFn, version: int) -> c.AnyCommand:
    """Any command, mostly decided on the current version."""
    based_on = draw(st.sampled_from((version, version, version, version - 1)))
    name = draw(NAMES)
    kind = draw(st.sampled_from(c.AnyCommand.__args__))
    match kind:
        case c.InitCluster:
            return an_init(
                members=MEMBERS, primary=name, sync_set=draw(NAME_SETS), required_acks=draw(st.integers(0, 3))
            )
        case c.BeginFailover:
            return c.BeginFailover(based_on=based_on, cause=c.Cause.REQUESTED, target=draw(st.sampled_from(("", name))))
        case c.Promote:
            return c.Promote(
                based_on=based_on,
                target=name,
                certificate=draw(SETS),
                sync_set=draw(NAME_SETS),
                required_acks=draw(st.integers(-1, 3)),
                locked=draw(NAME_SETS),
                proof=draw(st.sampled_from(c.Proof)),
                reporters=draw(NAME_SETS),
            )
        case c.BeginSwitchover:
            return c.BeginSwitchover(based_on=based_on, target=name)
        case c.AbortSwitchover:
            return c.AbortSwitchover(based_on=based_on, why="")
        case c.CompletePromotion:
            return c.CompletePromotion(based_on=based_on)
        case c.Lockout:
            return c.Lockout(based_on=based_on, member=name, why="")
        case c.PauseFailover:
            return c.PauseFailover(reason="")
        case c.ResumeFailover:
            return c.ResumeFailover()
        case c.ShrinkSyncSet:
            return c.ShrinkSyncSet(based_on=based_on, members=draw(NAME_SETS), required_acks=draw(st.integers(-1, 3)))
        case c.ChangeAcks:
            return c.ChangeAcks(
                based_on=based_on, required_acks=draw(st.integers(-1, 3)), source_acks=draw(st.integers(-1, 3))
            )
        case c.AddMember:
            return c.AddMember(based_on=based_on, member=a_member(name))
        case c.SetMember:
            role = draw(st.sampled_from((None, *MemberRole)))
            return c.SetMember(based_on=based_on, member=name, role=role, priority=draw(st.integers(0, 1)))
        case c.BeginRebuild:
            return c.BeginRebuild(based_on=based_on, member=name, server_uuid="u")
        case c.Record:
            return c.Record(kind="note", member=name, epoch=1)
        case c.ChangeSettings:
            changed = Settings(durability=draw(DURABILITIES), durability_policy=draw(POLICIES))
            return c.ChangeSettings(replaces=draw(st.integers(0, 2)), settings=changed)
        case c.ForceMembers:
            return a_forced_membership(
                incarnation=draw(st.integers(1, 4)), survivors=draw(NAME_SETS), target=name, certificate=draw(SETS)
            )
        case _:
            return kind(based_on=based_on, member=name)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(0, 2), st.sampled_from(("strict", "available")))
def test_random_commands_keep_the_invariants(data: st.DataObject, acks: int, policy: str) -> None:
    """`apply` is total, gives the same state again, and leaves no state that breaks an invariant."""
    init = an_init(
        members=MEMBERS,
        sync_set=("db1", "db2", "db3"),
        required_acks=acks,
        settings=Settings(durability_policy=policy),
    )
    state = applied(ClusterState(), init)
    for index in range(data.draw(st.integers(1, 40))):
        command = data.draw(command_on(state.version))
        after, outcome = apply(state, command, index)
        assert (after, outcome) == apply(state, command, index)
        assert_invariants(after, before=state)
        assert after.incarnation > state.incarnation or state.floor <= after.floor
        assert outcome.applied or after is state
        assert after.version - state.version == int(
            outcome == Outcome() and isinstance(command, (c.Decision, c.InitCluster, c.ForceMembers, c.ChangeSettings))
        )
        state = after
