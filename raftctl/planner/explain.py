"""What would happen if a member were lost now, and why each candidate is or is not eligible: `raftctl explain`.

Nothing is guessed: the loss is put into the view, and the leader's own decisions are asked what they would do.
"""

from __future__ import annotations

import msgspec

from raftctl.cluster.apply import apply
from raftctl.cluster.commands import BeginFailover, Cause, Promote
from raftctl.cluster.durability import wanted_acks
from raftctl.cluster.facts import MemberReport
from raftctl.cluster.observation import MySQLObservation, ReceiverState
from raftctl.cluster.state import ClusterState, MemberRole
from raftctl.planner.failover import choose, consider_failover, eligibility
from raftctl.planner.refusal import Reason, Refusal
from raftctl.planner.switchover import not_now
from raftctl.planner.sync_set import receives
from raftctl.planner.view import ClusterView, Seen

replace = msgspec.structs.replace


class Candidate(msgspec.Struct, frozen=True):
    """A data member that is left. `reason` is "" when it is eligible, else a value of Reason with its `text`."""

    name: str
    eligible: bool
    reason: str = ""
    text: str = ""


class Explanation(msgspec.Struct, frozen=True):
    """`outcome` are the events in order, a line each. `promoted` is who would be the primary, "" when that does not
    change or nobody would be; `refusals` say then why. `serving`: writes are acknowledged in the end."""

    member: str
    role: str
    serving: bool
    outcome: tuple[str, ...]
    promoted: str = ""
    refusals: tuple[Refusal, ...] = ()
    candidates: tuple[Candidate, ...] = ()


def explain_loss(state: ClusterState, view: ClusterView, member: str, *, leader: str) -> Explanation | list[Refusal]:
    """What the loss of the host of `member` would do. `leader` is who leads Raft now."""
    if refusal := not_now(state):
        return [refusal]
    if member not in state.members:
        return [Refusal(Reason.UNKNOWN_MEMBER, f"{member} is not a member", member)]
    lost = _without(state, view, member)
    voters = view.voters or tuple(state.members)
    left = [m for m in voters if lost.report(state, m) is not None]
    needed = len(voters) // 2 + 1
    if member in voters and len(left) < needed:
        return _no_quorum(state, member, f"{len(left)} of {len(voters)} voters would be left, {needed} are needed")
    election = (f"{member} leads the controllers: another one is elected, within about a second",)
    before = election if member == leader else ()
    role = state.members[member].role
    if member == state.primary:
        return _primary_lost(state, lost, before)
    if role is MemberRole.DATA and member in state.sync_set:
        return _replica_lost(state, lost, member, before)
    line = f"{state.primary} goes on: nothing depends on {member} but the majority, {len(left)} of {needed} needed"
    return Explanation(member, role.value, serving=True, outcome=(*before, line))


def _without(state: ClusterState, view: ClusterView, member: str) -> ClusterView:
    """As the leader would see it some seconds after the loss: no report, and nobody receives from there."""
    members = {
        name: replace(seen, report=_cut(state, seen.report, member))
        for name, seen in view.members.items()
        if name != member
    }
    return replace(view, members=members, listening_seconds=float("inf"), version_seconds=float("inf"))


def _cut(state: ClusterState, report: MemberReport, lost: str) -> MemberReport:
    seen = _observation(report)
    if report.mysql is None or seen is None or seen.channel is None:
        return report
    if f"{seen.channel.source_host}:{seen.channel.source_port}" != state.members[lost].mysql:
        return report
    channel = replace(seen.channel, receiver=ReceiverState.CONNECTING, heard_seconds=None)
    return replace(report, mysql=replace(report.mysql, observation=replace(seen, channel=channel)))


def _observation(report: MemberReport | None) -> MySQLObservation | None:
    return report.mysql.observation if report and report.mysql else None


def _no_quorum(state: ClusterState, member: str, why: str) -> Explanation:
    fenced = f"{state.primary} is fenced within {state.settings.lease_ttl:g} s"
    stop = f"nothing can be decided: {why}; {fenced}"
    again = "with a majority back it goes on by itself; `raftctl force-members` is for one that is lost for good"
    role = "primary" if member == state.primary else state.members[member].role.value
    return Explanation(member, role, serving=False, outcome=(stop, again))


# --- the primary --------------------------------------------------------------------------------------


