"""Unplanned change of primary: is the primary lost, can a failover succeed, and whom to promote (rules R3, R4, R7)."""

from __future__ import annotations

from functools import reduce

import msgspec

from raftctl.cluster.commands import BeginFailover, Cause, Promote, Proof
from raftctl.cluster.durability import wanted_acks
from raftctl.cluster.facts import MemberReport, MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import ReceiverState
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner.refusal import Reason, Refusal
from raftctl.planner.view import ClusterView

MORE_REPORTERS_SECONDS = 1.0
HEARD_SECONDS = 1.25  # the heartbeat period is 1 s
LEASE_MARGIN = 1.25  # its guard fences, or its controller is back, by then
APPLY_SECONDS = 5.0  # usual promotions have applied everything long before
HUNG_UP_SECONDS = 0.3  # a controller that restarts is back by then


class Diagnosis(msgspec.Struct, frozen=True):
    cause: Cause
    why: str


def diagnose(state: ClusterState, view: ClusterView, member: str) -> Diagnosis | None:
    """Why the primary (or the one that is being relieved) counts as lost; None when it does not."""
    report = view.report(state, member)
    if report is None:
        if view.silent(state, member):
            deadline = state.settings.silence_deadline
            return Diagnosis(Cause.HOST_SILENT, f"no word from {member}'s controller for {deadline:g} s")
        return None
    if report.mysql is None:
        return None
    if _cut_off(state, view, member):
        return Diagnosis(Cause.HOST_SILENT, f"{member}'s controller hung up and no replica receives from its mysqld")
    if report.mysql.state is MySQLState.DOWN:
        return Diagnosis(Cause.MYSQLD_DEAD, f"mysqld of {member} is down: {report.mysql.error or 'process ended'}")
    if report.mysql.state is MySQLState.UNRESPONSIVE:
        return Diagnosis(Cause.MYSQLD_UNRESPONSIVE, f"mysqld of {member} does not answer")
    if report.mysql.disk_stalled:
        what = "has been full" if report.mysql.disk_full else "has completed no write"
        waits = f"the disk of {member}'s mysqld {what} for {report.mysql.disk_waits_seconds:.0f} s"
        return Diagnosis(Cause.MYSQLD_UNRESPONSIVE, waits)
    return None


def _cut_off(state: ClusterState, view: ClusterView, member: str) -> bool:
    """Whether everybody who could hear the host has seen it go: its processes ended, and nobody need wait for silence.

    A wrong guess costs a failover and never a write: the choice rests on fence reports all the same. So only what was
    said after the hanging up counts, and nothing soon after this controller was away itself: when a whole machine
    stands still for a while, all its connections end as well."""
    away = view.members[member].hung_up_seconds
    if away is None or away < HUNG_UP_SECONDS or view.listening_seconds < state.settings.silence_deadline:
        return False
    since = [m for m in state.sync_set if m != member and m in view.members and view.members[m].age < away]
    replicas = [r for m in since if (r := view.up(state, m))]
    return len(replicas) >= max(_needed_reporters(state), 1) and not any(_has_source(r) for r in replicas)


def _has_source(report: MemberReport) -> bool:
    observation = report.mysql.observation if report.mysql else None
    return bool(observation and observation.channel and observation.channel.receiver is ReceiverState.ON)


def consider_failover(state: ClusterState, view: ClusterView) -> BeginFailover | Refusal | None:
    """Begin a failover when the primary is lost and its replicas can take over; None when all is well."""
    diagnosis = diagnose(state, view, state.primary)
    if diagnosis is None:
        return None
    if state.paused is not None:
        return Refusal(Reason.PAUSED, f"{diagnosis.why}; automatic failover is paused: {state.paused.reason}")
    if not state.settings.failover_automatic:
        return Refusal(Reason.AUTOMATIC_OFF, f"{diagnosis.why}; failover.automatic is false: run `raftctl failover`")
    held = infeasible(state, view) or _held_back(state, view, diagnosis)
    return held or BeginFailover(based_on=state.version, cause=diagnosis.cause, why=diagnosis.why)


