"""Who votes, what a majority of them agrees on, and which configuration is in force.

A configuration is in force from the moment its entry is in the log, committed or not, and no longer when the entry
is truncated away (thesis 4.1). Nothing here knows roles or messages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import msgspec

Value = TypeVar("Value", int, float)


def majority(voters: int) -> int:
    """How many of `voters` make a quorum, self included: floor(n/2) + 1, also for an even number.

    Raises ValueError when nobody votes: a quorum of zero would decide everything."""
    if voters < 1:
        raise ValueError("a majority of no voters means nothing")
    return voters // 2 + 1


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """The voters and the learners (which receive the log and do not vote). Node ids; build it with `of`."""

    voters: tuple[str, ...]
    learners: tuple[str, ...] = ()

    @classmethod
    def of(cls, voters: Iterable[str], learners: Iterable[str] = ()) -> Membership:
        """Sorted, each node once; who votes is not also a learner."""
        distinct = set(voters)
        return cls(voters=tuple(sorted(distinct)), learners=tuple(sorted(set(learners) - distinct)))

    @classmethod
    def decode(cls, data: bytes) -> Membership:
        """From the data of a CONFIG entry. Raises msgspec.MsgspecError."""
        return msgspec.msgpack.decode(data, type=cls)

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

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


class Configurations:
    """The configurations that the log holds, oldest first, and the one that was in force before it begins."""

    def __init__(self, base: Membership, *, base_index: int) -> None:
        self._history = [(base_index, base)]

    @property
    def current(self) -> Membership:
        return self._history[-1][1]

    @property
    def current_index(self) -> int:
        """Where the configuration in force stands in the log."""
        return self._history[-1][0]

    def at(self, index: int) -> Membership:
        """The configuration in force after entry `index`, which is not before the log's beginning."""
        return next(membership for position, membership in reversed(self._history) if position <= index)

    def may_vote(self, node: str, *, commit_index: int) -> bool:
        """Whether `node` votes in the configuration in force, or in one that may still turn out to be it: the last one
        committed and every later one."""
        return node in self.at(commit_index).voters or any(
            node in membership.voters for index, membership in self._history if index > commit_index
        )

    def appended(self, index: int, membership: Membership) -> None:
        assert index > self.current_index
        self._history.append((index, membership))

    def truncated(self, first: int) -> None:
        """The entries from `first` on are gone."""
        while self._history[-1][0] >= first:
            self._history.pop()

    def compacted(self, index: int) -> None:
        """The entries up to `index` are gone, what they said stays in force."""
        base = self.at(index)
        self._history = [(index, base), *(entry for entry in self._history if entry[0] > index)]
