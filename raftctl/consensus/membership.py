"""Who votes, and what a majority of them agrees on. Nothing here knows roles or messages."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import msgspec

Value = TypeVar("Value", int, float)


def majority(voters: int) -> int:
    """How many of `voters` make a quorum, self included: floor(n/2) + 1, also for an even number.

    Raises ValueError when nobody votes: a quorum of zero would decide everything."""
    if voters < 1:
        raise ValueError("a majority of no voters means nothing")
    return voters // 2 + 1


class Membership(msgspec.Struct, frozen=True):
    """The voters and the learners (which receive the log and do not vote). Node ids, sorted."""

    voters: tuple[str, ...]
    learners: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        return self.voters + self.learners

    def is_quorum(self, nodes: Collection[str]) -> bool:
        """Whether the voters among `nodes` are a majority of all voters. Each identity counts once."""
        return sum(1 for voter in self.voters if voter in nodes) >= majority(len(self.voters))

    def agreed(self, value_of: Callable[[str], Value]) -> Value:
        """The greatest value that a majority of the voters has reached or passed."""
        values = sorted((value_of(voter) for voter in self.voters), reverse=True)
        return values[majority(len(values)) - 1]
