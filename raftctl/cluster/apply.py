"""The only way to change the cluster state: `apply(state, command, index)`.

Pure and total: the same log gives the same state on every member, and a command that does not fit is rejected with a
reason value instead of raising. The safety rules that can be checked on the log alone are checked here, whatever the
proposer believed; `assert_invariants` says what holds after every command.

The durability invariant (rule R6): every transaction ever acknowledged is in `floor`, or is held by at least k members
of S besides the primary. So whoever is promoted contains the floor, and any |S| - k members of S besides the previous
primary include a holder of everything acknowledged since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster import membership
from raftctl.cluster.durability import can_be_followed
from raftctl.cluster.rejection import Rejection
from raftctl.cluster.state import HISTORY_LIMIT, ClusterState, HistoryEntry, MemberRole, Pause, Phase, Settings

replace = msgspec.structs.replace


class Outcome(msgspec.Struct, frozen=True):
    """What became of a command. `rejection` is None when it was applied."""

    rejection: Rejection | None = None

    @property
    def applied(self) -> bool:
        return self.rejection is None


def apply(state: ClusterState, command: c.AnyCommand, index: int) -> tuple[ClusterState, Outcome]:
    """The state after the log entry at `index`, and what became of its command."""
    rejection = _general_rejection(state, command)
    result = rejection or _HANDLERS[type(command)](state, command)
    if isinstance(result, Rejection):
        return state, Outcome(result)
    if isinstance(command, (c.Decision, c.InitCluster, c.ForceMembers, c.ChangeSettings)):
        held = {m: gtids for m, gtids in result.held.items() if m in result.sync_set}
        result = replace(result, version=state.version + 1, held=held)
    result = replace(result, history=(*result.history, _entry(state, result, command, index))[-HISTORY_LIMIT:])
    assert_invariants(result, before=state)
    return result, Outcome()


def _general_rejection(state: ClusterState, command: c.AnyCommand) -> Rejection | None:
    if isinstance(command, c.InitCluster):
        return None
    if state.phase is Phase.UNINITIALIZED:
        return Rejection.NOT_INITIALIZED
    if isinstance(command, c.Decision) and command.based_on != state.version:
        return Rejection.STALE
    return None


def assert_invariants(state: ClusterState, *, before: ClusterState | None = None) -> None:
    """What must hold after every command; a failure is a bug in this package, never bad input."""
    data = set(state.data_members)
    assert set(state.sync_set) <= data, "S consists of data members"
    assert set(state.locked) <= data, "only data members have a replication account to lock"
    changing = state.phase in (Phase.SWITCHOVER, Phase.FAILOVER)
    if state.phase is not Phase.UNINITIALIZED:
        assert bool(state.primary) != changing, "there is a primary exactly when no change is under way"
        assert (state.primary or state.previous_primary) in state.sync_set, "the primary is a member of S"
        assert state.primary not in state.locked, "a primary is never locked out of itself"
        assert all(m in state.sync_set and gtids <= state.floor for m, gtids in state.held.items()), "known of S"
        assert 0 <= state.required_acks <= state.source_acks, "the primary waits for at least k acknowledgements"
        if state.settings.durability_policy == "available":
            assert state.source_acks < len(state.sync_set), "S can always give the acknowledgements"
    if before is not None and state.incarnation == before.incarnation:
        assert state.epoch - before.epoch in (0, 1), "epochs grow by one"
        assert before.floor <= state.floor, "the floor never loses a transaction"


# --- one handler per command ------------------------------------------------------------------------


def _init_cluster(state: ClusterState, command: c.InitCluster) -> ClusterState | Rejection:
    if state.phase is not Phase.UNINITIALIZED:
        return Rejection.ALREADY_INITIALIZED
    members = {m.name: m for m in command.members}
    data = {m.name for m in command.members if m.role is MemberRole.DATA}
    if any(membership.what_is_wrong(member) for member in command.members):
        return Rejection.INVALID_MEMBER
    if membership.share_a_name_or_address(command.members):
        return Rejection.ADDRESS_IN_USE
    if not can_be_followed(command.settings, data):
        return Rejection.INVALID_SETTINGS
    if command.primary not in data or command.primary not in command.sync_set or not set(command.sync_set) <= data:
        return Rejection.INVALID_SET
    if not _allows(command.settings, command.required_acks, len(command.sync_set)):
        return Rejection.INVALID_ACKS
    return replace(
        state,
        cluster=command.cluster,
        engine=command.engine,
        phase=Phase.PROMOTING,
        epoch=1,
        primary=command.primary,
        floor=command.floor,
        sync_set=tuple(sorted(command.sync_set)),
        held={command.primary: command.floor},
        required_acks=command.required_acks,
        source_acks=command.required_acks,
        members=members,
        settings=command.settings,
    )


def _begin_failover(state: ClusterState, command: c.BeginFailover) -> ClusterState | Rejection:
    if state.phase is Phase.FAILOVER:
        return Rejection.WRONG_PHASE
    if command.target and command.target not in state.sync_set:
        return Rejection.NOT_ELIGIBLE
    ended = _end_reign(state, phase=Phase.FAILOVER, target=command.target)
    return replace(ended, failover_cause=command.cause.value)


def _begin_switchover(state: ClusterState, command: c.BeginSwitchover) -> ClusterState | Rejection:
    if state.phase is not Phase.STEADY:
        return Rejection.WRONG_PHASE
    if command.target not in state.sync_set or command.target == state.primary or command.target in state.locked:
        return Rejection.NOT_ELIGIBLE
    return _end_reign(state, phase=Phase.SWITCHOVER, target=command.target)


def _end_reign(state: ClusterState, *, phase: Phase, target: str) -> ClusterState:
    return replace(
        state,
        phase=phase,
        epoch=state.epoch + 1,
        primary="",
        previous_primary=state.primary or state.previous_primary,
        target=target,
    )


def _promote(state: ClusterState, command: c.Promote) -> ClusterState | Rejection:
    if state.phase not in (Phase.FAILOVER, Phase.SWITCHOVER):
        return Rejection.WRONG_PHASE
    if command.target not in state.sync_set:
        return Rejection.NOT_ELIGIBLE
    if not state.floor <= command.certificate:
        return Rejection.BELOW_FLOOR
    if not _proven(state, command):
        return Rejection.NO_PROOF
    sync_set, locked = set(command.sync_set), set(command.locked)
    if command.target not in sync_set - locked or not sync_set <= set(state.sync_set):
        return Rejection.INVALID_SET
    if not locked <= set(state.data_members):
        return Rejection.INVALID_SET
    if not _allows(state.settings, command.required_acks, len(sync_set)):
        return Rejection.INVALID_ACKS
    return replace(
        state,
        phase=Phase.PROMOTING,
        primary=command.target,
        target="",
        floor=command.certificate,
        sync_set=tuple(sorted(sync_set)),
        held=state.held | {command.target: command.certificate},
        required_acks=command.required_acks,
        source_acks=command.required_acks,
        locked=tuple(sorted(locked)),
        # It is needed more than it was to go, or to be rebuilt.
        retiring=tuple(m for m in state.retiring if m != command.target),
        rebuilds={m: uuid for m, uuid in state.rebuilds.items() if m != command.target},
    )


def _allows(settings: Settings, acks: int, size: int) -> bool:
    """Whether a sync set of this size may have this k. After a failover `strict` keeps a k that S cannot meet: writes
    wait until members return."""
    return acks >= 0 and (acks < size or settings.durability_policy == "strict")


def _proven(state: ClusterState, command: c.Promote) -> bool:
    """Rule R3 on the reporters that the command names."""
    reporters = set(command.reporters) & set(state.sync_set)
    if command.target not in reporters:
        return False
    match command.proof:
        case c.Proof.REPLICAS_FENCED:
            replicas = reporters - {state.previous_primary}
            enough = command.target in replicas and len(replicas) >= state.fence_quorum()
            return state.phase is Phase.FAILOVER and state.required_acks > 0 and enough
        case c.Proof.PRIMARY_FENCED:
            return state.previous_primary in reporters
        case c.Proof.ASYNC_MAJORITY:
            majority = len(state.lasting_data_members) // 2 + 1
            return state.phase is Phase.FAILOVER and state.is_async and len(reporters) >= majority


def _abort_switchover(state: ClusterState, _: c.AbortSwitchover) -> ClusterState | Rejection:
    if state.phase is not Phase.SWITCHOVER:
        return Rejection.WRONG_PHASE
    # A removal of the primary that could not hand over is given up: trying again would stop writes again.
    leaving = "" if state.leaving == state.previous_primary else state.leaving
    return replace(state, phase=Phase.PROMOTING, primary=state.previous_primary, target="", leaving=leaving)


def _complete_promotion(state: ClusterState, _: c.CompletePromotion) -> ClusterState | Rejection:
    if state.phase is not Phase.PROMOTING:
        return Rejection.WRONG_PHASE
    return replace(state, phase=Phase.STEADY)


def _lockout(state: ClusterState, command: c.Lockout) -> ClusterState | Rejection:
    if state.phase is not Phase.STEADY:
        return Rejection.WRONG_PHASE
    if command.member not in state.sync_set or command.member in (state.primary, *state.locked):
        return Rejection.INVALID_SET
    return replace(state, locked=tuple(sorted({*state.locked, command.member})))


def _shrink(state: ClusterState, command: c.ShrinkSyncSet) -> ClusterState | Rejection:
    if state.phase is not Phase.STEADY:
        return Rejection.WRONG_PHASE
    leavers, acks = set(command.members), command.required_acks
    if not leavers or not leavers <= set(state.locked) & set(state.sync_set):
        return Rejection.NOT_LOCKED
    rest = tuple(m for m in state.sync_set if m not in leavers)
    lowered = acks < state.required_acks
    if acks > state.required_acks or (lowered and state.settings.durability_policy != "available"):
        return Rejection.INVALID_ACKS
    if 0 <= acks < len(rest):
        return replace(state, sync_set=rest, required_acks=acks, source_acks=acks)
    # Fewer than k replicas prove nothing, so the floor has to: `strict` only, and only what the log can know of it.
    if state.settings.durability_policy != "strict" or not command.floor or not state.floor <= command.floor:
        return Rejection.INVALID_SET
    return replace(state, sync_set=rest, source_acks=acks, floor=command.floor)


def _admit(state: ClusterState, command: c.Admit) -> ClusterState | Rejection:
    if not state.primary:
        return Rejection.WRONG_PHASE
    if command.member not in state.locked:
        return Rejection.NOT_LOCKED
    return replace(state, locked=tuple(m for m in state.locked if m != command.member))


def _grow(state: ClusterState, command: c.GrowSyncSet) -> ClusterState | Rejection:
    if state.phase is not Phase.STEADY and not (state.phase is Phase.PROMOTING and state.is_short_of_replicas()):
        return Rejection.WRONG_PHASE
    if command.member not in state.data_members or command.member in (*state.sync_set, *state.locked):
        return Rejection.INVALID_SET
    joined = tuple(sorted({*state.sync_set, command.member}))
    return replace(state, sync_set=joined, held=state.held | {command.member: state.floor})


def _change_acks(state: ClusterState, command: c.ChangeAcks) -> ClusterState | Rejection:
    if state.phase is not Phase.STEADY:
        return Rejection.WRONG_PHASE
    k, waits = command.required_acks, command.source_acks
    if (k, waits) == (state.required_acks, state.source_acks):
        return Rejection.NOTHING_TO_DO
    if not 0 <= k <= waits < len(state.sync_set):
        return Rejection.INVALID_ACKS
    if k > state.required_acks and not k <= waits == state.source_acks:
        return Rejection.INVALID_ACKS  # the primary must have been waiting for so many before k grows
    return replace(state, required_acks=k, source_acks=waits)


def _force_members(state: ClusterState, command: c.ForceMembers) -> ClusterState | Rejection:
    """What is lost is lost: the target's set is the new floor, and nobody else is known to hold it (k = 0). All others
    are locked out until they have compared themselves with the target, which is a data member from now on."""
    if command.incarnation <= state.incarnation:
        return Rejection.STALE
    target = state.members.get(command.target)
    if target is None or target.role is MemberRole.WITNESS or target.name not in command.survivors:
        return Rejection.NOT_ELIGIBLE
    if not set(command.survivors) <= set(state.members):
        return Rejection.UNKNOWN_MEMBER
    return replace(
        _end_reign(state, phase=Phase.PROMOTING, target=""),
        incarnation=command.incarnation,
        branch=command.branch,
        failover_cause="",
        members=state.members | {target.name: replace(target, role=MemberRole.DATA)},
        primary=command.target,
        floor=command.certificate,
        sync_set=(command.target,),
        held={command.target: command.certificate},
        required_acks=0,
        source_acks=0,
        locked=tuple(m for m in state.data_members if m != command.target),
        joining=tuple(m for m in state.joining if m != command.target),
        leaving="",  # what was asked for before the disaster is asked for again if it is still wanted
        retiring=(),
        rebuilds={},
    )


def _change_settings(state: ClusterState, command: c.ChangeSettings) -> ClusterState | Rejection:
    """k and the sync set follow by the steps of rule R6. Only `available` is kept from the first moment on: S must be
    able to give the acknowledgements, and lowering k is safe in the log at any time."""
    if command.replaces != state.settings_number:
        return Rejection.STALE
    if not state.primary:
        return Rejection.WRONG_PHASE
    if command.settings == state.settings:
        return Rejection.NOTHING_TO_DO
    fixed = ("election_timeout", "heartbeat_interval")  # also in every controller's own configuration
    if any(getattr(command.settings, name) != getattr(state.settings, name) for name in fixed):
        return Rejection.INVALID_SETTINGS
    if not can_be_followed(command.settings, state.lasting_data_members):
        return Rejection.INVALID_SETTINGS
    most = len(state.sync_set) - 1 if command.settings.durability_policy == "available" else state.source_acks
    return replace(
        state,
        settings=command.settings,
        settings_number=state.settings_number + 1,
        settings_before=state.settings,
        required_acks=min(state.required_acks, most),
        source_acks=min(state.source_acks, most),
    )


def _pause(state: ClusterState, command: c.PauseFailover) -> ClusterState | Rejection:
    if state.paused is not None:
        return Rejection.NOTHING_TO_DO
    return replace(state, paused=Pause(command.reason, command.by, command.at_ms))


def _resume(state: ClusterState, _: c.ResumeFailover) -> ClusterState | Rejection:
    if state.paused is None:
        return Rejection.NOTHING_TO_DO
    return replace(state, paused=None)


def _record(state: ClusterState, command: c.Record) -> ClusterState | Rejection:
    return state if command.member in state.members else Rejection.UNKNOWN_MEMBER


_HANDLERS: dict[type, Callable[[ClusterState, Any], ClusterState | Rejection]] = {
    c.InitCluster: _init_cluster,
    c.BeginFailover: _begin_failover,
    c.BeginSwitchover: _begin_switchover,
    c.Promote: _promote,
    c.AbortSwitchover: _abort_switchover,
    c.CompletePromotion: _complete_promotion,
    c.Lockout: _lockout,
    c.ShrinkSyncSet: _shrink,
    c.Admit: _admit,
    c.GrowSyncSet: _grow,
    c.ChangeAcks: _change_acks,
    c.ForceMembers: _force_members,
    c.ChangeSettings: _change_settings,
    **membership.HANDLERS,
    c.PauseFailover: _pause,
    c.ResumeFailover: _resume,
    c.Record: _record,
}


# --- history ----------------------------------------------------------------------------------------


def _entry(before: ClusterState, after: ClusterState, command: c.AnyCommand, index: int) -> HistoryEntry:
    kind = command.kind if isinstance(command, c.Record) else type(command).__struct_config__.tag
    return HistoryEntry(
        index=index,
        at_ms=command.at_ms,
        kind=str(kind),
        epoch=after.epoch,
        by=command.by,
        member=_member(command),
        why=getattr(command, "why", "") or getattr(command, "reason", ""),
        before=before.primary,
        after=after.primary,
        detail=_detail(before, command),
    )


def _member(command: c.AnyCommand) -> str:
    members: tuple[str, ...] = getattr(command, "members", ()) if isinstance(command, c.ShrinkSyncSet) else ()
    if isinstance(command, c.AddMember):
        return command.member.name
    return getattr(command, "member", "") or getattr(command, "target", "") or ",".join(members)


def _detail(before: ClusterState, command: c.AnyCommand) -> dict[str, Any]:
    match command:
        case c.ChangeSettings():
            then, now = msgspec.structs.asdict(before.settings), msgspec.structs.asdict(command.settings)
            return {name: f"{then[name]} -> {value}" for name, value in now.items() if value != then[name]}
        case c.Record():
            return dict(command.detail)
        case c.BeginFailover():
            return {"cause": command.cause.value}
        case c.Promote():
            return {
                "proof": command.proof.value,
                "reporters": list(command.reporters),
                "sync_set": list(command.sync_set),
                "required_acks": command.required_acks,
                "certificate": str(command.certificate),
            }
        case c.AddMember():
            return {"role": command.member.role.value, "address": command.member.raft}
        case c.SetMember():
            wanted = {"role": command.role, "zone": command.zone, "priority": command.priority}
            return {name: str(value) for name, value in wanted.items() if value is not None}
        case c.ShrinkSyncSet():
            return {"required_acks": command.required_acks}
        case c.ChangeAcks():
            return {"required_acks": command.required_acks, "source_acks": command.source_acks}
        case c.ForceMembers():
            return {
                "incarnation": command.incarnation,
                "survivors": list(command.survivors),
                "certificate": str(command.certificate),
            }
        case _:
            return {}
