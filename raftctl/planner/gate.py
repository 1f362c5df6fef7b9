"""Whether mysqld may start now (rule R9): `decide_gate`. Pure.

After a crash, what the binary log holds is committed by the start. So a member that may have transactions which the
primary lacks does not start before the two are compared; afterwards only a CLONE removes them. Everybody else starts at
once: a member of the sync set has nothing that the primary lacks, and a failover may be waiting for its report.
"""

from __future__ import annotations

import msgspec

from raftctl.cluster.state import ClusterState, Phase

# How long the primary's mysqld stays down after a crash for the leader to begin a failover, which it does at once if it
# can. Starting before that would commit the tail that the next primary lacks.
GRACE_SECONDS = 1.0
# How long the previous primary waits for the next one: a failover that takes longer may need its report.
CHANGE_SECONDS = 5.0


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Start as it is: read-only, and compared with the primary before it replicates."""

    why: str


class Wait(msgspec.Struct, frozen=True, tag="wait"):
    """Ask again soon."""

    why: str


class Compare(msgspec.Struct, frozen=True, tag="compare"):
    """Compare the binary log with what this primary holds, and cut what it lacks."""

    primary: str


def decide_gate(state: ClusterState, me: str, *, waited: float) -> Start | Wait | Compare:
    """`state` must be current: confirmed by a majority after mysqld ended. `waited`: seconds since it first was."""
    if state.phase is Phase.UNINITIALIZED:
        return Start("not bootstrapped")
    if state.primary == me:
        return _as_primary(state, me, waited)
    if not state.primary and state.previous_primary == me:
        if waited < CHANGE_SECONDS:
            return Wait(f"epoch {state.epoch} has no primary yet")
        return Start(f"epoch {state.epoch} may need its report to get a primary")
    if me in state.sync_set:
        return Start("has nothing that the primary lacks")
    if not state.primary:
        return Wait(f"epoch {state.epoch} has no primary yet")
    return Compare(state.primary)


def _as_primary(state: ClusterState, me: str, waited: float) -> Start | Wait:
    automatic = state.settings.failover_automatic and state.paused is None
    replaceable = any(member != me for member in state.sync_set)
    if automatic and replaceable and waited < GRACE_SECONDS:
        return Wait("the leader may choose another primary")
    return Start("is the primary")
