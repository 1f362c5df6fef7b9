"""Who may acknowledge: the sync set follows the health of its members by the steps of rule R6.

Shrinking: Lockout (the primary locks the leaver's replication account and ends its connection), then wait until k of
the others hold everything that the primary had by then, then ShrinkSyncSet. Returning: Admit (replicates without
acknowledging), then, when it has nearly caught up, GrowSyncSet. With k unchanged growing needs no proof: what k members
held, k members still hold.

With the policy `available` k follows the size of S: it is lowered together with S, by the same command, and raised by
ChangeAcks once S has grown. With k = 0 nobody but the primary is known to hold everything, and nobody else is promoted.
"""

from __future__ import annotations

from raftctl.cluster.commands import Admit, ChangeAcks, GrowSyncSet, Lockout, ShrinkSyncSet
from raftctl.cluster.durability import wanted_acks
from raftctl.cluster.facts import MemberReport, MySQLState
from raftctl.cluster.observation import MySQLObservation, ReceiverState
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner.failover import damage, errant, stranded
from raftctl.planner.view import UP_STATES, ClusterView

Change = Lockout | ShrinkSyncSet | Admit | GrowSyncSet | ChangeAcks

GRACE_SECONDS = 5.0  # a replica may reconnect or restart within this time without leaving S
GONE_SECONDS = 120.0  # a host that lost power has started again by then


def maintain(state: ClusterState, view: ClusterView) -> Change | None:
    """The next change of S or k that is justified now, one at a time."""
    change: Change | None
    for member in state.data_members:
        if member == state.primary:
            continue
        if member in state.locked:
            change = _shrink(state, view, member) or admit(state, view, member)
        elif member in state.sync_set:
            change = _let_go(state, view, member) if is_to_go(state, member) else _lockout(state, view, member)
        else:
            change = _grow(state, view, member)
        if change is not None and (state.phase is Phase.STEADY or _is_due_early(state, change)):
            return change
    return _change_acks(state, view) if state.phase is Phase.STEADY else None


def _is_due_early(state: ClusterState, change: Change) -> bool:
    """Whether a change may come before the promotion is complete: it brings the replicas that the primary waits for."""
    return isinstance(change, Admit) or (isinstance(change, GrowSyncSet) and state.is_short_of_replicas())


def _observation(report: MemberReport | None) -> MySQLObservation | None:
    return report.mysql.observation if report and report.mysql else None


def _on_disk(report: MemberReport | None) -> MySQLObservation | None:
    """What was seen last is still there, also when mysqld is down, unless a CLONE replaces it."""
    gone = report and report.mysql and (report.mysql.incomplete or report.mysql.state is MySQLState.REBUILDING)
    return None if gone else _observation(report)


def receives(state: ClusterState, report: MemberReport | None) -> bool:
    """Whether the member's receiver is connected to the current primary, and its disk takes what comes. A dead mysqld's
    is not, whatever was seen."""
    observation = _observation(report)
    if report is None or report.mysql is None or report.mysql.state not in UP_STATES or report.mysql.disk_stalled:
        return False
    if observation is None or observation.channel is None:
        return False
    channel = observation.channel
    source = f"{channel.source_host}:{channel.source_port}"
    return channel.receiver is ReceiverState.ON and source == state.members[state.primary].mysql


def is_to_go(state: ClusterState, member: str) -> bool:
    """Whether somebody asked for what the member must be out of S for."""
    return member == state.leaving or member in state.rebuilds or member in state.retiring


def able_without(state: ClusterState, view: ClusterView, member: str) -> list[str]:
    """The other replicas of S that can acknowledge now."""
    rest = _unlocked_replicas(state, without=member)
    return [m for m in rest if view.up(state, m) and receives(state, view.report(state, m))]


def _let_go(state: ClusterState, view: ClusterView, member: str) -> Lockout | None:
    """The member may be well: writes must go on without it. When k is about to be lower, that comes first."""
    able = able_without(state, view, member)
    if len(able) < state.required_acks and not _may_lower(state, view):
        return None
    why = "is to be rebuilt"
    if member in (state.leaving, *state.retiring):
        why = "is removed" if member == state.leaving else "becomes async"
    return Lockout(based_on=state.version, member=member, why=f"{member} {why}")


