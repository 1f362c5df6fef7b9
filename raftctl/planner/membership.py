"""Who is a member: what a person asks for, checked, and the steps to it that the leader takes one at a time. Pure.

A request is one log entry (AddMember, BeginRemoval, BeginRebuild); whoever leads carries on from what the log, Raft's
configuration and the reports say, and may be lost between any two steps. `raftctl.cluster.membership` has the order.
"""

from __future__ import annotations

import msgspec

from raftctl.cluster.commands import (
    AddMember,
    Admit,
    BeginRebuild,
    BeginRemoval,
    BeginSwitchover,
    CancelRemoval,
    CompleteJoin,
    CompleteRebuild,
    CompleteRetirement,
    RemoveMember,
    SetMember,
)
from raftctl.cluster.durability import wanted_acks
from raftctl.cluster.facts import MySQLState
from raftctl.cluster.membership import addresses, what_is_wrong, what_is_wrong_about_its_place
from raftctl.cluster.state import ClusterState, Member, MemberRole, Phase
from raftctl.planner.failover import errant
from raftctl.planner.refusal import Reason, Refusal
from raftctl.planner.switchover import not_now, request_switchover
from raftctl.planner.sync_set import able_without, admit, is_to_go, receives
from raftctl.planner.view import ClusterView


class Reshape(msgspec.Struct, frozen=True):
    """Raft's next configuration: it differs from the one in force by one node in one respect."""

    voters: tuple[str, ...]
    learners: tuple[str, ...]


Requested = AddMember | BeginRemoval | CancelRemoval | BeginRebuild | Admit | SetMember
Step = BeginSwitchover | RemoveMember | CompleteJoin | CompleteRebuild | CompleteRetirement


# --- what the leader does next ----------------------------------------------------------------------


def advance(state: ClusterState, view: ClusterView) -> Step | Reshape | list[Refusal] | None:
    """The next step that is justified now, or why it waits; None when there is nothing to do but in the sync set."""
    if state.phase is not Phase.STEADY and not (state.phase is Phase.PROMOTING and state.is_short_of_replicas()):
        return None
    for member, uuid in state.rebuilds.items():  # a promotion may wait for this very replica
        report = view.up(state, member)
        if report and report.mysql and report.mysql.observation and report.mysql.observation.server_uuid != uuid:
            return CompleteRebuild(based_on=state.version, member=member)
    if state.phase is not Phase.STEADY:
        return None
    for member in state.retiring:
        if member not in (*state.sync_set, *state.locked):
            return CompleteRetirement(based_on=state.version, member=member)
    if not view.voters:
        return None
    leaves = _leave(state, view) if state.leaving else None
    if leaves is not None and not isinstance(leaves, list):
        return leaves
    return _join(state, view) or leaves  # a removal may wait for the very member that comes


def _leave(state: ClusterState, view: ClusterView) -> Step | Reshape | list[Refusal] | None:
    name = state.leaving
    if name == state.primary:
        handed = request_switchover(state, view, by="raftctl")
        if isinstance(handed, BeginSwitchover):
            return msgspec.structs.replace(handed, why=f"{name} is removed")
        return handed
    if name in state.sync_set:
        return None
    voters, learners = _without(view.voters, name), _without(view.learners, name)
    if (voters, learners) != (view.voters, view.learners):
        return Reshape(voters, learners)
    return RemoveMember(based_on=state.version, member=name)


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(n for n in names if n != name)


def _join(state: ClusterState, view: ClusterView) -> Step | Reshape | None:
    """Every member comes to vote: those that were added, and those that begin anew after a forced membership."""
    for name in sorted(state.members):
        if name == state.leaving:
            continue
        report = view.report(state, name)
        if name not in (*view.voters, *view.learners):
            return Reshape(view.voters, (*view.learners, name))
        if name in view.learners:
            # It has the log up to this decision: as a voter it will not keep entries from being committed.
            if report is not None and report.version == state.version:
                return Reshape((*view.voters, name), _without(view.learners, name))
        elif name in state.joining and _does_its_duty(state, view, name):
            return CompleteJoin(based_on=state.version, member=name)
    return None


def _does_its_duty(state: ClusterState, view: ClusterView, name: str) -> bool:
    match state.members[name].role:
        case MemberRole.WITNESS:
            return view.report(state, name) is not None
        case MemberRole.DATA:
            return name in state.sync_set
        case MemberRole.ASYNC:
            return _follows(state, view, name)


def _follows(state: ClusterState, view: ClusterView, name: str) -> bool:
    report = view.up(state, name)
    is_replica = report is not None and report.mysql is not None and report.mysql.state is MySQLState.REPLICA
    return is_replica and receives(state, report)


