"""Directed schedules: corners that chance alone finds too rarely, and in which configurations it finds the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from raftctl.cluster.commands import AbortSwitchover, BeginSwitchover, Promote, Proof
from raftctl.cluster.state import Phase
from tests.simulation import cluster_model_mutations as m
from tests.simulation.cluster_model_faults import only
from tests.simulation.cluster_model_world import Rules, Script, World

LONG = 1e9


def _until(world: World, condition: Callable[[], bool], *, ticks_max: int = 400) -> Iterator[None]:
    for _ in range(ticks_max):
        if condition():
            return
        yield
    raise AssertionError(f"not reached at {world.now}: {world.unhealed()}")


def _steady(world: World) -> Iterator[None]:
    yield from _until(world, lambda: world.state.phase is Phase.STEADY and world.mysqlds[world.state.primary].writable)


def _for(ticks: int) -> Iterator[None]:
    yield from iter([None] * ticks)


def sole_acker_falls_silent(others_rate: float) -> Script:
    """The controller of the quickest replica stops, its mysqld goes on; the other replicas are behind."""

    def script(world: World) -> Iterator[None]:
        yield from _steady(world)
        yield from _for(12)
        for name in world.mysqlds:
            world.receive_rate[name] = others_rate
        world.receive_rate["db2"] = 1.0
        world.controllers["db2"].paused_until = LONG
        yield from _for(80)

    return script


def removed_numbers_come_back(world: World) -> Iterator[None]:
    """db5 has transactions of db1 that nobody else has; db1 loses them, is primary again, and then db5 returns."""
    yield from _steady(world)
    yield from _for(12)
    world.receive_rate |= dict.fromkeys(("db2", "db3", "db4"), 0.0)
    world.receive_rate["db5"] = 1.0
    yield from _for(12)
    world.cut |= {frozenset((n, "db5")) for n in world.mysqlds if n != "db5"}
    world.mysqlds["db1"].kill()
    yield from _until(world, lambda: world.state.primary not in ("", "db1") and world.state.phase is Phase.STEADY)
    world.receive_rate |= dict.fromkeys(world.mysqlds, 0.9)
    world.mysqlds["db1"].start()
    yield from _until(world, lambda: "db1" in world.state.sync_set)
    yield from _for(4)
    while world.state.primary != "db1":
        if world.state.phase is Phase.STEADY:
            world.propose(BeginSwitchover(based_on=world.state.version, target="db1"))
        yield from _for(20)
    yield from _for(40)
    world.cut.clear()


def _stalled_failover(world: World) -> Iterator[None]:
    """The primary's controller is lost and its mysqld goes on; two of five report fenced and a third cannot."""
    yield from _steady(world)
    yield from _for(8)
    world.controllers["db1"].paused_until = LONG
    while world.state.phase is not Phase.FAILOVER:
        world.mysqlds["db2"].stop_receiver()
        world.mysqlds["db5"].stop_receiver()
        yield
    world.controllers["db3"].paused_until = LONG
    world.mysqlds["db4"].frozen = True


def statement_lands_after_the_promise(world: World) -> Iterator[None]:
    """Replicas are told to receive again just when the failover begins."""
    yield from _stalled_failover(world)
    yield from _for(40)


def controller_restarts_after_the_promise(world: World) -> Iterator[None]:
    """It replays the log and passes through states in which its replica had to receive."""
    yield from _stalled_failover(world)
    for _ in range(10):
        yield from _for(8)
        for name in ("db2", "db5"):
            world.controllers[name].kill()
            world.controllers[name].start()


def replica_below_the_floor(world: World) -> Iterator[None]:
    """db2 is promoted with what db3 lacks, and dies before db3 has it."""
    yield from _steady(world)
    world.receive_rate["db3"] = 0.0
    yield from _for(20)
    world.mysqlds["db1"].kill()
    yield from _until(world, lambda: world.state.primary == "db2" and world.mysqlds["db2"].writable)
    world.mysqlds["db2"].kill()
    yield from _for(60)