def _lockout(state: ClusterState, view: ClusterView, member: str) -> Lockout | None:
    """A member of S that cannot acknowledge any more is a burden: a failover would have to wait for it."""
    seen = view.members.get(member)
    receiving_age = seen.receiving_age if seen else float("inf")
    if min(receiving_age, view.listening_seconds, view.version_seconds) < GRACE_SECONDS:
        return None
    if len(able_without(state, view, member)) < state.required_acks and not _may_lower(state, view):
        # Writes wait already, and a smaller S could not be proven by holders; but a CLONE can make them go on.
        why = _given_up(state, view, member)
        return Lockout(based_on=state.version, member=member, why=why) if why else None
    return Lockout(based_on=state.version, member=member, why=f"{member} does not receive from {state.primary}")


def _given_up(state: ClusterState, view: ClusterView, member: str) -> str:
    """Why S, which has too few that acknowledge, goes on without this member, "" when it does not: only a CLONE makes
    it useful again, or it is gone, and stands in the way of one for which that is so."""
    if why := stranded(view.up(state, member)):
        return f"{member} has to be rebuilt: {why}"
    helped = _stranded_members(state, view)
    if not helped or not _is_gone(state, view, member):
        return ""
    return f"{member} is gone, and {', '.join(helped)} can only be rebuilt"


def _stranded_members(state: ClusterState, view: ClusterView) -> list[str]:
    return [m for m in state.sync_set if stranded(view.up(state, m))]


def _is_gone(state: ClusterState, view: ClusterView, member: str) -> bool:
    """For longer than a host takes to start again: while it is in S its return alone would let writes go on. And not
    only for this leader: it does not acknowledge, either."""
    seen, source = view.members.get(member), _observation(view.report(state, state.primary))
    away = min(seen.receiving_age if seen else float("inf"), view.listening_seconds)
    waits = source is not None and source.semi_sync.clients < state.source_acks
    return waits and view.up(state, member) is None and away >= GONE_SECONDS


def _may_lower(state: ClusterState, view: ClusterView) -> bool:
    """`available`, and it is the replicas that are lost, not the primary."""
    report = view.up(state, state.primary)
    if state.settings.durability_policy != "available" or report is None or report.mysql is None:
        return False
    return report.mysql.state is MySQLState.PRIMARY or _is_left_closed(state, view, report)


def _is_left_closed(state: ClusterState, view: ClusterView, report: MemberReport) -> bool:
    """Whether the primary started again after replicas were lost, and does not open until enough of them connect: for
    longer than their hosts take to start again, too."""
    source = _observation(report)
    if source is None or report.epoch != state.epoch or not state.floor <= source.holds:
        return False
    missing = [m for m in _unlocked_replicas(state) if not receives(state, view.up(state, m))]
    away = [view.members[m].receiving_age if m in view.members else float("inf") for m in missing]
    return source.semi_sync.clients < state.source_acks and min([view.listening_seconds, *away]) >= GONE_SECONDS


def _unlocked_replicas(state: ClusterState, *, without: str = "") -> list[str]:
    return [m for m in state.sync_set if m not in (without, state.primary, *state.locked)]


def _shrink(state: ClusterState, view: ClusterView, member: str) -> ShrinkSyncSet | None:
    """All that are locked leave together: `available` could not leave the last of them behind with k > 0."""
    if member not in state.sync_set:
        return None
    leavers = tuple(m for m in state.sync_set if m in state.locked)
    rest = _unlocked_replicas(state)
    lowered = state.settings.durability_policy == "available"
    acks = min(state.required_acks, wanted_acks(state, (state.primary, *rest))) if lowered else state.required_acks
    report = view.report(state, state.primary)
    if report is None or report.version != state.version or not set(leavers) <= set(report.locked):
        return None
    if not lowered and acks > len(rest) and all(_given_up(state, view, m) for m in leavers):
        return _leave_short(state, report, leavers, helped=_stranded_members(state, view))
    # A leaver may have been the only acker of anything that was in the primary's binary log when it was locked out.
    if acks > len(rest) or len(_holders(state, view, rest)) < acks:
        return None
    why = f"{acks} of {', '.join(rest) or 'nobody'} hold everything"
    return ShrinkSyncSet(based_on=state.version, members=leavers, required_acks=acks, why=why)


def _leave_short(
    state: ClusterState, report: MemberReport, leavers: tuple[str, ...], *, helped: list[str]
) -> ShrinkSyncSet | None:
    """`strict`, and fewer than k are left: since the leavers were locked out nothing can be acknowledged, and nothing
    is until S has grown. So what the primary has is the floor: all that it has executed, once no commit is under way
    that the last acknowledgement may have reached, or that a crash would undo."""
    source = _observation(report)
    if source is None or report.source_acks != state.source_acks or source.gtid_owned:
        return None
    if not state.floor <= source.gtid_executed:
        return None
    return ShrinkSyncSet(
        based_on=state.version,
        members=leavers,
        required_acks=state.required_acks,
        floor=source.gtid_executed,
        why=f"{', '.join(helped)} can only be rebuilt, from {state.primary}; writes wait until that is done",
    )


