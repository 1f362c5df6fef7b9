"""Simulated clusters from many seeds. `RAFT_SEEDS=0:5000` runs more; a failure names the command that replays it."""

from __future__ import annotations

import os

import pytest

from tests.simulation.schedule import simulate

SEEDS_PER_TEST = 20


def chunks() -> list[range]:
    first, end = (int(part) for part in os.environ.get("RAFT_SEEDS", "0:160").split(":"))
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