def the_acker_is_cut_off(world: World) -> Iterator[None]:
    """Only db2 has what db1 acknowledged; then db1's mysqld dies and db2 is out of reach."""
    yield from _steady(world)
    world.receive_rate["db3"] = 0.0
    yield from _for(20)
    world.cut |= {frozenset(("db1", "db2")), frozenset(("db2", "db3"))}
    world.mysqlds["db1"].kill()
    yield from _for(60)


def promotion_of_an_aborted_switchover(world: World) -> Iterator[None]:
    """A Promote that was decided before the switchover was aborted arrives during the next switchover."""
    yield from _steady(world)
    yield from _for(8)
    yield from _until(world, lambda: world.state.phase is Phase.STEADY)
    version = world.state.version
    promote = Promote(
        based_on=version + 1,
        target="db2",
        certificate=world.mysqlds["db2"].executed_set,
        sync_set=world.state.sync_set,
        required_acks=1,
        locked=(),
        proof=Proof.PRIMARY_FENCED,
        reporters=("db1", "db2"),
    )
    world.commit(BeginSwitchover(based_on=version, target="db2"))
    world.commit(AbortSwitchover(based_on=version + 1, why="taken back"))
    world.receive_rate |= {"db2": 0.0, "db3": 1.0}
    yield from _steady(world)
    yield from _for(12)
    world.commit(BeginSwitchover(based_on=world.state.version, target="db2"))
    world.commit(promote)
    yield from _for(20)


def lowered_and_raised(world: World) -> Iterator[None]:
    """With `available`: both replicas' mysqlds die, S becomes the primary alone, then they return, one far behind."""
    yield from _steady(world)
    replicas = [m for m in world.mysqlds if m != world.state.primary]
    for name in replicas:
        world.mysqlds[name].kill()
    yield from _until(world, lambda: world.state.required_acks == 0)
    yield from _for(20)
    for name in replicas:
        world.receive_rate[name] = 0.2
        world.mysqlds[name].start()
    yield from _until(world, lambda: world.state.required_acks == 1)


def raised_on_what_is_unsynced(world: World) -> Iterator[None]:
    """With `available`: the replicas have received and not applied everything, and their controllers hang before they
    begin to acknowledge."""
    yield from _steady(world)
    replicas = [m for m in world.mysqlds if m != world.state.primary]
    for name in replicas:
        world.mysqlds[name].kill()
    yield from _until(world, lambda: world.state.required_acks == 0)
    yield from _for(20)
    for name in replicas:
        world.apply_rate[name] = 0.0
        world.mysqlds[name].start()
    yield from _until(world, lambda: world.state.source_acks == 1)
    for name in replicas:
        world.controllers[name].paused_until = world.now + 5.0
    yield from _for(24)
    world.apply_rate |= dict.fromkeys(replicas, 1.0)


def lone_primary_dies(world: World) -> Iterator[None]:
    """With `available`: the only one that holds everything dies, while others are back in S."""
    yield from _steady(world)
    primary = world.state.primary
    replicas = [m for m in world.mysqlds if m != primary]
    for name in replicas:
        world.mysqlds[name].kill()
    yield from _until(world, lambda: world.state.required_acks == 0)
    yield from _for(20)
    for name in replicas:
        world.mysqlds[name].start()
    yield from _until(world, lambda: len(world.state.sync_set) > 1)
    world.receive_rate |= dict.fromkeys(replicas, 0.0)
    yield from _for(4)
    world.mysqlds[primary].kill()
    yield from _for(60)


class Mutation(NamedTuple):
    """`checks`: which may be the first to see it. `focus`: the part of `Config` in which it is found soon."""

    rules: type[Rules]
    checks: frozenset[str]
    focus: dict[str, Any]
    script: Script | None

    @property
    def name(self) -> str:
        return self.rules.__name__


def _mutation(rules: type[Rules], *checks: str, script: Script | None = None, **focus: Any) -> Mutation:
    return Mutation(rules, frozenset(checks), focus, script)