def _held_back(state: ClusterState, view: ClusterView, diagnosis: Diagnosis) -> Refusal | None:
    """Why a failover that could be done is not yet: the primary may be well, and replicas still hear its mysqld.

    A mysqld that is known to be dead, and one that no replica hears, so that it can acknowledge nothing, never wait."""
    witnesses = [m for m in state.sync_set if m != state.primary and _hears(state, view, m)]
    if diagnosis.cause is Cause.MYSQLD_DEAD or not witnesses:
        return None
    heard = f"{diagnosis.why}, but {', '.join(witnesses)} still hear its mysqld"
    seen = view.members.get(state.primary)
    if diagnosis.cause is Cause.HOST_SILENT and seen and seen.age < LEASE_MARGIN * state.settings.lease_ttl:
        return Refusal(Reason.STILL_HEARD, f"{heard}: waits until its lease is over", state.primary)
    left = state.settings.failover_cooldown - view.failover_seconds
    if state.failover_cause == diagnosis.cause.value and left > 0:
        cooldown = state.settings.failover_cooldown
        return Refusal(Reason.COOLDOWN, f"{heard}; the last failover had the same cause: cooldown {cooldown:g} s")
    return None


def _hears(state: ClusterState, view: ClusterView, member: str) -> bool:
    report = view.up(state, member)
    observation = report.mysql.observation if report and report.mysql else None
    channel = observation.channel if observation else None
    if channel is None or channel.receiver is not ReceiverState.ON or channel.heard_seconds is None:
        return False
    source = f"{channel.source_host}:{channel.source_port}"
    return channel.heard_seconds < HEARD_SECONDS and source == state.members[state.primary].mysql


def reconsider_target(state: ClusterState, view: ClusterView) -> BeginFailover | None:
    """A new epoch when the promotion target does not get done applying what it received while another member of S,
    which holds everything as well, has: it is fenced and chosen like in any failover (rules R3 and R4)."""
    report = view.up(state, state.primary)
    seen = report.mysql.observation if report and report.mysql else None
    if state.phase is not Phase.PROMOTING or report is None or seen is None or report.epoch != state.epoch:
        return None
    left = (seen.gtid_received - seen.gtid_executed).count()
    if view.version_seconds < APPLY_SECONDS or not left or seen.writable or infeasible(state, view):
        return None
    done = [m for m in state.sync_set if m != state.primary and state.floor <= _executed(view.up(state, m))]
    if not done:
        return None
    why = f"{state.primary} still has to apply {left} received transactions, {', '.join(done)} has applied all"
    return BeginFailover(based_on=state.version, cause=Cause.PROMOTION_STUCK, why=why)


def _executed(report: MemberReport | None) -> GTIDSet:
    observation = report.mysql.observation if report and report.mysql else None
    return observation.gtid_executed if observation else GTIDSet()


def infeasible(state: ClusterState, view: ClusterView) -> Refusal | None:
    """Why a failover begun now could not end: fencing replicas for nothing only keeps writes away longer."""
    if state.required_acks == 0 and not state.is_async:
        text = f"only {state.primary} is known to hold everything: it took writes with no replica in the sync set"
        return Refusal(Reason.PRIMARY_ALONE, text)
    up = [r for m in state.sync_set if m != state.primary and (r := view.up(state, m))]
    needed = _needed_reporters(state)
    if not up or len(up) < needed:
        text = (
            f"{len(up)} replicas of the sync set answer and {max(needed, 1)} are needed to prove what was acknowledged"
        )
        return Refusal(Reason.TOO_FEW_REPLICAS, text)
    if not any(state.floor <= on_disk(report) for report in up):
        return Refusal(Reason.BELOW_FLOOR, "no reachable replica holds all that the primary had when it was promoted")
    return None


def _needed_reporters(state: ClusterState) -> int:
    if state.is_async:
        return len(state.lasting_data_members) // 2 + 1
    return state.fence_quorum()


