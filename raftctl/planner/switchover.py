"""Planned change of primary: the request, and the steps until the target takes over."""

from __future__ import annotations

from raftctl.cluster.commands import AbortSwitchover, BeginFailover, BeginSwitchover, Cause, Promote, Proof
from raftctl.cluster.durability import wanted_acks
from raftctl.cluster.facts import MemberReport
from raftctl.cluster.observation import ReceiverState
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner.failover import damage, diagnose, errant, infeasible, on_disk
from raftctl.planner.refusal import Reason, Refusal
from raftctl.planner.view import ClusterView

HAND_OVER_SECONDS = 10.0  # how long writes may stand still before the previous primary gets its reign back
LAG_SECONDS_MAX = 5.0  # a target that is further behind would keep writes away while it applies


def request_switchover(
    state: ClusterState, view: ClusterView, *, target: str = "", by: str
) -> BeginSwitchover | list[Refusal]:
    """A person asks for a switchover, to `target` or to the best replica."""
    if refusal := not_now(state):
        return [refusal]
    if diagnosis := diagnose(state, view, state.primary):
        return [
            Refusal(Reason.PRIMARY_UNHEALTHY, f"{diagnosis.why}: a switchover needs a healthy primary", state.primary)
        ]
    if target and (refusal := _unknown_target(state, target)):
        return [refusal]
    going = (state.primary, state.leaving, *state.retiring, *state.rebuilds)
    candidates = [target] if target else [m for m in state.data_members if m not in going]
    refusals = {m: unfit(state, view, m) for m in candidates}
    fit = [m for m in candidates if refusals[m] is None]
    if not fit:
        return [r for r in refusals.values() if r] or [Refusal(Reason.NO_TARGET, "there is no other data member")]
    chosen = min(fit, key=lambda m: (-state.members[m].priority, m))
    return BeginSwitchover(based_on=state.version, target=chosen, why=f"requested by {by}", by=by)


def request_failover(
    state: ClusterState, view: ClusterView, *, target: str = "", by: str
) -> BeginFailover | list[Refusal]:
    """A person asks for a failover of an unhealthy primary. It is proven like an automatic one; only the pause and
    `failover.automatic: false` do not hold it back."""
    if refusal := not_now(state):
        return [refusal]
    if target and (refusal := _unknown_target(state, target)):
        return [refusal]
    if target and target not in state.sync_set:
        return [
            Refusal(Reason.NOT_IN_SYNC_SET, f"{target} is not in the sync set: it may lack acknowledged writes", target)
        ]
    diagnosis = diagnose(state, view, state.primary)
    if diagnosis is None and _serves(state, view):
        return [Refusal(Reason.PRIMARY_HEALTHY, f"{state.primary} is healthy: use `raftctl switchover`", state.primary)]
    if refusal := infeasible(state, view):
        return [refusal]
    why = f"requested by {by}" + (f": {diagnosis.why}" if diagnosis else "")
    return BeginFailover(based_on=state.version, cause=Cause.REQUESTED, why=why, target=target, by=by)


def _serves(state: ClusterState, view: ClusterView) -> bool:
    report = view.up(state, state.primary)
    return bool(report and report.mysql and report.mysql.observation and report.mysql.observation.writable)


def not_now(state: ClusterState) -> Refusal | None:
    """Why no change of primary can be asked for, None when it can."""
    if state.phase is Phase.UNINITIALIZED:
        return Refusal(Reason.NOT_INITIALIZED, "the cluster is not bootstrapped")
    if not state.primary:
        return Refusal(Reason.CHANGE_UNDER_WAY, f"a {state.phase.value} is under way")
    return None


def _unknown_target(state: ClusterState, target: str) -> Refusal | None:
    if target not in state.members:
        return Refusal(Reason.UNKNOWN_MEMBER, f"{target} is not a member", target)
    if target not in state.data_members:
        role = state.members[target].role.value
        return Refusal(Reason.NOT_A_DATA_MEMBER, f"{target} has the role {role}", target)
    if target == state.primary:
        return Refusal(Reason.ALREADY_PRIMARY, f"{target} is the primary already", target)
    return None


