"""Each safety rule broken on purpose, to see that the model's checkers notice.

A mutation lies to the production code about what it sees, or drops an action that it asked for; no file is patched.
"""

from __future__ import annotations

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster.apply import apply
from raftctl.cluster.facts import MemberReport
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import ClusterState
from raftctl.planner import local
from raftctl.planner.leader import Verdict, decide
from raftctl.planner.local import Action, LocalContext, LocalPlan, decide_local
from raftctl.planner.view import ClusterView, Seen
from tests.simulation.cluster_model_world import Rules

replace = msgspec.structs.replace


class OneReporterTooFew(Rules):
    """R3: the choice is made with |S| - k - 1 fenced replicas."""

    def apply(self, state: ClusterState, command: c.AnyCommand, index: int) -> ClusterState:
        if isinstance(command, c.Promote) and state.required_acks:
            after = apply(replace(state, required_acks=state.required_acks + 1), command, index)[0]
            return replace(after, required_acks=state.required_acks) if after.version != state.version else state
        return super().apply(state, command, index)

    def decide(self, state: ClusterState, view: ClusterView) -> Verdict:
        more = replace(state, required_acks=state.required_acks + 1) if state.required_acks else state
        verdict = decide(more, view)
        if isinstance(verdict.command, (c.BeginFailover, c.Promote)):
            return verdict
        return decide(state, view)


class BelowFloor(Rules):
    """R4: the target need not hold the floor."""

    def apply(self, state: ClusterState, command: c.AnyCommand, index: int) -> ClusterState:
        if isinstance(command, c.Promote):
            after = apply(replace(state, floor=GTIDSet()), command, index)[0]
            return after if after.version != state.version else state
        return super().apply(state, command, index)

    def decide(self, state: ClusterState, view: ClusterView) -> Verdict:
        return decide(replace(state, floor=GTIDSet()), view)

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        return decide_local(replace(state, floor=GTIDSet()), me, seen, context)


class _Unapplied(Rules):
    @staticmethod
    def _blind(seen: MySQLObservation) -> MySQLObservation:
        return replace(seen, gtid_received=seen.gtid_received & seen.gtid_executed)


class OpenBeforeApplied(_Unapplied):
    """R4: the target becomes writable without having applied what it received."""

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        if state.primary == me and state.floor <= seen.holds:
            plan = decide_local(replace(state, floor=GTIDSet()), me, self._blind(seen), context)
            return replace(plan, actions=tuple(a for a in plan.actions if not isinstance(a, local.ForgetSource)))
        return decide_local(state, me, seen, context)


class RepointBeforeApplied(_Unapplied):
    """R5: a replica changes its source without having applied what it received."""

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        blind = self._blind(seen) if state.primary not in ("", me) else seen
        return decide_local(state, me, blind, context)


class _BlindPrimary(Rules):
    """What the leader sees of the primary while it looks after S."""

    def decide(self, state: ClusterState, view: ClusterView) -> Verdict:
        seen = view.members.get(state.primary)
        if seen:
            first = self._blinded(seen.first or seen.report)
            blinded = replace(seen, report=self._blinded(seen.report), first=first)
            view = replace(view, members={**view.members, state.primary: blinded})
        return decide(state, view)

    def _blinded(self, report: MemberReport) -> MemberReport:
        if report.mysql is None or report.mysql.observation is None:
            return report
        return replace(report, mysql=replace(report.mysql, observation=self.changed(report.mysql.observation)))

    def changed(self, observation: MySQLObservation) -> MySQLObservation:
        raise NotImplementedError


class ShrinkWithoutHolders(_BlindPrimary):
    """R6: a leaver leaves S before k of the others hold what it may have acknowledged alone."""

    def changed(self, observation: MySQLObservation) -> MySQLObservation:
        return replace(observation, gtid_executed=GTIDSet(), gtid_owned=GTIDSet())


class ShortWithoutFloor(Rules):
    """R6: S shrinks below what k asks for, and what the primary alone holds then is not the floor."""

    def apply(self, state: ClusterState, command: c.AnyCommand, index: int) -> ClusterState:
        after = super().apply(state, command, index)
        return replace(after, floor=state.floor) if isinstance(command, c.ShrinkSyncSet) else after


class ShrinkWithoutOwned(_BlindPrimary):
    """R6: commits that wait for an acknowledgement are forgotten when the holders are counted."""

    def changed(self, observation: MySQLObservation) -> MySQLObservation:
        return replace(observation, gtid_owned=GTIDSet())


def _with_flag(view: ClusterView, *, on: bool) -> ClusterView:
    """As if everybody reported the acknowledging flag to be like that."""
    return replace(view, members={m: _flagged(seen, on=on) for m, seen in view.members.items()})


def _flagged(seen: Seen, *, on: bool) -> Seen:
    mysql = seen.report.mysql
    if mysql is None or mysql.observation is None:
        return seen
    semi_sync = replace(mysql.observation.semi_sync, replica_enabled=on)
    observation = replace(mysql.observation, semi_sync=semi_sync)
    return replace(seen, report=replace(seen.report, mysql=replace(mysql, observation=observation)))


class UnsyncedHolders(Rules):
    """R2: a replica that does not sync what it receives counts as holding it."""

    def decide(self, state: ClusterState, view: ClusterView) -> Verdict:
        change = decide(state, view)
        return decide(state, _with_flag(view, on=True)) if state.source_acks > state.required_acks else change