def _holders(state: ClusterState, view: ClusterView, members: list[str]) -> list[str]:
    """Those that hold everything that was in the primary's binary log once it acted on this state: what comes later
    has its acknowledgements by the new order."""
    seen = view.members[state.primary]
    source = _observation(seen.first or seen.report)
    if source is None:
        return []
    everything = source.gtid_executed | source.gtid_owned
    observations = {m: _on_disk(view.report(state, m)) for m in members}
    # One that does not acknowledge yet may not have on disk what it holds.
    return [m for m, o in observations.items() if o and o.semi_sync.replica_enabled and everything <= o.holds]


def _change_acks(state: ClusterState, view: ClusterView) -> ChangeAcks | None:
    """k follows the policy. Lower: the log first, then the primary. Higher: the primary waits for more first, and what
    it had by then must be held by as many before k counts on it."""
    k, waits = state.required_acks, state.source_acks
    wanted = wanted_acks(state, state.sync_set)
    replicas = _unlocked_replicas(state)
    if wanted < waits:
        lower = min(k, wanted)
        return ChangeAcks(based_on=state.version, required_acks=lower, source_acks=wanted, why="fewer are wanted")
    if wanted > waits:
        ready = [m for m in replicas if _has_nearly_caught_up(state, view, m)]
        if len(ready) < wanted:
            return None
        why = f"{', '.join(ready)} can acknowledge"
        return ChangeAcks(based_on=state.version, required_acks=k, source_acks=wanted, why=why)
    report = view.report(state, state.primary)
    if waits == k or report is None or report.version != state.version or report.source_acks != waits:
        return None
    holders = _holders(state, view, replicas)
    if len(holders) < waits:
        return None
    why = f"{', '.join(holders)} hold everything"
    return ChangeAcks(based_on=state.version, required_acks=waits, source_acks=waits, why=why)


def _has_nearly_caught_up(state: ClusterState, view: ClusterView, member: str) -> bool:
    """Whether commits that wait for this member would not wait for long: it holds what the primary had a moment ago.

    A number of transactions would not do: reports are up to a second apart, and in that time a primary may write
    thousands."""
    report, primary = view.up(state, member), view.members.get(state.primary)
    observation = _observation(report)
    source = _observation(primary.earlier or primary.report) if primary else None
    if observation is None or source is None or not receives(state, report):
        return False
    return source.gtid_executed <= observation.holds


def admit(state: ClusterState, view: ClusterView, member: str) -> Admit | None:
    """Admit a locked-out member when it cannot acknowledge by mistake, else None."""
    report = view.up(state, member)
    observation = _observation(report)
    if report is None or observation is None or report.version != state.version:
        return None
    stays_out = is_to_go(state, member) and (member in state.sync_set or member == state.leaving)
    if stays_out and not _is_needed_after_all(state, view, member):
        return None
    if (errant(report) or stranded(report)) and member in state.sync_set:
        return None  # it leaves S first; outside of S it needs its account, to be rebuilt
    if not observation.super_read_only or observation.semi_sync.source_enabled:
        return None
    if member not in state.sync_set and (observation.semi_sync.replica_enabled or _tries_to_receive(observation)):
        return None  # it could acknowledge although it does not count, or connect before it compared itself
    return Admit(based_on=state.version, member=member)


def _is_needed_after_all(state: ClusterState, view: ClusterView, member: str) -> bool:
    """Whether writes wait for a member that is to go: those that were to acknowledge in its place were lost since."""
    if member not in state.sync_set:
        return state.is_short_of_replicas()
    lost = len(able_without(state, view, member)) < state.required_acks and not _may_lower(state, view)
    return lost and view.version_seconds >= GRACE_SECONDS


def _tries_to_receive(observation: MySQLObservation) -> bool:
    return observation.channel is not None and observation.channel.receiver is not ReceiverState.OFF


def _grow(state: ClusterState, view: ClusterView, member: str) -> GrowSyncSet | None:
    report = view.up(state, member)
    observation = _observation(report)
    if report is None or report.mysql is None or observation is None or errant(report):
        return None
    if is_to_go(state, member) and (member in state.rebuilds or not _is_needed_after_all(state, view, member)):
        return None
    if report.version != state.version or report.mysql.state is not MySQLState.REPLICA or damage(report):
        return None
    if not _has_nearly_caught_up(state, view, member) or not state.floor <= observation.holds:
        return None
    return GrowSyncSet(based_on=state.version, member=member)
