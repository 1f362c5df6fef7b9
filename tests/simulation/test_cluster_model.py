"""The production decisions (`decide`, `decide_local`, `apply`) run a simulated cluster through faults; every step is
checked, and every safety rule is broken once on purpose to see that a check notices.

Checks: `lost-write` an acknowledged transaction is missing where writes are let in, or in the end; `old-primary` a
relieved primary acknowledges what its successor does not have; `ack-set` an acknowledged transaction is neither in the
floor nor on k members of S besides the primary (R6); `promise` a member that reported itself fenced receives from the
previous primary, or writes (R3); `R5` received transactions were thrown away; `liveness` the healed cluster does not
come back by itself; `divergence` the same GTID means different transactions. `assert_invariants` runs in every apply.

    broken on purpose         rule  seen by
    ------------------------  ----  -----------------------------------
    OneReporterTooFew         R3    ack-set, old-primary, lost-write
    NotStopped                R3    promise
    NotQuiet                  R3    promise, ack-set, lost-write
    StrayStatements           R3    promise, R5
    BelowFloor                R4    lost-write
    OpenBeforeApplied         R4    lost-write
    RepointBeforeApplied      R5    R5
    NoAcknowledgements        R2    ack-set
    ShrinkWithoutHolders      R6    ack-set
    ShrinkWithoutOwned        R6    ack-set
    OutsidersAcknowledge      R6    ack-set
    RaiseAtOnce               R6    ack-set
    RaiseWithoutHolders       R6    ack-set
    UnsyncedHolders           R2    ack-set
    LowerBeforeCommit         R6    ack-set
    AloneIsAsync              R7    lost-write
    LocksNobody               R6    ack-set
    ReopenUnconfirmed         R8    promise, ack-set
    ReadOnlyBySuperAlone      R8    old-primary, ack-set
    OpenUnverified            R8    ack-set
    NeverNudges               live  liveness
    StaleDecision             log   lost-write
    SameUuidAfterRebuild      R9    divergence
    NoComparison              R9    liveness

More seeds: RAFTCTL_MODEL_SEEDS=5000-20000.
One seed with its trace: python -m tests.simulation.cluster_model_replay SEED.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.cluster_model_faults import only
from tests.simulation.cluster_model_mysqld import Violation
from tests.simulation.cluster_model_replay import replay
from tests.simulation.cluster_model_schedules import MUTATIONS, Mutation
from tests.simulation.cluster_model_world import World

SEEDS = os.environ.get("RAFTCTL_MODEL_SEEDS", "0-300")
BATCHES = 10


def _seeds() -> range:
    first, last = map(int, SEEDS.split("-"))
    return range(first, last)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_seed_breaks_a_rule(batch: int) -> None:
    for seed in _seeds()[batch::BATCHES]:
        try:
            World(seed).run()
        except AssertionError as error:
            pytest.fail(replay(seed, error=error), pytrace=False)


def _by_name(mutation: Mutation) -> str:
    return mutation.name


@pytest.mark.parametrize("mutation", MUTATIONS, ids=_by_name)
def test_the_schedule_of_each_mutation_is_harmless_without_it(mutation: Mutation) -> None:
    for seed in range(10):
        try:
            World(seed, focus=mutation.focus).run(mutation.script)
        except AssertionError as error:
            pytest.fail(replay(seed, schedule=mutation.name, error=error), pytrace=False)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=_by_name)
def test_a_broken_rule_is_noticed(mutation: Mutation) -> None:
    for seed in range(200):
        try:
            World(seed, rules=mutation.rules(), focus=mutation.focus).run(mutation.script)
        except Violation as violation:
            if violation.check in mutation.checks:
                return
    pytest.fail(f"no check noticed {mutation.name}: {mutation.rules.__doc__}")


def test_a_seed_gives_the_same_run_again() -> None:
    first, second = World(7), World(7)
    first.lines, second.lines = [], []
    first.run()
    second.run()
    assert first.lines == second.lines


def test_the_seeds_reach_what_they_are_meant_to_test() -> None:
    """Kinds of decisions that a hundred runs must contain; a model in which little happens proves little."""
    kinds: set[str] = set()
    acknowledged = epochs = 0
    without_acknowledgements = {"members": 3, "acks": 0, "weights": only(freeze_host=4, kill_host=4)}
    worlds = [*map(World, range(100)), *(World(seed, focus=without_acknowledgements) for seed in range(20))]
    for world in worlds:
        world.run()
        kinds |= {entry.kind for entry in world.state.history}
        kinds |= {str(entry.detail["proof"]) for entry in world.state.history if entry.kind == "promote"}
        kinds |= {str(entry.detail["cause"]) for entry in world.state.history if entry.kind == "begin-failover"}
        acknowledged += len(world.acknowledged)
        epochs += world.state.epoch
    assert kinds >= {
        "begin-failover",
        "begin-switchover",
        "promote",
        "abort-switchover",
        "complete-promotion",
        "lockout",
        "shrink-sync-set",
        "admit",
        "grow-sync-set",
        "replicas-fenced",
        "primary-fenced",
        "async-majority",
        "mysqld-dead",
        "mysqld-unresponsive",
        "host-silent",
        "requested",
    }
    assert acknowledged > 1000
    assert epochs > 200
