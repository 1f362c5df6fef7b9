"""Where the exhaustive model begins, and the search through all that can follow, breadth first."""

from __future__ import annotations

import dataclasses

from raftctl.cluster.state import ClusterState, Phase, Settings
from tests.simulation.cluster_model_mysqld import Violation
from tests.simulation.cluster_model_world import Rules
from tests.simulation.exhaustive_model import (
    NAMES,
    NOBODY,
    Model,
    Server,
    Tables,
    check,
    controller_steps,
    gtids,
    led,
    mask_of,
    received,
    restarted,
    successors,
    written,
)
from tests.support.planner_builders import a_state

ROUNDS = 40


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """A steady cluster of db1 (primary) and others that follow it, all with the same data. `changes` are fields of its
    state; `crashes`, `writes`, `silences` and `wishes` may happen. `behind`: nobody but db1 has the floor yet.
    `outsiders`: those outside S still have their acknowledging flag on. `purged`: the primary does not have any more
    what the others need, and they hold what it acknowledged since it was promoted. `wiped`: they have nothing.
    `dead`: those that do not run."""

    name: str
    data: int = 3
    settings: Settings = Settings()  # noqa: RUF009 (frozen)
    changes: dict[str, object] = dataclasses.field(default_factory=dict)
    crashes: int = 1
    writes: int = 2
    silences: int = 1
    wishes: int = 0
    behind: bool = False
    outsiders: bool = False
    purged: bool = False
    wiped: bool = False
    dead: tuple[str, ...] = ()

    def model(self, tables: Tables) -> Model:
        state = a_state(data=self.data, settings=self.settings, floor=gtids(3), **self.changes)
        acks, locked = state.source_acks, mask_of(state.locked)
        held = 7 if self.purged and not self.wiped else 3
        primary = Server(held, writable=True, waits_for=acks, locked=locked, known_locked=locked, known_acks=acks)
        replicas = [
            Server(
                0 if self.wiped else 1 if self.behind else held,
                source=0,
                alive=name not in self.dead,
                receiving=name not in state.locked and not self.purged,
                purged=self.purged,
                acknowledges=acks > 0 and (name in state.sync_set or self.outsiders),
                asked=held,
            )
            for name in NAMES[1 : self.data]
        ]
        nothing = (NOBODY,) * self.data
        model = Model(
            state=tables.number_of(state),
            servers=(primary, *replicas),
            heard=nothing,
            first=nothing,
            fresh=(False,) * self.data,
            silent=NOBODY,
            acknowledged=held,
            opened=1,
            reigns=(1,) + (0,) * (self.data - 1),
            written=held.bit_length(),
            crashes=self.crashes,
            writes=self.writes,
            silences=self.silences,
            wishes=self.wishes,
        )
        for me in range(self.data):
            model = controller_steps(model, tables, me)
        return model


@dataclasses.dataclass(frozen=True)
class Explored:
    """`trace` leads to `violation`, step by step; both are empty when no rule was broken."""

    states: int
    depth: int
    decisions: int
    violation: Violation | None = None
    trace: tuple[str, ...] = ()


def explore(start: Start, *, depth: int, states_max: int, rules: Rules | None = None) -> Explored:
    """Breadth first: all that can happen in `depth` steps, but no more than `states_max` states."""
    tables = Tables(rules or Rules())
    first = start.model(tables)
    ways: dict[int, tuple[int, str]] = {hash(first): (0, "")}
    level = [first]
    for steps in range(1, depth + 1):
        following: list[Model] = []
        for model in level:
            if len(ways) >= states_max:
                return Explored(len(ways), steps - 1, len(tables.states))
            label = ""
            try:
                for label, after in successors(model, tables):
                    if hash(after) not in ways:
                        check(after, tables)
                        ways[hash(after)] = (hash(model), label)
                        following.append(after)
            except Violation as violation:
                return Explored(
                    len(ways), steps, len(tables.states), violation, (*_way(ways, hash(model)), f"after {label}")
                )
        level = following
        if not level:
            break
    return Explored(len(ways), steps, len(tables.states))


def settle(start: Start) -> tuple[Model, ClusterState]:
    """After a write that is not acknowledged yet, everybody does what is due and nothing fails: where it ends."""
    tables = Tables(Rules())
    model = written(start.model(tables), tables, 0)
    for _ in range(ROUNDS):
        for me in range(start.data):
            model = controller_steps(model, tables, me)
            if not model.servers[me].alive and NAMES[me] not in start.dead:
                model = restarted(model, me)
            elif model.servers[me].receiving:
                model = received(model, tables, me, acknowledges=model.servers[me].acknowledges)
        model = led(model, tables, tables.decide(model))
    return model, tables.states[model.state]


def _way(ways: dict[int, tuple[int, str]], end: int) -> list[str]:
    labels: list[str] = []
    while ways[end][1]:
        end, label = ways[end][0], ways[end][1]
        labels.append(label)
    return labels[::-1]


_AVAILABLE = Settings(durability_policy="available")
_ALL = Settings(durability="all")
_RELIEVED = {"epoch": 2, "primary": "", "previous_primary": "db1"}
_FAILOVER = _RELIEVED | {"phase": Phase.FAILOVER}
_SWITCHOVER = _RELIEVED | {"phase": Phase.SWITCHOVER, "target": "db2"}

STARTS = (
    Start(name="steady"),
    Start(name="switchover", wishes=1, crashes=0),
    Start(name="k is raised", settings=_ALL),
    Start(name="k is about to grow", settings=_ALL, changes={"source_acks": 2}),
    Start(name="k is lowered", changes={"required_acks": 2}),
    Start(name="db3 leaves", changes={"locked": ("db3",)}),
    Start(name="db3 joins", changes={"sync_set": ("db1", "db2")}),
    Start(name="db3 returns", changes={"sync_set": ("db1", "db2"), "locked": ("db3",)}, outsiders=True),
    Start(name="failover begun", changes=_FAILOVER),
    Start(name="failover begun while k grows", settings=_ALL, changes=_FAILOVER | {"source_acks": 2}),
    Start(name="failover begun, only db1 has the floor", changes=_FAILOVER, behind=True),
    Start(name="switchover begun", changes=_SWITCHOVER),
    Start(name="nobody acknowledges yet", settings=_AVAILABLE, changes={"required_acks": 0}, crashes=0, writes=1),
    Start(name="two, strict", data=2),
    Start(name="two, strict, db2 cannot catch up", data=2, purged=True),
    Start(name="two, strict, db2 lost its data", data=2, purged=True, wiped=True),
    Start(name="strict, db2 cannot catch up, db3 is dead", purged=True, dead=("db3",)),
    Start(name="strict, db2 lost its data, db3 is dead", purged=True, wiped=True, dead=("db3",)),
    Start(name="two, available", data=2, settings=_AVAILABLE),
    Start(name="two, one in S", data=2, settings=_AVAILABLE, changes={"sync_set": ("db1",), "required_acks": 0}),
)
