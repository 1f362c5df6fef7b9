"""Durability as a number of acknowledgements."""

from __future__ import annotations

import pytest

from raftctl.cluster.durability import required_acks
from raftctl.cluster.state import Settings
from raftctl.errors import UsageError


def acks(durability: str, members: int) -> int:
    return required_acks(Settings(durability=durability), [f"db{n}" for n in range(members)])


@pytest.mark.parametrize(
    ("members", "majority", "everybody"), [(1, 0, 0), (2, 1, 1), (3, 1, 2), (4, 2, 3), (5, 2, 4), (6, 3, 5), (7, 3, 6)]
)
def test_words(members: int, majority: int, everybody: int) -> None:
    assert acks("majority", members) == majority
    assert acks("all", members) == everybody
    assert acks("async", members) == 0


@pytest.mark.parametrize("members", range(1, 10))
def test_any_majority_of_members_meets_an_acknowledged_write(members: int) -> None:
    holders = acks("majority", members) + 1
    majority = members // 2 + 1
    assert holders + majority > members


def test_numbers() -> None:
    assert acks("1", 2) == 1
    assert acks("2", 5) == 2


@pytest.mark.parametrize("durability", ["3", "0", "-1", "", "most", "1.5", "\u0663"])
def test_what_cannot_be_met_or_read_is_refused(durability: str) -> None:
    with pytest.raises(UsageError):
        acks(durability, 3)
