"""What goes wrong in the simulated cluster: each seed draws its own mixture (`Config`), `Faults` carries it out."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from raftctl.cluster.observation import ReceiverState

if TYPE_CHECKING:
    from tests.simulation.cluster_model_world import World


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """`ticks` of faults; rates are probabilities a tick; `acks` is k. Each seed draws its own: a run with only a few
    kinds of faults, often, gets further into corners than one with a bit of everything."""

    members: int = 3
    acks: int = 1
    ticks: int = 120
    fault_rate: float = 0.15
    request_rate: float = 0.02  # switchovers and failovers asked for
    statement_rate: float = 0.5  # how fast statements end
    receive_rate: float = 0.8
    controller_steps: int = 4  # at most, a tick
    proposal_delay_max: float = 0.25
    ack_delay_rate: float = 0.2
    stray_probability: float = 0.01
    weights: tuple[int, ...] = ()
    available: bool = False  # durability_policy

    @classmethod
    def drawn(cls, rng: random.Random) -> Config:
        members, acks = rng.choice(((3, 1), (3, 1), (3, 1), (5, 2), (5, 2), (4, 2), (2, 1), (3, 2), (5, 1), (3, 0)))
        return cls(
            members=members,
            acks=acks,
            ticks=rng.choice((80, 120, 200)),
            fault_rate=rng.choice((0.05, 0.15, 0.3)),
            request_rate=rng.choice((0.0, 0.02, 0.2)),
            statement_rate=rng.choice((0.05, 0.5)),
            receive_rate=rng.choice((0.1, 0.5, 0.9)),
            controller_steps=rng.choice((1, 4)),
            proposal_delay_max=rng.choice((0.0, 0.25, 5.0)),
            stray_probability=rng.choice((0.0, 0.0, 0.05)),
            weights=tuple(rng.choice((0, 0, 1, 4)) for _ in FAULTS),
            available=rng.random() < 0.4,
        )


class Faults:
    """What goes wrong. Everything is undone by `heal`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self._back: list[tuple[float, Callable[[], None]]] = []

    def tick(self) -> None:
        world = self._world
        due = [undo for at, undo in self._back if at <= world.now]
        self._back = [(at, undo) for at, undo in self._back if at > world.now]
        for undo in due:
            undo()
        if any(world.config.weights) and self._rng.random() < world.config.fault_rate:
            (fault,) = self._rng.choices(FAULTS, world.config.weights)
            fault(self)

    def _later(self, undo: Callable[[], None]) -> None:
        self._back.append((self._world.now + self._rng.choice((0.0, 0.5, 1.0, 3.0, 8.0, 20.0)), undo))

    def _name(self) -> str:
        return self._rng.choice(list(self._world.mysqlds))

    def kill_mysqld(self, name: str = "", *, power: bool = False) -> None:
        name = name or self._name()
        if name in self._world.cloning:
            return
        mysqld = self._world.mysqlds[name]
        self._world.trace(lambda: f"FAULT kill mysqld {name}{', power fails' if power else ''}")
        if power:
            mysqld.lose_power(self._rng.randint(0, len(mysqld.unsynced)))
        else:
            mysqld.kill()
        self._later(lambda: self._restart(name))

    def _restart(self, name: str) -> None:
        if name not in self._world.cloning:
            self._world.mysqlds[name].start()

    def kill_primary(self) -> None:
        if self._world.state.primary:
            self.kill_mysqld(self._world.state.primary)

    def kill_controller(self, name: str = "") -> None:
        controller = self._world.controllers[name or self._name()]
        self._world.trace(lambda: f"FAULT kill controller {controller.name}")
        controller.kill()
        self._later(controller.start)

    def kill_host(self) -> None:
        name = self._name()
        self.kill_mysqld(name, power=True)
        self.kill_controller(name)

    def kill_everything(self) -> None:
        for name in self._world.mysqlds:
            self.kill_mysqld(name, power=True)
            self.kill_controller(name)

    def pause_controller(self) -> None:
        controller = self._world.controllers[self._name()]
        controller.paused_until = self._world.now + self._rng.choice((0.5, 3.0, 10.0))
        self._world.trace(lambda: f"FAULT pause controller {controller.name} until {controller.paused_until:.2f}")

    def freeze_host(self) -> None:
        name = self._name()
        mysqld, controller = self._world.mysqlds[name], self._world.controllers[name]
        mysqld.frozen = True
        self._world.trace(lambda: f"FAULT freeze host {name}")
        if self._rng.random() < 0.5:
            controller.paused_until = 1e9

        def thaw() -> None:
            mysqld.frozen = False
            controller.paused_until = 0.0

        self._later(thaw)

    def partition(self) -> None:
        world = self._world
        names = list(world.mysqlds)
        if self._rng.random() < 0.5:
            one = self._name()
            pairs = {frozenset((one, n)) for n in names if n != one}
        else:
            pairs = {frozenset(p) for p in itertools.combinations(names, 2) if self._rng.random() < 0.4}
        world.cut |= pairs
        world.trace(lambda: f"FAULT cut {sorted(sorted(p) for p in pairs)}")
        self._later(lambda: world.cut.difference_update(pairs))

    def slow_applier(self) -> None:
        name = self._name()
        self._world.apply_rate[name] = self._rng.choice((0.0, 0.1))
        self._later(lambda: self._world.apply_rate.__setitem__(name, 1.0))

    def slow_receiver(self) -> None:
        name = self._name()
        self._world.receive_rate[name] = self._rng.choice((0.0, 0.05))
        self._later(lambda: self._world.receive_rate.__setitem__(name, self._world.config.receive_rate))

    def bounce_mysqld(self) -> None:
        """It is back before anybody looks."""
        name = self._world.state.primary or self._name()
        self._world.mysqlds[name].kill()
        self._restart(name)
        self._world.trace(lambda: f"FAULT bounce mysqld {name}")

    def stop_receiver(self) -> None:
        mysqld = self._world.mysqlds[self._name()]
        mysqld.stop_receiver()

    def heal(self) -> None:
        world = self._world
        world.trace(lambda: "HEAL")
        for _, undo in self._back:
            undo()
        self._back = []
        world.cut.clear()
        world.apply_rate = dict.fromkeys(world.mysqlds, 1.0)
        world.receive_rate = dict.fromkeys(world.mysqlds, 0.9)
        for controller in world.controllers.values():
            controller.paused_until = 0.0
            controller.start()
        self.keep_alive()

    def break_connections(self) -> None:
        for mysqld in self._world.mysqlds.values():
            if mysqld.alive and mysqld.receiver is not ReceiverState.OFF:
                mysqld.stop_receiver()
                mysqld.start_receiver()

    def keep_alive(self) -> None:
        """systemd restarts what ended, and nothing stays frozen."""
        for name, mysqld in self._world.mysqlds.items():
            mysqld.frozen = False
            self._restart(name)


FAULTS: tuple[Callable[[Faults], None], ...] = (
    Faults.kill_mysqld,
    Faults.kill_primary,
    Faults.bounce_mysqld,
    Faults.kill_controller,
    Faults.pause_controller,
    Faults.kill_host,
    Faults.kill_everything,
    Faults.freeze_host,
    Faults.partition,
    Faults.slow_applier,
    Faults.slow_receiver,
    Faults.stop_receiver,
)


def only(**weights: int) -> tuple[int, ...]:
    """`Config.weights` for the faults named."""
    assert set(weights) <= {f.__name__ for f in FAULTS}, weights
    return tuple(weights.get(f.__name__, 0) for f in FAULTS)
