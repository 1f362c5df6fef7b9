"""Members come and go in the simulated cluster, in the middle of faults, switchovers and changes of the policy: the
checks of `test_cluster_model` hold, and every change comes to its end once the cluster is healed. So does a cluster
whose majority was lost for good, and which goes on with the survivors.

More seeds: RAFTCTL_MODEL_SEEDS=5000-20000.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.cluster_model_forced import ForcedWorld
from tests.simulation.cluster_model_members import MemberWorld

SEEDS = os.environ.get("RAFTCTL_MODEL_SEEDS", "0-200")
BATCHES = 5


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("world", [MemberWorld, ForcedWorld])
def test_no_seed_breaks_a_rule(world: type[MemberWorld], batch: int) -> None:
    first, last = map(int, SEEDS.split("-"))
    for seed in range(first, last)[batch::BATCHES]:
        try:
            world(seed).run()
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


def test_forced_memberships_happen_and_lose_writes() -> None:
    """Else the check of what a person is told about losses would prove nothing."""
    worlds = [ForcedWorld(seed) for seed in range(60)]
    for world in worlds:
        world.run()
    assert sum(world.forced for world in worlds) > 20
    assert sum(world.lost for world in worlds) > 10


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
