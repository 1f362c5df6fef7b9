"""What the nemesis will do: an endless sequence that depends on the seed alone.

A fault names a role, not a member: who has that role when its time comes depends on the run.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

from raftctl.sandbox.cluster import Target

_T = TypeVar("_T")


class Kind(enum.StrEnum):
    KILL = "kill"
    FREEZE = "freeze"
    KILL_ALL = "kill-all"
    ISOLATE = "isolate"  # one member from all others
    SPLIT = "split"  # two sides, at random
    ONE_WAY = "one-way"  # what one member sends to the others is lost
    DEAF = "deaf"  # what the others send to one member is lost
    BRIDGE = "bridge"  # two sides, and one member that both of them reach
    SWITCHOVER = "switchover"
    PAUSE = "pause"  # no automatic failover until the round's end
    DDL = "ddl"
    REMOVE = "remove"  # out of the cluster; back before the cluster must be well
    REBUILD = "rebuild"  # a replica's data replaced by a CLONE
    STALL_DISK = "stall-disk"  # no write of a member returns, controller and logs included
    SLOW_DISK = "slow-disk"  # each may take a quarter of a second


class Whom(enum.StrEnum):
    PRIMARY = "primary"
    LEADER = "leader"
    OTHER = "other"  # neither
    ANYBODY = "anybody"


class Fault(msgspec.Struct, frozen=True):
    """`after`: seconds since the fault before it. `draw`, from 0 to 1, decides what is left open."""

    kind: Kind
    whom: Whom
    target: Target
    after: float
    draw: float


class Round(msgspec.Struct, frozen=True):
    """Faults one after the other, then `hold` seconds, then all is healed. Then clients must get on, or with
    `until_healthy` the whole cluster must be well, and `calm` seconds pass."""

    faults: tuple[Fault, ...]
    hold: float
    until_healthy: bool
    calm: float


_WEIGHTS: Final = {
    Kind.KILL: 10,
    Kind.FREEZE: 5,
    Kind.KILL_ALL: 1,
    Kind.ISOLATE: 3,
    Kind.SPLIT: 2,
    Kind.ONE_WAY: 2,
    Kind.DEAF: 2,
    Kind.BRIDGE: 2,
    Kind.SWITCHOVER: 3,
    Kind.PAUSE: 1,
    Kind.DDL: 2,
    Kind.REMOVE: 3,
    Kind.REBUILD: 1,
    Kind.STALL_DISK: 2,
    Kind.SLOW_DISK: 2,
}
_WHOM: Final = {Whom.PRIMARY: 5, Whom.LEADER: 2, Whom.OTHER: 2, Whom.ANYBODY: 2}
_TARGETS: Final = {Target.MYSQLD: 4, Target.CONTROLLER: 3, Target.HOST: 3}
_FAULTS: Final = {1: 6, 2: 3, 3: 1}
HOLD_SECONDS: Final = 8.0
CALM_SECONDS: Final = 5.0


def schedule(seed: int, *, targets: tuple[Target, ...] = ()) -> Iterator[Round]:
    """Rounds without end. `targets` come in addition to mysqld, controller and host (a guard, if there is one)."""
    choose = random.Random(seed)
    targets_and_weights = _TARGETS | dict.fromkeys(targets, 1)
    while True:
        faults = tuple(
            Fault(
                kind=_pick(choose, _WEIGHTS),
                whom=_pick(choose, _WHOM),
                target=_pick(choose, targets_and_weights),
                after=choose.choice((0.0, choose.uniform(0, 0.5), choose.uniform(0, 3))) if number else 0.0,
                draw=choose.random(),
            )
            for number in range(_pick(choose, _FAULTS))
        )
        yield Round(
            faults=faults,
            hold=choose.choice((0.0, choose.uniform(0, 2), choose.uniform(0, HOLD_SECONDS))),
            until_healthy=choose.random() < 0.3,
            calm=choose.choice((0.0, choose.uniform(0, CALM_SECONDS))),
        )


def _pick(choose: random.Random, weights: dict[_T, int]) -> _T:
    return choose.choices(list(weights), weights=list(weights.values()))[0]