_THREE: dict[str, Any] = {"members": 3, "acks": 1}
_LOWERED: dict[str, Any] = {"members": 3, "acks": 1, "available": True}
_FIVE: dict[str, Any] = {"members": 5, "acks": 2}
_CALM: dict[str, Any] = {
    "request_rate": 0.0,
    "statement_rate": 0.5,
    "receive_rate": 0.9,
    "stray_probability": 0.0,
    "proposal_delay_max": 0.0,
    "controller_steps": 4,
}

MUTATIONS = (
    _mutation(
        m.OneReporterTooFew,
        *("ack-set", "old-primary", "lost-write"),
        script=the_acker_is_cut_off,
        **_THREE,
        **_CALM,
    ),
    _mutation(m.BelowFloor, "lost-write", script=replica_below_the_floor, **_THREE, **_CALM),
    _mutation(m.OpenBeforeApplied, "lost-write", **_THREE, weights=only(kill_primary=4, slow_applier=4)),
    _mutation(m.RepointBeforeApplied, "R5", **_THREE, weights=only(kill_primary=4, slow_applier=4)),
    _mutation(m.NoAcknowledgements, "ack-set", "lost-write", "old-primary", **_THREE),
    _mutation(m.ShrinkWithoutHolders, "ack-set", script=sole_acker_falls_silent(0.03), **_THREE, **_CALM),
    _mutation(m.ShrinkWithoutOwned, "ack-set", script=sole_acker_falls_silent(0.15), **_FIVE, **_CALM),
    _mutation(
        m.OutsidersAcknowledge,
        "ack-set",
        **_THREE,
        weights=only(kill_primary=4, slow_receiver=2, partition=2),
    ),
    _mutation(m.RaiseAtOnce, "ack-set", script=lowered_and_raised, **_LOWERED, **_CALM),
    _mutation(m.RaiseWithoutHolders, "ack-set", script=lowered_and_raised, **_LOWERED, **_CALM),
    _mutation(m.UnsyncedHolders, "ack-set", script=raised_on_what_is_unsynced, **_LOWERED, **_CALM),
    _mutation(m.LowerBeforeCommit, "ack-set", script=lowered_and_raised, **_LOWERED, **_CALM),
    _mutation(m.AloneIsAsync, "lost-write", script=lone_primary_dies, **_LOWERED, **_CALM),
    _mutation(m.LocksNobody, "ack-set", script=sole_acker_falls_silent(0.3), **_THREE, **_CALM),
    _mutation(
        m.NotQuiet, "promise", "ack-set", "old-primary", "lost-write", **_THREE, request_rate=0.2, statement_rate=0.05
    ),
    _mutation(
        m.NotStopped, "promise", "ack-set", "old-primary", **_FIVE, weights=only(pause_controller=4, freeze_host=4)
    ),
    _mutation(
        m.ReadOnlyBySuperAlone,
        *("old-primary", "ack-set", "promise"),
        **_THREE,
        request_rate=0.2,
        statement_rate=0.05,
        weights=only(pause_controller=4, partition=2),
    ),
    _mutation(
        m.ReopenUnconfirmed,
        *("promise", "ack-set"),
        script=controller_restarts_after_the_promise,
        **_FIVE,
        **_CALM,
    ),
    _mutation(m.OpenUnverified, "ack-set", **_THREE, weights=only(bounce_mysqld=4, pause_controller=1)),
    _mutation(
        m.StrayStatements,
        *("promise", "R5"),
        script=statement_lands_after_the_promise,
        **_FIVE,
        **(_CALM | {"stray_probability": 0.3}),
    ),
    _mutation(
        m.StaleDecision,
        *("ack-set", "old-primary", "lost-write"),
        script=promotion_of_an_aborted_switchover,
        **_THREE,
        **_CALM,
    ),
    _mutation(m.SameUuidAfterRebuild, "divergence", "lost-write", script=removed_numbers_come_back, **_FIVE, **_CALM),
    _mutation(m.NoComparison, "liveness", "divergence", **_THREE, receive_rate=0.1, weights=only(kill_primary=4)),
    _mutation(m.NeverNudges, "liveness", **_THREE, ack_delay_rate=0.8, weights=only(stop_receiver=4)),
)