def _primary_lost(state: ClusterState, view: ClusterView, before: tuple[str, ...]) -> Explanation:
    member = state.primary
    began = consider_failover(state, view)
    if not isinstance(began, BeginFailover):
        refusal = began or Refusal(Reason.NO_TARGET, "the leader would not notice", member)
        hypothetical = BeginFailover(based_on=state.version, cause=Cause.REQUESTED)
        _, candidates = _promotion(state, view, hypothetical)
        line = f"no automatic failover: {refusal.text}"
        return Explanation(member, "primary", False, (*before, line), refusals=(refusal,), candidates=tuple(candidates))
    chosen, candidates = _promotion(state, view, began)
    silence = f"after {state.settings.silence_deadline:g} s of silence, at once when its processes ended,"
    silent = f"{silence} epoch {state.epoch + 1} begins"
    if isinstance(chosen, list):
        line = f"nobody could be promoted: {'; '.join(r.text for r in chosen)}"
        return Explanation(
            member, "primary", False, (*before, silent, line), refusals=tuple(chosen), candidates=tuple(candidates)
        )
    return Explanation(
        member,
        "primary",
        serving=len(chosen.sync_set) > chosen.required_acks,
        outcome=(*before, silent, *_after(state, chosen)),
        promoted=chosen.target,
        candidates=tuple(candidates),
    )


def _promotion(
    state: ClusterState, view: ClusterView, began: BeginFailover
) -> tuple[Promote | list[Refusal], list[Candidate]]:
    """Everybody who answers has kept the promise of the new epoch, with what it has now."""
    after, _ = apply(state, began, 0)
    fenced = {
        name: replace(
            seen,
            report=replace(
                seen.report, version=after.version, epoch=after.epoch, fenced_epoch=after.epoch, holds=observation.holds
            ),
        )
        for name, seen in view.members.items()
        if (observation := _observation(seen.report))
    }
    then = replace(view, members=fenced)
    return choose(after, then), _candidates(after, then, fenced)


def _candidates(state: ClusterState, view: ClusterView, fenced: dict[str, Seen]) -> list[Candidate]:
    pool = {m: seen.report for m, seen in fenced.items() if m in state.sync_set and view.up(state, m)}
    judged = eligibility(state, view, pool)
    found = []
    for member in state.data_members:
        if member != state.previous_primary:
            refusal = judged[member] if member in judged else _outside(state, view, member)
            found.append(
                Candidate(
                    member, refusal is None, refusal.reason.value if refusal else "", refusal.text if refusal else ""
                )
            )
    return found


def _outside(state: ClusterState, view: ClusterView, member: str) -> Refusal:
    if member not in state.sync_set:
        return Refusal(
            Reason.NOT_IN_SYNC_SET, f"{member} is not in the sync set: it may lack acknowledged writes", member
        )
    if view.report(state, member) is None:
        return Refusal(Reason.NOT_REPORTING, f"{member} does not report", member)
    return Refusal(Reason.MYSQLD_DOWN, f"mysqld of {member} is down", member)


def _after(state: ClusterState, chosen: Promote) -> tuple[str, ...]:
    replicas = [m for m in chosen.sync_set if m != chosen.target]
    lines = [f"{chosen.target} is promoted: {chosen.why}"]
    if len(replicas) < chosen.required_acks:
        have = ", ".join(replicas) or "nobody"
        lines.append(f"writes wait: {chosen.required_acks} replicas must acknowledge, {have} would be there")
    elif chosen.required_acks < state.required_acks:
        lines.append(f"durability is lowered: {chosen.required_acks} of {state.required_acks} replicas acknowledge")
    else:
        lines.append(
            f"its writes are acknowledged by {', '.join(replicas) or 'nobody'}; needed: {chosen.required_acks}"
        )
    return tuple(lines)


# --- a replica ----------------------------------------------------------------------------------------


def _replica_lost(state: ClusterState, view: ClusterView, member: str, before: tuple[str, ...]) -> Explanation:
    rest = tuple(m for m in state.sync_set if m != member)
    able = [
        m
        for m in rest
        if m not in (state.primary, *state.locked) and view.up(state, m) and receives(state, view.report(state, m))
    ]
    wanted = min(state.required_acks, wanted_acks(state, rest))
    if len(able) >= state.required_acks:
        acks = f"acknowledgements from {', '.join(able) or 'nobody'}, needed: {state.required_acks}"
        line = f"{state.primary} goes on: {acks}"
        return Explanation(member, "data", serving=True, outcome=(*before, line))
    if wanted < state.required_acks:
        line = f"writes wait some seconds; then durability is lowered to {wanted} acknowledgements and they go on"
        return Explanation(member, "data", serving=True, outcome=(*before, line))
    line = f"writes wait: {state.required_acks} replicas must acknowledge, {', '.join(able) or 'nobody'} would be there"
    return Explanation(member, "data", serving=False, outcome=(*before, line))