class OutsidersAcknowledge(Rules):
    """R6: a member outside S replicates with its acknowledging flag on."""

    def decide(self, state: ClusterState, view: ClusterView) -> Verdict:
        return decide(state, _with_flag(view, on=False))

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        plan = decide_local(state, me, seen, context)
        if local.SetAcknowledging(on=False) in plan.actions and state.primary not in ("", me):
            semi_sync = replace(seen.semi_sync, replica_enabled=False)
            return decide_local(state, me, replace(seen, semi_sync=semi_sync, relay_log_synced=False), context)
        return plan


class ReopenUnconfirmed(Rules):
    """R8: a controller that just started opens on what it happens to have applied."""

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        return decide_local(state, me, seen, replace(context, confirmed=True, lease_valid=True))


class _Dropping(Rules):
    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        plan = decide_local(state, me, seen, self.pretend(state, context))
        return replace(plan, actions=tuple(a for a in plan.actions if not self.dropped(a)))

    def pretend(self, state: ClusterState, context: LocalContext) -> LocalContext:
        return context

    def dropped(self, action: Action) -> bool:
        return False


class NoAcknowledgements(_Dropping):
    """R2: the primary does not wait for acknowledgements, and is opened all the same."""

    open_is_verified = False

    def dropped(self, action: Action) -> bool:
        return isinstance(action, local.BecomeSource)


class LocksNobody(Rules):
    """R6: the primary says that it locked the accounts, and did not."""

    locks_accounts = False


class RaiseAtOnce(Rules):
    """R6: k grows before the primary waits for so many."""

    def apply(self, state: ClusterState, command: c.AnyCommand, index: int) -> ClusterState:
        after = super().apply(state, command, index)
        return replace(after, required_acks=after.source_acks) if isinstance(command, c.ChangeAcks) else after


class RaiseWithoutHolders(_BlindPrimary):
    """R6: k grows before so many members hold what the primary had when it began to wait for them."""

    def decide(self, state: ClusterState, view: ClusterView) -> Verdict:
        return super().decide(state, view) if state.source_acks > state.required_acks else decide(state, view)

    def changed(self, observation: MySQLObservation) -> MySQLObservation:
        return replace(observation, gtid_executed=GTIDSet(), gtid_owned=GTIDSet())


class LowerBeforeCommit(Rules):
    """R6: the primary waits for fewer acknowledgements before the log says that fewer are enough."""

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        leavers = set(state.locked) & set(state.sync_set)
        fewer = max(0, state.source_acks - len(leavers))
        return decide_local(replace(state, source_acks=fewer), me, seen, context)


class AloneIsAsync(Rules):
    """R7: a replica takes over although the primary alone was known to hold everything."""

    def _async(self, state: ClusterState) -> ClusterState:
        durability = state.settings.durability if state.required_acks else "async"
        return replace(state, settings=replace(state.settings, durability=durability))

    def apply(self, state: ClusterState, command: c.AnyCommand, index: int) -> ClusterState:
        if not isinstance(command, c.BeginFailover | c.Promote):
            return super().apply(state, command, index)
        after = super().apply(self._async(state), command, index)
        return state if after.version == state.version else replace(after, settings=state.settings)

    def decide(self, state: ClusterState, view: ClusterView) -> Verdict:
        verdict = decide(self._async(state), view)
        return verdict if isinstance(verdict.command, c.BeginFailover | c.Promote) else decide(state, view)


class NotQuiet(Rules):
    """R3: the previous primary reports itself fenced as soon as super_read_only reads ON."""

    def promised_epoch(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> int:
        if state.previous_primary == me and not state.primary and seen.super_read_only:
            return state.epoch
        return super().promised_epoch(state, me, seen, context)


class NotStopped(Rules):
    """R3: a replica reports itself fenced before its receiver was stopped."""

    def promised_epoch(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> int:
        if state.previous_primary != me and not state.primary:
            return state.epoch
        return super().promised_epoch(state, me, seen, context)


class ReadOnlyBySuperAlone(Rules):
    """R8: super_read_only that still waits for running statements is taken for being in force."""

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        return decide_local(state, me, replace(seen, read_only=seen.super_read_only), context)


class StrayStatements(Rules):
    """A statement that was given up is not ended before the next look: it may take effect after a promise."""

    ends_stray_statements = False


class OpenUnverified(Rules):
    """R8: mysqld restarted in the middle of a plan, and is opened without waiting for acknowledgements."""

    open_is_verified = False


class SameUuidAfterRebuild(Rules):
    """R9: a rebuilt member gives the numbers of the removed transactions again."""

    rebuild_renews_uuid = False


class NoComparison(Rules):
    """R9: a returning member is not asked what it has that the primary lacks."""

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        known = context.primary_executed if context.primary_executed is None else seen.gtid_executed
        return decide_local(state, me, seen, replace(context, primary_executed=known))


class NeverNudges(Rules):
    """Commits whose acknowledgements were lost with a connection wait for the next write, which may never come."""

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        return decide_local(state, me, seen, replace(context, commits_stand_still=False))


class StaleDecision(Rules):
    """A command takes effect although another decision was committed since it was made."""

    def apply(self, state: ClusterState, command: c.AnyCommand, index: int) -> ClusterState:
        if isinstance(command, c.Decision):
            command = replace(command, based_on=state.version)
        return super().apply(state, command, index)
