"""`apply`: what each command does."""

from __future__ import annotations

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster.apply import apply
from raftctl.cluster.rejection import Rejection
from raftctl.cluster.state import HISTORY_LIMIT, ClusterState, MemberRole, Phase, Settings
from tests.support.apply_builders import (
    AVAILABLE,
    FAILOVER,
    PROMOTING,
    STEADY,
    SWITCHOVER,
    a_forced_membership,
    rejection,
)
from tests.support.planner_builders import a_change, a_promote, a_state, an_init, applied, gtids


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


def test_a_forced_membership_makes_a_data_member_of_an_async_one() -> None:
    """Nobody else is left there: db2 and db3 are at the lost site, like db1."""
    far = msgspec.structs.replace(STEADY.members["db2"], name="far", role=MemberRole.ASYNC)
    before = msgspec.structs.replace(STEADY, members=STEADY.members | {"far": far})
    after = applied(before, a_forced_membership(survivors=("far",), learners=("db1", "db2", "db3"), target="far"))
    assert (after.primary, after.sync_set, after.locked) == ("far", ("far",), ("db1", "db2", "db3"))
    assert after.members["far"].role is MemberRole.DATA


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


def test_what_members_of_s_held_is_known_while_they_are_in_it() -> None:
    state = applied(ClusterState(), an_init())
    assert state.held == {"db1": gtids("A:1-50")}, "the others were only said to have it"
    out = a_state(sync_set=("db1", "db2"))
    joined = applied(out, c.GrowSyncSet(based_on=10, member="db3"))
    assert joined.held == {"db3": out.floor}
    left = applied(
        joined,
        c.Lockout(based_on=11, member="db3", why=""),
        c.ShrinkSyncSet(based_on=12, members=("db3",), required_acks=1),
    )
    assert left.held == {}
    assert PROMOTING.held == {"db2": gtids("A:1-100")}
    assert applied(joined, a_forced_membership()).held == {"db2": gtids("A:1-40")}


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
