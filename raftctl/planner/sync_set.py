"""Who may acknowledge: the sync set follows the health of its members by the steps of rule R6.

Shrinking: Lockout (the primary locks the leaver's replication account and ends its connection), then wait until k of
the others hold everything that the primary had by then, then ShrinkSyncSet. Returning: Admit (replicates without
acknowledging), then GrowSyncSet. With k unchanged growing needs no proof: what k members held, k members still hold.
"""

from __future__ import annotations

from raftctl.cluster.commands import Admit, GrowSyncSet, Lockout, ShrinkSyncSet
from raftctl.cluster.facts import MemberReport, MySQLState
from raftctl.cluster.observation import MySQLObservation, ReceiverState
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner.failover import errant
from raftctl.planner.view import ClusterView

GRACE_SECONDS = 5.0  # a replica may reconnect or restart within this time without leaving S


def maintain(state: ClusterState, view: ClusterView) -> Lockout | ShrinkSyncSet | Admit | GrowSyncSet | None:
    """The next change of S that is justified now, one at a time."""
    change: Lockout | ShrinkSyncSet | Admit | GrowSyncSet | None
    for member in state.data_members:
        if member == state.primary:
            continue
        if member in state.locked:
            change = _shrink(state, view, member) or _admit(state, view, member)
        elif member in state.sync_set:
            change = _lockout(state, view, member)
        else:
            change = _grow(state, view, member)
        if change is not None and (state.phase is Phase.STEADY or _is_due_early(state, change)):
            return change
    return None


def _is_due_early(state: ClusterState, change: Lockout | ShrinkSyncSet | Admit | GrowSyncSet) -> bool:
    """Whether a change may come before the promotion is complete: it brings the replicas that the primary waits for."""
    return isinstance(change, Admit) or (isinstance(change, GrowSyncSet) and state.is_short_of_replicas())


def _observation(report: MemberReport | None) -> MySQLObservation | None:
    return report.mysql.observation if report and report.mysql else None


def receives(state: ClusterState, report: MemberReport | None) -> bool:
    """Whether the member's receiver is connected to the current primary."""
    observation = _observation(report)
    if observation is None or observation.channel is None:
        return False
    channel = observation.channel
    source = f"{channel.source_host}:{channel.source_port}"
    return channel.receiver is ReceiverState.ON and source == state.members[state.primary].mysql


def _lockout(state: ClusterState, view: ClusterView, member: str) -> Lockout | None:
    """A member of S that cannot acknowledge any more is a burden: a failover would have to wait for it."""
    seen = view.members.get(member)
    receiving_age = seen.receiving_age if seen else float("inf")
    if min(receiving_age, view.listening_seconds, view.version_seconds) < GRACE_SECONDS:
        return None
    rest = [m for m in state.sync_set if m not in (member, state.primary, *state.locked)]
    able = [m for m in rest if view.up(state, m) and receives(state, view.report(state, m))]
    if len(able) < state.required_acks:
        return None  # writes wait already; a smaller S could never be proven
    return Lockout(based_on=state.version, member=member, why=f"{member} does not receive from {state.primary}")


def _shrink(state: ClusterState, view: ClusterView, member: str) -> ShrinkSyncSet | None:
    if member not in state.sync_set or len(state.sync_set) - 1 < state.required_acks + 1:
        return None
    primary = view.report(state, state.primary)
    source = _observation(primary)
    if primary is None or source is None or member not in primary.locked or primary.version != state.version:
        return None
    # The leaver may have been the only acker of anything that was in the primary's binary log when it was locked out.
    everything = source.gtid_executed | source.gtid_owned
    rest = [m for m in state.sync_set if m not in (member, state.primary, *state.locked)]
    holders = [m for m in rest if (o := _observation(view.report(state, m))) and everything <= o.holds]
    if len(holders) < state.required_acks:
        return None
    return ShrinkSyncSet(based_on=state.version, member=member)


def _admit(state: ClusterState, view: ClusterView, member: str) -> Admit | None:
    report = view.up(state, member)
    observation = _observation(report)
    if report is None or observation is None or report.version != state.version:
        return None
    if errant(report) and member in state.sync_set:
        return None  # it leaves S first; outside of S it needs its account, to be rebuilt
    if not observation.super_read_only or observation.semi_sync.source_enabled:
        return None
    if member not in state.sync_set and (observation.semi_sync.replica_enabled or _tries_to_receive(observation)):
        return None  # it could acknowledge although it does not count, or connect before it compared itself
    return Admit(based_on=state.version, member=member)


def _tries_to_receive(observation: MySQLObservation) -> bool:
    return observation.channel is not None and observation.channel.receiver is not ReceiverState.OFF


def _grow(state: ClusterState, view: ClusterView, member: str) -> GrowSyncSet | None:
    report = view.up(state, member)
    observation = _observation(report)
    if report is None or report.mysql is None or observation is None or errant(report):
        return None
    if report.version != state.version or report.mysql.state is not MySQLState.REPLICA:
        return None
    if not receives(state, report) or not state.floor <= observation.holds:
        return None
    return GrowSyncSet(based_on=state.version, member=member)
