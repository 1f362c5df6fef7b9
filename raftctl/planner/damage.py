"""What is done about a member whose InnoDB reports damaged data: nobody has to be called. Pure.

A replica is rebuilt like one that a person asked for: it leaves S first, if others can give the acknowledgements. A
primary hands over, once there is a sound replica, and is rebuilt then. In a failover a damaged member is promoted only
when nobody else holds all that was acknowledged (`failover.choose`): its binary log may be the only copy.
"""

from __future__ import annotations

import msgspec

from raftctl.cluster.commands import BeginRebuild, BeginSwitchover
from raftctl.cluster.state import ClusterState, MemberRole, Phase
from raftctl.planner.failover import damage
from raftctl.planner.membership import request_rebuild
from raftctl.planner.refusal import Reason, Refusal
from raftctl.planner.switchover import request_switchover
from raftctl.planner.view import ClusterView

AGAIN_SECONDS = 30.0  # after a change of the state: a hand-over that does not succeed stops writes each time


def mend(state: ClusterState, view: ClusterView) -> BeginRebuild | BeginSwitchover | list[Refusal] | None:
    """The next step, or why it waits; None when nothing is damaged."""
    if state.phase is not Phase.STEADY:
        return None
    if said := damage(view.report(state, state.primary)):
        return _hand_over(state, view, said)
    refusals: list[Refusal] = []
    for name, member in state.members.items():
        said = damage(view.up(state, name))
        if member.role is MemberRole.WITNESS or not said or name in (*state.rebuilds, state.leaving):
            continue
        decided = request_rebuild(state, view, name, by="raftctl")
        if isinstance(decided, BeginRebuild):
            return msgspec.structs.replace(decided, why=f"InnoDB reports damaged data: {said}")
        refusals += decided
    return refusals or None


def _hand_over(state: ClusterState, view: ClusterView, said: str) -> BeginSwitchover | list[Refusal]:
    """Not while somebody is being rebuilt from it: a CLONE that succeeds makes a replica that can take over."""
    name, why = state.primary, f"InnoDB of {state.primary} reports damaged data: {said}"
    if state.paused is not None:
        return [Refusal(Reason.PAUSED, f"{why}; automatic failover is paused: {state.paused.reason}", name)]
    if not state.settings.failover_automatic:
        text = f"{why}; failover.automatic is false: run `raftctl switchover`, then `raftctl member rebuild {name}`"
        return [Refusal(Reason.AUTOMATIC_OFF, text, name)]
    if view.version_seconds < AGAIN_SECONDS:
        return [Refusal(Reason.COOLDOWN, f"{why}; hands over when nothing has changed for {AGAIN_SECONDS:g} s", name)]
    decided = request_switchover(state, view, by="raftctl")
    if isinstance(decided, BeginSwitchover):
        return msgspec.structs.replace(decided, why=why)
    return [Refusal(Reason.DAMAGED_DATA, f"{why}, and nobody can take over", name), *decided]
