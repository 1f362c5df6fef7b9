"""What the nemesis will do follows from the seed, and every kind of fault comes."""

from __future__ import annotations

import itertools

from tests.chaos.nemesis import DEEDS
from tests.chaos.schedule import Kind, schedule


def test_a_seed_has_one_schedule() -> None:
    first, again, other = (list(itertools.islice(schedule(seed), 20)) for seed in (7, 7, 8))
    assert first == again != other


def test_every_kind_of_fault_comes_and_is_carried_out() -> None:
    rounds = itertools.islice(schedule(1), 300)
    assert {fault.kind for plan in rounds for fault in plan.faults} == set(Kind) == set(DEEDS)
