"""The leader's decision: the one log command that is justified now, or why there is none."""

from __future__ import annotations

import msgspec

from raftctl.cluster.commands import AnyCommand, CompletePromotion
from raftctl.cluster.facts import MySQLState
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner.damage import mend
from raftctl.planner.failover import choose, consider_failover, reconsider_target
from raftctl.planner.membership import Reshape, advance, held_in_sync_set
from raftctl.planner.refusal import Refusal
from raftctl.planner.switchover import advance_switchover
from raftctl.planner.sync_set import maintain
from raftctl.planner.view import ClusterView


class Verdict(msgspec.Struct, frozen=True):
    """`command` is to be proposed now, or Raft's configuration to become `reshape`; `refusals` say what is waited for
    or why something is not done."""

    command: AnyCommand | None = None
    refusals: tuple[Refusal, ...] = ()
    reshape: Reshape | None = None


def decide(state: ClusterState, view: ClusterView) -> Verdict:
    """Pure: same state and view, same verdict. Called by the leader alone, on a state it knows to be current."""
    match state.phase:
        case Phase.UNINITIALIZED:
            return Verdict()
        case Phase.FAILOVER:
            return _verdict(choose(state, view))
        case Phase.SWITCHOVER:
            return _verdict(advance_switchover(state, view))
        case Phase.PROMOTING | Phase.STEADY:
            return _reign(state, view)


def _reign(state: ClusterState, view: ClusterView) -> Verdict:
    failover = consider_failover(state, view)
    if isinstance(failover, Refusal):
        return Verdict(refusals=(failover,))
    if failover is not None:
        return Verdict(failover)
    if state.phase is Phase.PROMOTING and _is_writable(state, view):
        return Verdict(CompletePromotion(based_on=state.version))
    if other := reconsider_target(state, view):
        return Verdict(other)
    step = advance(state, view)
    # Raft may refuse another configuration for as long as a voter is away: all else goes on meanwhile.
    reshape = step if isinstance(step, Reshape) else None
    if step is not None and not isinstance(step, (Reshape, list)):
        return Verdict(step)
    waits = step if isinstance(step, list) else []
    mending = mend(state, view)
    if mending is not None and not isinstance(mending, list):
        return Verdict(mending, reshape=reshape)
    command = maintain(state, view)
    stays = [] if command else held_in_sync_set(state, view)
    return Verdict(command, refusals=(*waits, *(mending or ()), *stays), reshape=reshape)


def _is_writable(state: ClusterState, view: ClusterView) -> bool:
    report = view.report(state, state.primary)
    return bool(report and report.epoch == state.epoch and report.mysql and report.mysql.state is MySQLState.PRIMARY)


def _verdict(result: AnyCommand | list[Refusal]) -> Verdict:
    return Verdict(refusals=tuple(result)) if isinstance(result, list) else Verdict(result)
