"""`apply`: every rejection."""

from __future__ import annotations

import msgspec
import pytest

from raftctl.cluster import commands as c
from raftctl.cluster.rejection import Rejection
from raftctl.cluster.state import ClusterState, MemberRole, Phase, Settings
from tests.support.apply_builders import (
    FAILOVER,
    PROMOTING,
    STEADY,
    SWITCHOVER,
    a_forced_membership,
    a_shrink,
    rejection,
)
from tests.support.planner_builders import a_change, a_member, a_promote, a_state, an_init, applied, gtids

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
    "a number for durability that nobody can read": (
        Rejection.INVALID_SETTINGS,
        STEADY,
        c.ChangeSettings(replaces=0, settings=Settings(durability="1" * 5000)),
    ),
    "a policy that nobody knows": (
        Rejection.INVALID_SETTINGS,
        STEADY,
        c.ChangeSettings(replaces=0, settings=Settings(durability_policy="Strict")),
    ),
    "a cooldown that ends before it begins": (
        Rejection.INVALID_SETTINGS,
        STEADY,
        c.ChangeSettings(replaces=0, settings=Settings(failover_cooldown=-1.0)),
    ),
    "a cooldown that never ends": (
        Rejection.INVALID_SETTINGS,
        STEADY,
        c.ChangeSettings(replaces=0, settings=Settings(failover_cooldown=float("inf"))),
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
    "init: a word for durability that nobody knows": (
        Rejection.INVALID_SETTINGS,
        ClusterState(),
        an_init(settings=Settings(durability="both")),
    ),
    "init: more acknowledgements than replicas": (
        Rejection.INVALID_SETTINGS,
        ClusterState(),
        an_init(settings=Settings(durability="3")),
    ),
    "init: a policy that nobody knows": (
        Rejection.INVALID_SETTINGS,
        ClusterState(),
        an_init(settings=Settings(durability_policy="")),
    ),
    "init: leases of no time": (
        Rejection.INVALID_SETTINGS,
        ClusterState(),
        an_init(settings=Settings(election_timeout=0.0)),
    ),
    "init: fewer heartbeats than elections": (
        Rejection.INVALID_SETTINGS,
        ClusterState(),
        an_init(settings=Settings(heartbeat_interval=2.0)),
    ),
    "init: a time that is no number": (
        Rejection.INVALID_SETTINGS,
        ClusterState(),
        an_init(settings=Settings(election_timeout=float("nan"))),
    ),
    "init: a member without an address": (
        Rejection.INVALID_MEMBER,
        ClusterState(),
        an_init(members=(a_member("db1"), a_member("db2"), msgspec.structs.replace(a_member("db3"), raft=""))),
    ),
    "init: two members of one name": (
        Rejection.ADDRESS_IN_USE,
        ClusterState(),
        an_init(
            members=(
                a_member("db1"),
                a_member("db2"),
                a_member("db3"),
                msgspec.structs.replace(a_member("db4"), name="db3"),
            )
        ),
    ),
    "init: two members at one address": (
        Rejection.ADDRESS_IN_USE,
        ClusterState(),
        an_init(members=(a_member("db1"), a_member("db2"), msgspec.structs.replace(a_member("db3"), raft="db2:8007"))),
    ),
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