def held_in_sync_set(state: ClusterState, view: ClusterView) -> list[Refusal]:
    """What somebody asked for and what waits, since the member that it concerns cannot be done without in S."""
    going = (m for m in state.sync_set if is_to_go(state, m) and m not in (state.primary, *state.locked))
    return [
        _would_lose_durability(state, m, state.required_acks)
        for m in going
        if len(able_without(state, view, m)) < state.required_acks
    ]


# --- what people ask for ----------------------------------------------------------------------------


def request_add(state: ClusterState, member: Member, *, by: str) -> AddMember | list[Refusal]:
    """A person adds a host; it is prepared and its controller started once this is committed."""
    if refusal := _not_steady(state):
        return [refusal]
    if member.name in state.members:
        text = f"{member.name} is a member already"
        hint = f"to put a new host in its place: `raftctl member remove {member.name}` first"
        return [Refusal(Reason.ALREADY_A_MEMBER, text, member.name, hint)]
    for other in state.members.values():
        if shared := addresses(member) & addresses(other):
            text = f"{', '.join(sorted(shared))} is the address of {other.name}"
            return [Refusal(Reason.ADDRESS_IN_USE, text, other.name, "give the new member addresses of its own")]
    if wrong := what_is_wrong(member) or ("" if member.uid else "a new member has a uid of its own"):
        return [Refusal(Reason.INVALID_MEMBER, wrong, member.name)]
    return AddMember(based_on=state.version, member=member, why=f"requested by {by}", by=by)


def request_removal(state: ClusterState, view: ClusterView, name: str, *, by: str) -> BeginRemoval | list[Refusal]:
    """A person takes a member out: it must be possible without it to decide, and to acknowledge what is promised."""
    refusal = _not_steady(state) or _unknown(state, name) or _under_way(state, name)
    refusal = refusal or _last(state, name) or _needed_for_quorum(state, view, name)
    if refusal:
        return [refusal]
    if name == state.primary:
        handed = request_switchover(state, view, by=by)
        if isinstance(handed, list):
            return [*handed, Refusal(Reason.NO_TARGET, f"{name} is the primary and cannot hand over", name)]
    if refusal := _needed_for_durability(state, view, name):
        return [refusal]
    return BeginRemoval(based_on=state.version, member=name, why=f"requested by {by}", by=by)


def request_set(
    state: ClusterState,
    view: ClusterView,
    name: str,
    *,
    role: MemberRole | None = None,
    zone: str | None = None,
    priority: int | None = None,
    by: str,
) -> SetMember | list[Refusal]:
    """A person gives a member another role, zone or priority. An empty list: it has them."""
    if refusal := _not_steady(state) or _unknown(state, name) or _role_refused(state, view, name, role):
        return [refusal]
    member = state.members[name]
    goes = role is MemberRole.ASYNC and member.role is MemberRole.DATA
    now = (member.role, member.zone, member.priority, name in state.retiring)
    role_then = member.role if role is None else role
    zone_then = member.zone if zone is None else zone
    priority_then = member.priority if priority is None else priority
    if now == (member.role if goes else role_then, zone_then, priority_then, goes):
        return []
    if wrong := what_is_wrong_about_its_place(zone=zone_then, priority=priority_then):
        return [Refusal(Reason.INVALID_MEMBER, wrong, name)]
    why = f"requested by {by}"
    return SetMember(based_on=state.version, member=name, role=role, zone=zone, priority=priority, why=why, by=by)


def _role_refused(state: ClusterState, view: ClusterView, name: str, role: MemberRole | None) -> Refusal | None:
    member = state.members[name]
    if role is None or role is member.role:
        return None
    if MemberRole.WITNESS in (role, member.role):
        text = f"{name} is {_called(member.role)}: a change to {role} sets its host up anew"
        hint = f"`raftctl member remove {name}`, raftctl_role: {role} in the inventory, `raftctl member add {name}`"
        return Refusal(Reason.INVALID_ROLE, text, name, hint)
    if role is MemberRole.DATA:
        return _silent(state, view, name)
    if name == state.primary:
        return Refusal(Reason.ALREADY_PRIMARY, f"{name} is the primary", name, "`raftctl switchover` first")
    return _under_way(state, name) or _last(state, name) or _needed_for_durability(state, view, name)


def _called(role: MemberRole) -> str:
    return "a witness, without MySQL" if role is MemberRole.WITNESS else f"a member with the role {role}"


