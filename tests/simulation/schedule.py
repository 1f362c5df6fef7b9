"""One simulated life of a cluster, from a seed: first faults (safety), then a healthy majority (liveness)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from raftctl.consensus.membership import majority
from tests.simulation.checks import require
from tests.simulation.world import Weather, World

FAULTS = 30.0  # election timeouts of phase 1
PATIENCE = 30.0  # election timeouts that a healthy majority has until it commits


@dataclass
class Outcome:
    """What a run did; `recovery` is in election timeouts from the end of the faults to the first commit."""

    seed: int
    size: int
    steps: int
    virtual_seconds: float
    terms: int
    acknowledged: int
    reads: int
    changes: int
    snapshots: int
    forced: int
    recovery: float


def random_weather(rng: random.Random) -> Weather:
    """Swarm testing: each seed has few kinds of trouble, so that none hides the others."""
    delay_min = rng.choice([0.0001, 0.001, 0.01])
    return Weather(
        loss=rng.choice([0.0, 0.0, 0.01, 0.1]),
        duplicates=rng.choice([0.0, 0.0, 0.05, 0.2]),
        delay_min=delay_min,
        delay_max=delay_min * rng.choice([1.5, 5, 50]),
        in_order=rng.random() < 0.6,
        write_min=0.0001,
        write_max=rng.choice([0.001, 0.01, 0.05]),
        slow_write=rng.choice([0.0, 0.02, 0.1]),
    )


class Schedule:
    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.changing = self.rng.random() < 0.4  # does the membership change?
        self.world = World(
            self.rng.getrandbits(64),
            size=self.rng.choice([1, 2, 3, 3, 3, 3, 4, 5, 5, 7]),
            spares=self.rng.randint(0, 2) if self.changing else 0,
            weather=random_weather(self.rng),
            election_timeout=self.rng.choice([0.15, 0.3, 1.0]),
            trace=trace,
        )
        self.ids = self.world.ids
        every = [
            (self._crash, 3),
            (self._restart, 5),
            (self._pause, 2),
            (self._resume, 3),
            (self._isolate, 2),
            (self._split, 2),
            (self._cut_one_way, 2),
            (self._heal, 4),
            (self._reset_connection, 3),
            (self._lose_leader, 2),
            (self._transfer, 2),
            (self._compact, 8),
            (self._fill_disk, 2),
            (self._free_disk, 4),
            (self._suspend, 2),
        ]
        if self.changing:
            every.append((self._change_membership, 20))
        if self.rng.random() < 0.2:
            every.append((self._force_membership, 1))
        self.faults = [fault for fault, weight in every if self.rng.random() < 0.75 for _ in range(weight)]
        self.fault_pause = self.rng.choice([0.2, 1.0, 3.0]) * self.world.election_timeout
        self.client_pause = self.rng.choice([0.02, 0.1, 0.3]) * self.world.election_timeout

    def run(self) -> Outcome:
        world = self.world
        world.after(0.0, self._client)
        if self.faults:
            world.after(self.fault_pause, self._fault)
        world.run(until=FAULTS * world.election_timeout)
        recovery = self._recover()
        return Outcome(
            seed=self.seed,
            size=len(self.ids),
            steps=world.steps,
            virtual_seconds=world.now,
            terms=max(world.checks.leaders),
            acknowledged=world.acknowledged,
            reads=world.reads_answered,
            changes=world.changes,
            snapshots=world.restored,
            forced=world.incarnation - 1,
            recovery=recovery / world.election_timeout,
        )

    # --- phase 2 ----------------------------------------------------------------------------------

    def _recover(self) -> float:
        """A majority (all, if the membership changed) becomes and stays healthy: it must commit in bounded time.

        If the others are cut off, every healthy node must get there. If they stay as they are, one of them may lead
        with a majority of its own and leave out a healthy node which it cannot reach."""
        world = self.world
        self.faults = []
        forced = world.incarnation > 1
        members = [node.id for node in world.members(world.incarnation)]
        least = len(members) if self.changing or forced else majority(len(members))
        healthy = sorted(self.rng.sample(members, self.rng.randint(least, len(members))))
        others = [name for name in self.ids if name not in healthy]
        world.log("", f"healthy from now on: {healthy}")
        world.weather = Weather()
        for node in world.nodes.values():
            node.disk.full = False
        world.cut = {link for link in world.cut if not (link[0] in healthy and link[1] in healthy)}
        cut_off = self.rng.random() < 0.5 and not self.changing and not forced
        if cut_off:
            self._separate(healthy, others)
        for name in healthy:
            if world.nodes[name].raft is None:
                world.start(name)
            elif world.nodes[name].paused:
                world.resume(name)
        began = world.now
        target = len(world.checks.committed) + 1

        def recovered() -> bool:
            return len(world.checks.committed) >= target and (
                not cut_off or all(world.applied_index(name) >= target for name in healthy)
            )

        world.run(until=began + PATIENCE * world.election_timeout, stop=recovered)
        require(recovered(), f"liveness: no commit within {PATIENCE} election timeouts")
        if cut_off:
            world.final_check(healthy, upto=target)
        return world.now - began

    # --- clients ----------------------------------------------------------------------------------

    def _client(self) -> None:
        for node in self.world.leaders():
            if self.rng.random() < 0.3:
                self.world.read(node)
            else:
                self.world.propose(node)
        self.world.after(self.rng.uniform(0, 2) * self.client_pause, self._client)

    # --- faults -----------------------------------------------------------------------------------

    def _fault(self) -> None:
        if self.faults:
            self.rng.choice(self.faults)()
            self.world.after(self.rng.uniform(0, 2) * self.fault_pause, self._fault)

    def _pick(self, *, running: bool, paused: bool = False) -> str | None:
        names = [
            name
            for name, node in self.world.nodes.items()
            if (node.raft is not None) == running and node.paused == paused and not node.superseded
        ]
        return self.rng.choice(names) if names else None

    def _crash(self) -> None:
        name = self._pick(running=True)
        if name is not None:
            self.world.crash(name)

    def _restart(self) -> None:
        name = self._pick(running=False)
        if name is not None:
            self.world.start(name)

    def _pause(self) -> None:
        name = self._pick(running=True)
        if name is not None:
            self.world.pause(name)

    def _resume(self) -> None:
        name = self._pick(running=True, paused=True)
        if name is not None:
            self.world.resume(name)

    def _suspend(self) -> None:
        """The clock jumps ahead, as that of a virtual machine may which was suspended."""
        node = self.world.nodes[self.rng.choice(self.ids)]
        self.world.log(node.id, "is suspended for a while")
        node.clock_offset += self.rng.uniform(0, 3) * self.world.election_timeout

    def _fill_disk(self) -> None:
        name = self.rng.choice(self.ids)
        self.world.log(name, "has a full disk")
        self.world.nodes[name].disk.full = True

    def _free_disk(self) -> None:
        for node in self.world.nodes.values():
            node.disk.full = False

    def _isolate(self) -> None:
        victim = self.rng.choice(self.ids)
        self._separate([victim], [name for name in self.ids if name != victim])

    def _split(self) -> None:
        """Two sides; sometimes one node still reaches both."""
        order = self.rng.sample(self.ids, len(self.ids))
        middle = self.rng.randint(0, len(order))
        bridge = self.rng.choice([0, 1])
        self._separate(order[:middle], order[middle + bridge :])

    def _separate(self, side: list[str], other: list[str]) -> None:
        self.world.log("", f"partition {side} from {other}")
        notices = self.rng.random() < 0.3
        for one in side:
            for two in other:
                self.world.cut |= {(one, two), (two, one)}
                if notices:
                    self.world.break_connection(one, two)

    def _cut_one_way(self) -> None:
        if len(self.ids) > 1:
            one, two = self.rng.sample(self.ids, 2)
            self.world.log("", f"cut {one} to {two}")
            self.world.cut.add((one, two))

    def _heal(self) -> None:
        self.world.log("", "heal")
        self.world.cut.clear()

    def _reset_connection(self) -> None:
        if len(self.ids) > 1:
            self.world.break_connection(*self.rng.sample(self.ids, 2))

    def _lose_leader(self) -> None:
        """The case that matters most: the leader dies and everybody sees its connections close."""
        for node in self.world.leaders():
            self.world.crash(node.id)

    def _transfer(self) -> None:
        for node in self.world.leaders():
            assert node.raft is not None
            others = [voter for voter in node.raft.voters if voter != node.id]
            if others:
                self.world.transfer(node, self.rng.choice(others))

    def _compact(self) -> None:
        name = self._pick(running=True)
        if name is not None:
            self.world.compact(name)

    def _force_membership(self) -> None:
        members = [node.id for node in self.world.members(self.world.incarnation)]
        if len(members) > 1:
            self.world.force_membership(self.rng.sample(members, self.rng.randint(1, len(members) - 1)))

    def _change_membership(self) -> None:
        """A leader adds a learner, makes one a voter, or takes a member out, itself included."""
        for node in self.world.leaders():
            assert node.raft is not None
            voters, learners = list(node.raft.voters), list(node.raft.learners)
            chosen = self.rng.choice(self.ids)
            if chosen in voters:
                voters.remove(chosen)
            elif chosen in learners:
                learners.remove(chosen)
                voters.append(chosen)
            else:
                learners.append(chosen)
            self.world.change_membership(node, voters, learners)


def simulate(seed: int, *, trace: bool = False) -> Outcome:
    return Schedule(seed, trace=trace).run()