def unfit(state: ClusterState, view: ClusterView, member: str) -> Refusal | None:
    """Why `member` cannot take over now in a switchover; None when it can."""
    if member not in state.sync_set:
        return Refusal(Reason.NOT_IN_SYNC_SET, f"{member} is not in the sync set", member)
    if member in state.locked:
        return Refusal(Reason.LOCKED_OUT, f"{member} is locked out", member)
    report = view.report(state, member)
    if report is None:
        return Refusal(Reason.NOT_REPORTING, f"{member} does not report", member)
    if view.up(state, member) is None:
        return Refusal(Reason.MYSQLD_DOWN, f"mysqld of {member} is down", member)
    if errant(report):
        return Refusal(Reason.ERRANT_TRANSACTIONS, f"{member} has errant transactions {errant(report)}", member)
    if said := damage(report):
        return Refusal(Reason.DAMAGED_DATA, f"InnoDB of {member} reports damaged data: {said}", member)
    return _not_following(report)


def _not_following(report: MemberReport) -> Refusal | None:
    observation = report.mysql.observation if report.mysql else None
    channel = observation.channel if observation else None
    member = report.member
    if channel is None or channel.receiver is not ReceiverState.ON:
        return Refusal(Reason.NOT_REPLICATING, f"{member} is not connected to the primary", member)
    if not channel.applier_running:
        return Refusal(Reason.APPLIER_STOPPED, f"{member} does not apply: {channel.applier_error or 'stopped'}", member)
    if channel.apply_lag_seconds is not None and channel.apply_lag_seconds > LAG_SECONDS_MAX:
        return Refusal(Reason.LAGGING, f"{member} is {channel.apply_lag_seconds:.0f} s behind", member)
    return None


def advance_switchover(
    state: ClusterState, view: ClusterView
) -> Promote | AbortSwitchover | BeginFailover | list[Refusal]:
    """The next step of a switchover that the log holds, or why it waits.

    The proof is the previous primary's own word: read-only, nothing in flight, and what it has (rule R3). Its replicas
    keep receiving until then, so the target is promoted once it holds exactly that.
    """
    assert state.phase is Phase.SWITCHOVER
    previous, target = state.previous_primary, state.target
    if diagnosis := diagnose(state, view, previous):
        return BeginFailover(based_on=state.version, cause=diagnosis.cause, why=f"during a switchover: {diagnosis.why}")
    if view.silent(state, target) or (view.report(state, target) and not view.up(state, target)):
        return AbortSwitchover(based_on=state.version, why=f"{target} was lost during the switchover")
    final = view.report(state, previous)
    if final is None or final.fenced_epoch != state.epoch:
        return _wait(state, view, Refusal(Reason.NOT_FENCED, f"{previous} still finishes its writes", previous))
    report = view.report(state, target)
    if report is None or not final.holds <= on_disk(report):
        return _wait(state, view, Refusal(Reason.MISSING_TRANSACTIONS, f"{target} still receives", target))
    return Promote(
        based_on=state.version,
        target=target,
        certificate=on_disk(report),
        sync_set=state.sync_set,
        required_acks=wanted_acks(state, state.sync_set),
        locked=state.locked,
        proof=Proof.PRIMARY_FENCED,
        reporters=(previous, target),
        why=f"{previous} is read-only and {target} holds all that it has",
    )


def _wait(state: ClusterState, view: ClusterView, refusal: Refusal) -> AbortSwitchover | list[Refusal]:
    if view.version_seconds > HAND_OVER_SECONDS:
        return AbortSwitchover(based_on=state.version, why=f"not done within {HAND_OVER_SECONDS:g} s: {refusal.text}")
    return [refusal]