def request_rebuild(state: ClusterState, view: ClusterView, name: str, *, by: str) -> BeginRebuild | list[Refusal]:
    """A person has a member's data replaced by a CLONE of the primary's."""
    if refusal := _not_steady(state) or _unknown(state, name):
        return [refusal]
    if state.members[name].role is MemberRole.WITNESS:
        return [Refusal(Reason.NOT_A_DATA_MEMBER, f"{name} is a witness: it has no data", name)]
    if name == state.primary:
        hint = "`raftctl switchover` first"
        return [
            Refusal(Reason.ALREADY_PRIMARY, f"{name} is the primary: the others have their data from it", name, hint)
        ]
    if name == state.leaving or name in state.rebuilds:
        what = "rebuilt" if name in state.rebuilds else "removed"
        return [Refusal(Reason.ALREADY_UNDER_WAY, f"{name} is being {what} already", name)]
    if refusal := _silent(state, view, name):
        return [refusal]
    if name in state.sync_set and len(able_without(state, view, name)) < state.required_acks and _is_strict(state):
        return [_would_lose_durability(state, name, state.required_acks)]
    report = view.report(state, name)
    assert report is not None
    assert report.mysql is not None
    if report.mysql.observation is None:
        return [Refusal(Reason.NOT_REPORTING, f"mysqld of {name} was not looked at yet", name)]
    uuid = report.mysql.observation.server_uuid
    return BeginRebuild(based_on=state.version, member=name, server_uuid=uuid, why=f"requested by {by}", by=by)


def request_rejoin(
    state: ClusterState, view: ClusterView, name: str, *, by: str
) -> CancelRemoval | Admit | list[Refusal]:
    """A person wants a member back: what keeps it away is lifted if its data permits. An empty list: it follows."""
    if refusal := _not_steady(state) or _unknown(state, name):
        return [refusal]
    if name == state.leaving:
        return CancelRemoval(based_on=state.version, member=name, why=f"requested by {by}", by=by)
    if name == state.primary or state.members[name].role is MemberRole.WITNESS:
        return []
    if refusal := _silent(state, view, name):
        return [refusal]
    report = view.report(state, name)
    assert report is not None
    rebuild = f"`raftctl member rebuild {name}` replaces its data by a copy of {state.primary}'s"
    if found := errant(report):
        text = f"{name} has {found.count()} transactions that {state.primary} lacks: {found}"
        return [Refusal(Reason.ERRANT_TRANSACTIONS, text, name, rebuild)]
    if name in state.locked:
        if lifted := admit(state, view, name):
            return msgspec.structs.replace(lifted, by=by)
        return [Refusal(Reason.LOCKED_OUT, f"{name} is locked out: {report.note or 'it leaves the sync set'}", name)]
    if _follows(state, view, name):
        return []
    return [
        Refusal(Reason.NOT_REPLICATING, f"{name} does not follow: {report.note or 'it is about to'}", name, rebuild)
    ]


# --- why not ----------------------------------------------------------------------------------------


def _not_steady(state: ClusterState) -> Refusal | None:
    if refusal := not_now(state):
        return refusal
    if state.phase is not Phase.STEADY:
        return Refusal(Reason.CHANGE_UNDER_WAY, f"{state.primary} is being promoted", state.primary)
    return None


def _unknown(state: ClusterState, name: str) -> Refusal | None:
    if name in state.members:
        return None
    hint = f"its members are {', '.join(sorted(state.members))}"
    return Refusal(Reason.UNKNOWN_MEMBER, f"{name} is not a member of {state.cluster}", name, hint)


def _under_way(state: ClusterState, name: str) -> Refusal | None:
    if not state.leaving:
        return None
    if state.leaving == name:
        return Refusal(Reason.ALREADY_UNDER_WAY, f"{name} is being removed already", name)
    return Refusal(Reason.CHANGE_UNDER_WAY, f"{state.leaving} is being removed", state.leaving, "one at a time")


def _last(state: ClusterState, name: str) -> Refusal | None:
    if len(state.members) > 1 and _without(state.data_members, name):
        return None
    return Refusal(Reason.LAST_MEMBER, f"{name} is the only member with data", name, "a cluster cannot be without it")


def _needed_for_quorum(state: ClusterState, view: ClusterView, name: str) -> Refusal | None:
    """Without the member a majority of the remaining voters must be there."""
    rest = [voter for voter in view.voters if voter != name]
    there = [voter for voter in rest if view.report(state, voter) is not None]
    needed = len(rest) // 2 + 1
    if not rest or len(there) >= needed:
        return None
    gone = ", ".join(voter for voter in rest if voter not in there)
    text = (
        f"without {name} only {len(there)} of {len(rest)} voters would answer, {needed} are needed: {gone} is missing"
    )
    return Refusal(Reason.WOULD_LOSE_QUORUM, text, name, f"bring {gone} back, or remove that first")


