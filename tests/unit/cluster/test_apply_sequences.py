"""`apply`: the invariants on random sequences of commands."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftctl.cluster import commands as c
from raftctl.cluster.apply import Outcome, apply, assert_invariants
from raftctl.cluster.state import ClusterState, MemberRole, Settings
from tests.support.apply_builders import a_forced_membership
from tests.support.planner_builders import a_member, an_init, applied, gtids

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
