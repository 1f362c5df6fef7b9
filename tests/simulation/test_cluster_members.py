"""Members come and go in the simulated cluster, in the middle of faults, switchovers and changes of the policy: the
checks of `test_cluster_model` hold, and every change comes to its end once the cluster is healed.

More seeds: RAFTCTL_MODEL_SEEDS=5000-20000.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.cluster_model_members import MemberWorld

SEEDS = os.environ.get("RAFTCTL_MODEL_SEEDS", "0-200")
BATCHES = 5


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_seed_breaks_a_rule(batch: int) -> None:
    first, last = map(int, SEEDS.split("-"))
    for seed in range(first, last)[batch::BATCHES]:
        try:
            MemberWorld(seed).run()
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}", pytrace=False)


# Each was stuck before it was mended.
STUCK = {
    174: "a promotion waits for a replica that has been rebuilt",
    286: "the primary is to be rebuilt",
    1469: "two members that are to go are locked out, and each was to acknowledge in the other's place",
}


@pytest.mark.parametrize("seed", STUCK, ids=STUCK.get)
def test_what_was_stuck_once(seed: int) -> None:
    MemberWorld(seed).run()


def test_the_seeds_reach_what_they_are_meant_to_test() -> None:
    kinds: set[str] = set()
    for seed in range(100):
        world = MemberWorld(seed)
        world.run()
        kinds |= {entry.kind for entry in world.state.history}
    assert kinds >= {
        "add-member",
        "complete-join",
        "begin-removal",
        "remove-member",
        "cancel-removal",
        "set-member",
        "complete-retirement",
        "begin-rebuild",
        "complete-rebuild",
        "change-settings",
        "change-acks",
        "begin-failover",
        "begin-switchover",
    }