def _needed_for_durability(state: ClusterState, view: ClusterView, name: str) -> Refusal | None:
    """Without the member there must be replicas for the acknowledgements that `strict` goes on to ask for."""
    if name not in state.data_members or name in state.joining or not _is_strict(state):
        return None
    after = msgspec.structs.replace(state, leaving=name)
    needed = wanted_acks(after, ()) or min(state.required_acks, 1)  # one that is alone has no majority to speak of
    able = len(able_without(state, view, name)) - (name == state.primary)  # one of them becomes the primary
    if name in state.sync_set and able < needed:
        return _would_lose_durability(state, name, needed)
    return _would_lose_durability(state, name, needed) if len(after.lasting_data_members) - 1 < needed else None


def _would_lose_durability(state: ClusterState, name: str, needed: int) -> Refusal:
    text = (
        f"without {name} too few replicas could acknowledge: durability {state.settings.durability} with the policy "
        f"strict needs {needed}, and writes would wait"
    )
    hint = "add a member first, bring the missing replicas back, or lower the durability"
    return Refusal(Reason.WOULD_LOSE_DURABILITY, text, name, hint)


def _is_strict(state: ClusterState) -> bool:
    return state.settings.durability_policy == "strict"


def _silent(state: ClusterState, view: ClusterView, name: str) -> Refusal | None:
    if view.report(state, name) is None:
        return Refusal(
            Reason.NOT_REPORTING, f"{name}'s controller does not report", name, "start it: see its log there"
        )
    if view.up(state, name) is None and not _is_rebuilding(view, name):
        return Refusal(Reason.MYSQLD_DOWN, f"mysqld of {name} does not answer", name, "start it: see its error log")
    return None


def _is_rebuilding(view: ClusterView, name: str) -> bool:
    mysql = view.members[name].report.mysql
    return mysql is not None and mysql.state is MySQLState.REBUILDING


# --- what would be done, for people -----------------------------------------------------------------


def steps(state: ClusterState, decided: Requested) -> tuple[str, ...]:
    """The plan of `--dry-run`."""
    match decided:
        case AddMember(member=member):
            return _steps_of_joining(state, member)
        case BeginRemoval(member=name):
            return _steps_of_leaving(state, name)
        case BeginRebuild(member=name):
            leaves = (f"{name} leaves the sync set",) if name in state.sync_set else ()
            clone = f"{name}'s data is replaced by a CLONE of {state.primary}'s"
            return (*leaves, clone, f"{name} follows {state.primary} again")
        case CancelRemoval(member=name):
            return (f"{name} stays a member and follows {state.primary} again",)
        case SetMember(member=name):
            return _steps_of_setting(state, decided)
        case Admit(member=name):
            return (f"{state.primary} admits {name}, which follows it",)


def _steps_of_joining(state: ClusterState, member: Member) -> tuple[str, ...]:
    name, after = member.name, len(state.members) + 1
    lines = [
        f"{name} receives the log as a learner, and votes once it has caught up",
        f"a majority is then {after // 2 + 1} of {after}{_warning(after)}",
    ]
    if member.role is not MemberRole.WITNESS:
        lines.append(f"{name} gets its data by CLONE from {state.primary}, unless it has them, and follows it")
    if member.role is MemberRole.DATA:
        lines.append(f"{name} joins the sync set")
    return tuple(lines)


def _steps_of_leaving(state: ClusterState, name: str) -> tuple[str, ...]:
    lines = [f"{name} hands over to the best replica"] if name == state.primary else []
    if name in state.sync_set:
        lines.append(f"{name} is locked out and leaves the sync set once the others hold what it acknowledged")
    after = len(state.members) - 1
    lines.append(f"{name} leaves Raft: a majority is then {after // 2 + 1} of {after}{_warning(after)}")
    lines.append(f"{name} is no member any more; its replication account is dropped")
    return tuple(lines)


def _steps_of_setting(state: ClusterState, wanted: SetMember) -> tuple[str, ...]:
    name, member = wanted.member, state.members[wanted.member]
    lines = []
    if wanted.zone not in (None, member.zone):
        lines.append(f"{name} is in zone {wanted.zone or '(none)'}")
    if wanted.priority not in (None, member.priority):
        lines.append(f"{name} has priority {wanted.priority}")
    if wanted.role is MemberRole.ASYNC and member.role is MemberRole.DATA:
        lines += [f"{name} is locked out and leaves the sync set once the others hold what it acknowledged"]
        lines += [f"{name} has the role async: it follows, never acknowledges and is never promoted"]
    elif wanted.role is MemberRole.DATA:
        lines += [f"{name} has the role data and joins the sync set"]
    return tuple(lines)


def _warning(voters: int) -> str:
    return f" (an even number survives the loss of {(voters - 1) // 2}, as {voters - 1} do)" if voters % 2 == 0 else ""
