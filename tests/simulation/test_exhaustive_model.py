"""Every interleaving of a few steps of the production decisions, from states in which S, k or the primary are about to
change; and rules broken on purpose, to see that the enumeration finds it, by the shortest way there is.

Checks: `ack-set` an acknowledged transaction is neither in the floor nor on k members of S besides the primary (R6);
`lost-write` a new primary opens without one; `old-primary` a relieved primary acknowledges what its successor does not
have, so two acknowledge. `assert_invariants` runs in every apply.

Broken rules that need more than a step at a time, five members or time are left to `test_cluster_model`.

Deeper: RAFTCTL_MODEL_DEPTH=8, as `make simulate` does.
"""

from __future__ import annotations

import os

import pytest

from raftctl.cluster.state import Phase
from tests.simulation import cluster_model_mutations as broken
from tests.simulation.cluster_model_world import Rules
from tests.simulation.exhaustive_model import NAMES
from tests.simulation.exhaustive_search import STARTS, Start, explore, settle

DEPTH = int(os.environ.get("RAFTCTL_MODEL_DEPTH", "6"))
STATES_MAX = 10_000_000
BROKEN = {
    broken.OneReporterTooFew: "steady",
    broken.NotStopped: "db3 returns",
    broken.NotQuiet: "switchover",
    broken.BelowFloor: "failover begun, only db1 has the floor",
    broken.NoAcknowledgements: "two, available",
    broken.ShrinkWithoutHolders: "steady",
    broken.ShortWithoutFloor: "two, strict, db2 cannot catch up",
    broken.LocksNobody: "steady",
    broken.OutsidersAcknowledge: "db3 returns",
    broken.LowerBeforeCommit: "db3 leaves",
    broken.RaiseAtOnce: "two, one in S",
    broken.RaiseWithoutHolders: "two, one in S",
    broken.AloneIsAsync: "nobody acknowledges yet",
}


def _by_name(value: Start | type[Rules]) -> str:
    return value.__name__ if isinstance(value, type) else value.name.replace(" ", "-")


@pytest.mark.parametrize("start", STARTS, ids=_by_name)
def test_no_interleaving_breaks_a_rule(start: Start) -> None:
    explored = explore(start, depth=DEPTH + 2 * (start.data == 2), states_max=STATES_MAX)
    assert explored.violation is None, "\n".join((*explored.trace, str(explored.violation)))
    assert explored.states > 1000


@pytest.mark.parametrize("rules", BROKEN, ids=_by_name)
def test_a_broken_rule_is_found(rules: type[Rules]) -> None:
    start = next(s for s in STARTS if s.name == BROKEN[rules])
    explored = explore(start, depth=12, states_max=150_000, rules=rules())
    assert explored.violation is not None, rules.__doc__
    assert explored.violation.check in ("ack-set", "lost-write", "old-primary")


def test_changes_of_s_of_k_and_of_the_primary_are_all_reached() -> None:
    """A model in which little is decided proves little."""
    decided = sum(explore(s, depth=4, states_max=STATES_MAX).decisions for s in STARTS)
    assert decided > 100


@pytest.mark.parametrize("start", [s for s in STARTS if s.purged], ids=_by_name)
def test_a_replica_that_strict_needs_is_rebuilt_and_writes_go_on(start: Start) -> None:
    """Nobody else can acknowledge: it leaves S all the same, because it never could again. So do the dead."""
    model, state = settle(start)
    assert (state.phase, state.sync_set, state.required_acks) == (Phase.STEADY, ("db1", "db2"), 1)
    assert state.locked == start.dead
    primary = model.servers[NAMES.index(state.primary)]
    assert primary.writable
    assert not primary.waiting
    assert {server.has & 3 for server in model.servers if server.alive} == {3}