def on_disk(report: MemberReport) -> GTIDSet:
    """What the member was last seen to have executed or received. It has at least that, unless it is rebuilt."""
    observation = report.mysql.observation if report.mysql else None
    return observation.holds if observation else GTIDSet()


# --- choosing the promotion target ------------------------------------------------------------------


def choose(state: ClusterState, view: ClusterView) -> Promote | list[Refusal]:
    """The promotion that the fence reports of this epoch justify, or why none is justified yet.

    Only reports that carry this epoch's promise count. A report may be older than the silence deadline: the promise
    stands until a Promote is applied, and a set that was on disk stays on disk.
    """
    assert state.phase is Phase.FAILOVER
    fenced = {
        m: view.members[m].report
        for m in state.sync_set
        if m in view.members and view.members[m].report.fenced_epoch == state.epoch
    }
    refusals = _unfenced(state, view, fenced)
    for proof, pool in _proofs(state, view, fenced):
        target, refusals = _best(state, view, pool)
        if target:
            made = promotion(state, target=target, pool=pool, proof=proof)
            return _wait_for_more(state, view, fenced, made) or made
    return refusals


def _wait_for_more(
    state: ClusterState, view: ClusterView, fenced: dict[str, MemberReport], made: Promote
) -> list[Refusal] | None:
    """A promotion that lowers k gives the others, which answer, a moment to report: with them it need not be."""
    late = [m for m in state.sync_set if m not in fenced and m != state.previous_primary and view.up(state, m)]
    if made.required_acks >= state.required_acks or not late or view.version_seconds > MORE_REPORTERS_SECONDS:
        return None
    return [Refusal(Reason.NOT_FENCED, f"{m} is not fenced yet", m) for m in late]


def _best(state: ClusterState, view: ClusterView, pool: dict[str, MemberReport]) -> tuple[str, list[Refusal]]:
    """The promotion target among the reporters, or "" and why none of them is eligible (rule R4)."""
    refusals = eligibility(state, view, pool)
    eligible = [m for m, refusal in refusals.items() if refusal is None]
    # A damaged member is better than a lost write: only when nobody else holds everything.
    chosen = min(eligible, key=lambda m: (bool(damage(pool[m])), *_preference(state, m)), default="")
    return chosen, [r for r in refusals.values() if r]


def eligibility(state: ClusterState, view: ClusterView, pool: dict[str, MemberReport]) -> dict[str, Refusal | None]:
    """For each reporter why it cannot be promoted, None when it can: it must hold what all of them hold (rule R4)."""
    required = reduce(GTIDSet.__or__, (r.holds - errant(r) for r in pool.values()), GTIDSet())
    return {m: _ineligible(state, view, m, report, required) for m, report in pool.items()}


def promotion(state: ClusterState, *, target: str, pool: dict[str, MemberReport], proof: Proof) -> Promote:
    """Promote `target`; S becomes the reporters that have nothing the target lacks, everybody else is locked out.

    Nobody's acknowledgement is lost by that: all that was acknowledged is in the target's set, the next floor.
    """
    certificate = pool[target].holds
    sync_set = tuple(m for m, report in pool.items() if report.holds <= certificate)
    return Promote(
        based_on=state.version,
        target=target,
        certificate=certificate,
        sync_set=sync_set,
        required_acks=wanted_acks(state, sync_set),
        locked=tuple(m for m in state.data_members if m not in sync_set),
        proof=proof,
        reporters=tuple(pool),
        why=f"holds everything that {', '.join(pool)} hold" + _caveat(state, proof),
    )


def _caveat(state: ClusterState, proof: Proof) -> str:
    if proof is not Proof.ASYNC_MAJORITY:
        return ""
    return f"; durability is async: what only {state.previous_primary} had is lost"


