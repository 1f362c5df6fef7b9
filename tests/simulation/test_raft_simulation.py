"""Simulated clusters from many seeds. `RAFT_SEEDS=0:5000` runs more; a failure names the command that replays it."""

from __future__ import annotations

import os
import statistics

import pytest

from tests.simulation.schedule import simulate
from tests.simulation.world import Weather, World

SEEDS_PER_TEST = 25


def chunks() -> list[range]:
    first, end = (int(part) for part in os.environ.get("RAFT_SEEDS", "0:300").split(":"))
    return [range(start, min(start + SEEDS_PER_TEST, end)) for start in range(first, end, SEEDS_PER_TEST)]


@pytest.mark.parametrize("seeds", chunks(), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_no_seed_breaks_safety_or_liveness(seeds: range) -> None:
    for seed in seeds:
        try:
            simulate(seed)
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}\nreplay: python -m tests.simulation --seed {seed} --trace")


def test_a_seed_replays_exactly() -> None:
    assert simulate(7) == simulate(7)


def kill_leader(*, seed: int, size: int) -> float:
    """Virtual seconds from the death of a leader, whose connections close, to the first commit of the next one."""
    world = World(seed, size=size, weather=Weather(), election_timeout=1.0)
    world.run(until=10.0, stop=lambda: bool(world.leaders()))
    world.run(until=world.now + 0.5)
    (leader,) = world.leaders()
    died, committed = world.now, len(world.checks.committed)
    world.crash(leader.id)
    world.run(until=died + 30.0, stop=lambda: len(world.checks.committed) > committed)
    assert len(world.checks.committed) > committed
    return world.now - died


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_a_killed_leader_is_replaced_without_waiting_for_a_timeout(size: int) -> None:
    """Messages and writes take up to 2 ms here, the election timeout is 1 s."""
    outages = [kill_leader(seed=seed, size=size) for seed in range(40)]
    assert statistics.median(outages) < 0.05
    assert max(outages) < 1.0
