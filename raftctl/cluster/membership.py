"""What the commands of membership do to the cluster state; `raftctl.cluster.apply` hands them over. Pure.

Two lists of members must agree: Raft's configuration says who votes, the cluster state says who everybody is, with
addresses. Each is changed by log entries of its own, in this order:

    add      AddMember -> Raft: learner -> Raft: voter -> CompleteJoin
    remove   BeginRemoval -> (hand over, leave S) -> Raft: out -> RemoveMember

So whoever is in Raft's configuration is in the state, too, and can be reached; between any two steps another leader
goes on. A name is free again only after its removal from Raft is committed: thus a new host of the same name, whose
empty log would let it vote for anybody, cannot help those that missed the removal to a majority.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster.rejection import Rejection
from raftctl.cluster.state import ClusterState, Member, MemberRole, Phase

replace = msgspec.structs.replace


def _add(state: ClusterState, command: c.AddMember) -> ClusterState | Rejection:
    member = command.member
    if state.phase is not Phase.STEADY:
        return Rejection.WRONG_PHASE
    if member.name in state.members:
        return Rejection.ALREADY_A_MEMBER
    if any(addresses(member) & addresses(other) for other in state.members.values()):
        return Rejection.ADDRESS_IN_USE
    is_data = member.role is MemberRole.DATA
    return replace(
        state,
        members=state.members | {member.name: member},
        joining=tuple(sorted({*state.joining, member.name})),
        locked=tuple(sorted({*state.locked, member.name})) if is_data else state.locked,
        roster=state.roster + 1,
    )


def addresses(member: Member) -> set[str]:
    """Where it listens; no two members share one."""
    return {member.raft, member.api, *([member.mysql] if member.mysql else [])}


def _complete_join(state: ClusterState, command: c.CompleteJoin) -> ClusterState | Rejection:
    if command.member not in state.joining:
        return Rejection.NOTHING_TO_DO
    return replace(state, joining=tuple(m for m in state.joining if m != command.member))


def _begin_removal(state: ClusterState, command: c.BeginRemoval) -> ClusterState | Rejection:
    if command.member not in state.members:
        return Rejection.UNKNOWN_MEMBER
    if state.leaving:
        return Rejection.NOTHING_TO_DO if state.leaving == command.member else Rejection.CHANGE_UNDER_WAY
    if len(state.members) == 1 or (command.member,) == state.data_members:
        return Rejection.STILL_NEEDED
    return replace(state, leaving=command.member)


def _cancel_removal(state: ClusterState, command: c.CancelRemoval) -> ClusterState | Rejection:
    return replace(state, leaving="") if state.leaving == command.member else Rejection.NOTHING_TO_DO


def _remove(state: ClusterState, command: c.RemoveMember) -> ClusterState | Rejection:
    name = command.member
    if not state.primary:
        return Rejection.WRONG_PHASE
    if state.leaving != name:
        return Rejection.NOTHING_TO_DO
    if name == state.primary or name in state.sync_set:
        return Rejection.STILL_NEEDED
    return replace(
        state,
        members={m: member for m, member in state.members.items() if m != name},
        joining=tuple(m for m in state.joining if m != name),
        locked=tuple(m for m in state.locked if m != name),
        rebuilds={m: uuid for m, uuid in state.rebuilds.items() if m != name},
        previous_primary="" if state.previous_primary == name else state.previous_primary,
        leaving="",
        roster=state.roster + 1,
    )


def _begin_rebuild(state: ClusterState, command: c.BeginRebuild) -> ClusterState | Rejection:
    if command.member not in state.members or state.members[command.member].mysql is None:
        return Rejection.UNKNOWN_MEMBER
    if not state.primary:
        return Rejection.WRONG_PHASE
    if command.member == state.primary:
        return Rejection.STILL_NEEDED
    if state.rebuilds.get(command.member) == command.server_uuid:
        return Rejection.NOTHING_TO_DO
    return replace(state, rebuilds=state.rebuilds | {command.member: command.server_uuid})


def _complete_rebuild(state: ClusterState, command: c.CompleteRebuild) -> ClusterState | Rejection:
    if command.member not in state.rebuilds:
        return Rejection.NOTHING_TO_DO
    return replace(state, rebuilds={m: uuid for m, uuid in state.rebuilds.items() if m != command.member})


HANDLERS: dict[type, Callable[[ClusterState, Any], ClusterState | Rejection]] = {
    c.AddMember: _add,
    c.CompleteJoin: _complete_join,
    c.BeginRemoval: _begin_removal,
    c.CancelRemoval: _cancel_removal,
    c.RemoveMember: _remove,
    c.BeginRebuild: _begin_rebuild,
    c.CompleteRebuild: _complete_rebuild,
}