def _proofs(
    state: ClusterState, view: ClusterView, fenced: dict[str, MemberReport]
) -> list[tuple[Proof, dict[str, MemberReport]]]:
    """Rule R3: which proofs the reports give, and whose reports each rests on, the preferred one first.

    With enough fenced replicas the previous primary's own set is left out: what only it has was never acknowledged.
    It is needed after all when those replicas are below the floor.
    """
    proofs = []
    replicas = {m: r for m, r in fenced.items() if m != state.previous_primary}
    if state.required_acks > 0 and len(replicas) >= max(state.fence_quorum(), 1):
        proofs.append((Proof.REPLICAS_FENCED, replicas))
    if state.previous_primary in fenced:
        proofs.append((Proof.PRIMARY_FENCED, fenced))
    if state.is_async and len(fenced) >= _needed_reporters(state) and lease_is_over(state, view):
        proofs.append((Proof.ASYNC_MAJORITY, fenced))
    return proofs


def lease_is_over(state: ClusterState, view: ClusterView) -> bool:
    """Whether no mysqld of the previous primary is writable under a lease any more (needed only without
    acknowledgements).

    No leader grants once it applied BeginFailover. An older leader may have granted until its contact with a majority
    was an election timeout old. A controller that restarts at the end of its lease does not know that it ends, and
    waits for as long as a lease lasts before it fences. A quarter more covers clocks that run at different speeds.
    """
    settings = state.settings
    down = view.report(state, state.previous_primary)
    if down and down.epoch == state.epoch and down.mysql and down.mysql.state is MySQLState.DOWN:
        return True  # and its controller knows that it must not open it again
    return view.version_seconds >= 1.25 * (2 * settings.lease_ttl + settings.election_timeout)


def errant(report: MemberReport) -> GTIDSet:
    return report.mysql.errant if report.mysql else GTIDSet()


def damage(report: MemberReport | None) -> str:
    """What its InnoDB said about damaged data, "" for nothing."""
    return report.mysql.damage if report and report.mysql else ""


def stranded(report: MemberReport | None) -> str:
    """Why only a CLONE can make this member useful again, "" when it is not so."""
    return report.mysql.stranded if report and report.mysql else ""


def _ineligible(
    state: ClusterState, view: ClusterView, member: str, report: MemberReport, required: GTIDSet
) -> Refusal | None:
    """Why this reporter cannot be promoted (rule R4); None when it can."""
    if errant(report):
        return Refusal(Reason.ERRANT_TRANSACTIONS, f"{member} has errant transactions {errant(report)}", member)
    if not state.floor <= report.holds:
        return Refusal(
            Reason.BELOW_FLOOR, f"{member} lacks {(state.floor - report.holds).count()} transactions", member
        )
    missing = required - report.holds
    if missing:
        return Refusal(Reason.MISSING_TRANSACTIONS, f"{member} lacks {missing.count()} transactions", member)
    if view.up(state, member) is None:
        return Refusal(Reason.NOT_REPORTING, f"{member} does not answer any more", member)
    return None


def _preference(state: ClusterState, member: str) -> tuple[bool, bool, bool, int, str]:
    """Ties only: the person's wish, then one that stays, then one that did not just fail, then priority, then name."""
    return (
        member != state.target,
        member in (state.leaving, *state.retiring, *state.rebuilds),
        member == state.previous_primary,
        -state.members[member].priority,
        member,
    )


def _unfenced(state: ClusterState, view: ClusterView, fenced: dict[str, MemberReport]) -> list[Refusal]:
    if state.required_acks == 0 and len(fenced) >= _needed_reporters(state):
        why = f"without acknowledgements the lease of {state.previous_primary} must have run out first"
        return [Refusal(Reason.LEASE_NOT_EXPIRED, why, state.previous_primary)]
    refusals = [Refusal(Reason.TOO_FEW_FENCED, f"{len(fenced)} members report fenced for epoch {state.epoch}")]
    for m in state.sync_set:
        if m in fenced:
            continue
        if view.report(state, m) is None:
            refusals.append(Refusal(Reason.NOT_REPORTING, f"{m} does not report", m))
        elif view.up(state, m) is None:
            refusals.append(Refusal(Reason.MYSQLD_DOWN, f"mysqld of {m} is down", m))
        else:
            refusals.append(Refusal(Reason.NOT_FENCED, f"{m} is not fenced yet", m))
    return refusals
