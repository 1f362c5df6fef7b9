"""What the commands of membership do to the cluster state; `raftctl.cluster.apply` hands them over. Pure.

Two lists of members must agree: Raft's configuration says who votes, the cluster state says who everybody is, with
addresses. Each is changed by log entries of its own, in this order:

    add      AddMember -> Raft: learner -> Raft: voter -> CompleteJoin
    remove   BeginRemoval -> (hand over, leave S) -> Raft: out -> RemoveMember
    role     data to async: SetMember -> (leave S) -> CompleteRetirement; async to data: SetMember -> CompleteJoin

So whoever is in Raft's configuration is in the state, too, and can be reached; between any two steps another leader
goes on. A name is free again only after its removal from Raft is committed: thus a new host of the same name, whose
empty log would let it vote for anybody, cannot help those that missed the removal to a majority.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster.rejection import Rejection
from raftctl.cluster.state import ClusterState, Member, MemberRole, Phase

replace = msgspec.structs.replace

NAME_LENGTH_MAX = 19  # of a member with MySQL; raftctl.mysql.accounts prefixes it, and MySQL allows 32 characters
ZONE_LENGTH_MAX = 255
PRIORITY_MAX = 1_000_000
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})"
_NAME = re.compile(rf"(?=.{{1,64}}$){_LABEL}(?:\.{_LABEL})*")
_ADDRESS = re.compile(r"(?:\[[0-9A-Za-z:.%_-]{2,64}\]|[A-Za-z0-9_.-]{1,253}):[0-9]{1,5}")
_UID = re.compile(r"[A-Za-z0-9]{1,64}")
_ZONE = re.compile(rf"[^\x00-\x1f\x7f]{{0,{ZONE_LENGTH_MAX}}}")


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


def share_a_name_or_address(members: Collection[Member]) -> bool:
    places = [place for member in members for place in addresses(member)]
    return len({member.name for member in members}) < len(members) or len(set(places)) < len(places)


def what_is_wrong(member: Member) -> str:
    """Why nothing can be a member that is described so, "" when it can. What is in the log stays there: a name that is
    no MySQL account's, or an address that is none, would keep every controller from its work, for good."""
    runs_mysql = member.role is not MemberRole.WITNESS
    if _NAME.fullmatch(member.name) is None or (runs_mysql and len(member.name) > NAME_LENGTH_MAX):
        most = f"{NAME_LENGTH_MAX} (MySQL's accounts are named after it)" if runs_mysql else "64"
        return f"the name {member.name!r} must hold letters, digits, '-', '_' and '.' only, at most {most}"
    if runs_mysql != (member.mysql is not None):
        return f"a member with the role {member.role} has {'an' if runs_mysql else 'no'} address of mysqld"
    for address in sorted(addresses(member)):
        if _ADDRESS.fullmatch(address) is None or not 0 < int(address.rpartition(":")[2]) < 65536:
            return f"{address!r} must be host:port"
    if member.uid and _UID.fullmatch(member.uid) is None:
        return f"the uid {member.uid!r} must be a random word of letters and digits"
    return what_is_wrong_about_its_place(zone=member.zone, priority=member.priority)


def what_is_wrong_about_its_place(*, zone: str, priority: int) -> str:
    """As `what_is_wrong`, for what can be changed."""
    if _ZONE.fullmatch(zone) is None:
        return f"the zone must be a text of at most {ZONE_LENGTH_MAX} characters"
    if abs(priority) > PRIORITY_MAX:
        return f"the priority must be between -{PRIORITY_MAX} and {PRIORITY_MAX}"
    return ""


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
        retiring=tuple(m for m in state.retiring if m != name),
        rebuilds={m: uuid for m, uuid in state.rebuilds.items() if m != name},
        previous_primary="" if state.previous_primary == name else state.previous_primary,
        leaving="",
        roster=state.roster + 1,
    )


def _set_member(state: ClusterState, command: c.SetMember) -> ClusterState | Rejection:
    member = state.members.get(command.member)
    if member is None:
        return Rejection.UNKNOWN_MEMBER
    role = member.role if command.role is None else command.role
    if (role is MemberRole.WITNESS) != (member.role is MemberRole.WITNESS):
        return Rejection.INVALID_ROLE
    placed = replace(
        member,
        zone=member.zone if command.zone is None else command.zone,
        priority=member.priority if command.priority is None else command.priority,
    )
    retires = role is MemberRole.ASYNC and member.role is MemberRole.DATA
    if placed == member and role is member.role and retires == (member.name in state.retiring):
        return Rejection.NOTHING_TO_DO
    state = replace(state, members=state.members | {member.name: placed})
    return state if command.role is None else _change_role(state, placed, role)


def _change_role(state: ClusterState, member: Member, role: MemberRole) -> ClusterState | Rejection:
    others = tuple(m for m in state.retiring if m != member.name)
    if role is member.role:  # also the end of a retirement that is under way
        return replace(state, retiring=others)
    if state.phase is not Phase.STEADY:
        return Rejection.WRONG_PHASE
    if role is MemberRole.DATA:
        joined = replace(member, role=role)
        return replace(
            state,
            members=state.members | {member.name: joined},
            joining=tuple(sorted({*state.joining, member.name})),
        )
    if member.name == state.primary or not set(state.lasting_data_members) - {member.name}:
        return Rejection.STILL_NEEDED
    return replace(state, retiring=tuple(sorted({*others, member.name})))


def _complete_retirement(state: ClusterState, command: c.CompleteRetirement) -> ClusterState | Rejection:
    name = command.member
    if name not in state.retiring:
        return Rejection.NOTHING_TO_DO
    if state.phase is not Phase.STEADY:
        return Rejection.WRONG_PHASE
    if name in (*state.sync_set, *state.locked):
        return Rejection.STILL_NEEDED
    return replace(
        state,
        members=state.members | {name: replace(state.members[name], role=MemberRole.ASYNC)},
        retiring=tuple(m for m in state.retiring if m != name),
        joining=tuple(m for m in state.joining if m != name),
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
    c.SetMember: _set_member,
    c.CompleteRetirement: _complete_retirement,
    c.BeginRebuild: _begin_rebuild,
    c.CompleteRebuild: _complete_rebuild,
}
