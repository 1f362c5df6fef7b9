"""Leases and promotions without acknowledgements (`durability: async`) on simulated Raft groups.

Every node reports, grants, holds a lease and decides with the production rules: `Lease`, `may_be_granted`,
`lease_is_over`. What is modelled: a log with BeginFailover and Promote alone, and a mysqld that is writable until its
guard or its controller fences it. Checked at every promotion: nobody else's mysqld can be written to any more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import msgspec

from raftctl.cluster.facts import MemberReport
from raftctl.cluster.state import ClusterState, Phase, Settings
from raftctl.consensus.types import Entry, EntryKind, NotLeader, Role
from raftctl.controller.guard import OWN_LADDER_SECONDS
from raftctl.controller.lease import Lease, may_be_granted
from raftctl.planner.failover import lease_is_over
from raftctl.planner.view import ClusterView
from tests.simulation.checks import require
from tests.simulation.world import Node, Weather, World

replace = msgspec.structs.replace


class Rules:
    """What a mutation may break."""

    def may_promote(self, state: ClusterState, view: ClusterView) -> bool:
        return lease_is_over(state, view)

    def counts_from(self, *, sent: float, received: float) -> float:
        return sent


class Controller:
    """What a node's process has beside Raft; a restart makes a new one. Times are of the node's clock."""

    def __init__(self, settings: Settings, now: float) -> None:
        self.state = ClusterState(version=1, phase=Phase.STEADY, epoch=1, primary="n1", settings=settings)
        self.version_since = now
        self.lease = Lease(started=now)
        self.seq = 0
        self.current_term = 0  # the term in which it leads and has applied all that was committed before

    def apply(self, entry: Entry, now: float) -> bool:
        """Whether it took effect: a decision that was made on another version does not."""
        kind, version, *target = entry.data.decode().split()
        before = self.state
        if int(version) != before.version:
            return False
        if kind == "begin" and before.primary:
            self.state = replace(
                before, phase=Phase.FAILOVER, epoch=before.epoch + 1, primary="", previous_primary=before.primary
            )
        elif kind == "promote" and before.phase is Phase.FAILOVER:
            self.state = replace(before, phase=Phase.PROMOTING, primary=target[0])
        else:
            return False
        self.state = replace(self.state, version=before.version + 1)
        self.version_since = now
        return True


class LeaseWorld(World):
    def __init__(self, seed: int, *, rules: Rules | None = None) -> None:
        rng = random.Random(seed)
        self.rules = rules or Rules()
        self.settings = Settings(durability="async", election_timeout=1.0)
        self.controllers: dict[str, Controller] = {}
        self.writable_until: dict[str, float] = {}  # of the world's clock: when a mysqld is fenced at the latest
        self.promotions = 0
        weather = Weather(delay_max=rng.choice([0.002, 0.05, 0.4]), write_max=rng.choice([0.002, 0.05]))
        super().__init__(
            rng.getrandbits(64),
            size=rng.choice([3, 3, 5]),
            weather=weather,
            election_timeout=self.settings.election_timeout,
        )
        for name in self.ids:
            self.after(self.rng.uniform(0, 0.25), self._report_forever, name)
            self.after(self.rng.uniform(0, 0.25), self._decide_forever, name)

    # --- processes --------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        node = self.nodes[name]
        now = node.clock(self.now)
        self.controllers[name] = Controller(self.settings, now)
        if self.writable_until.get(name, -math.inf) > self.now:
            # It inherits a writable mysqld and does not know for how long: `Lease.is_over` waits one lease for a first
            # grant, the guard somewhat for a controller that is at work.
            own = node.wake_up(now + self.settings.lease_ttl)
            self.writable_until[name] = min(own, self.writable_until[name] + OWN_LADDER_SECONDS)
        super().start(name)

    def _apply(self, node: Node, entries: tuple[Entry, ...]) -> None:
        super()._apply(node, entries)
        controller = self.controllers[node.id]
        for entry in entries:
            if entry.kind is EntryKind.COMMAND:
                controller.apply(entry, node.clock(self.now))
        self._check(node)

    def _running(self, name: str) -> Node | None:
        node = self.nodes[name]
        return node if node.raft is not None and not node.paused else None

    # --- reports and leases -----------------------------------------------------------------------

    def _report_forever(self, name: str) -> None:
        self.after(self.rng.uniform(0.05, 0.25), self._report_forever, name)
        if (node := self._running(name)) is None:
            return
        controller = self.controllers[name]
        controller.seq += 1
        state = controller.state
        report = MemberReport(member=name, seq=controller.seq, version=state.version, epoch=state.epoch)
        controller.lease.asked(report.seq, node.clock(self.now))
        for peer in self.ids:
            self._tell(name, peer, lambda peer=peer: self._reported(peer, report, node.boot))

    def _tell(self, sender: str, to: str, action: Callable[[], None]) -> None:
        """What controllers tell each other goes where Raft's messages go."""
        delay = 0.0 if sender == to else self.rng.uniform(self.weather.delay_min, self.weather.delay_max)

        def deliver() -> None:
            node = self.nodes[to]
            if (sender, to) in self.cut or node.raft is None:
                return
            if node.paused:
                node.inbox.append(deliver)  # in the socket
            else:
                action()

        self.after(delay, deliver)

    def _reported(self, name: str, report: MemberReport, boot: int) -> None:
        node, controller = self.nodes[name], self.controllers[name]
        assert node.raft is not None
        now = node.clock(self.now)
        if node.raft.deadline <= now:  # the shell lets a leader see the time first
            node.raft.tick(now)
            self._pump(node)
        if node.raft.role is not Role.LEADER:
            return
        age = now - node.raft.quorum_contact(now)
        current = controller.current_term == node.raft.term
        if current and may_be_granted(controller.state, report, contact_age=age):
            epoch, seq = controller.state.epoch, report.seq
            self._tell(name, report.member, lambda: self._granted(report.member, boot, epoch, seq))

    def _granted(self, name: str, boot: int, epoch: int, seq: int) -> None:
        node, controller = self.nodes[name], self.controllers[name]
        if node.boot != boot:
            return
        now = node.clock(self.now)
        sent = controller.lease._sent.get(seq)
        if sent is not None:
            controller.lease._sent[seq] = self.rules.counts_from(sent=sent, received=now)
        controller.lease.granted(seq=seq, epoch=epoch, ttl=self.settings.lease_ttl)
        self._check(node)

    def _check(self, node: Node) -> None:
        """The mysqld of a primary with a lease is writable until that ends; nobody else's may be then."""
        controller = self.controllers[node.id]
        now = node.clock(self.now)
        if controller.state.primary != node.id or controller.lease.remaining(controller.state.epoch, now) <= 0:
            return
        if self.writable_until.get(node.id, -math.inf) <= self.now:
            self.promotions += 1
        self.writable_until[node.id] = max(
            self.writable_until.get(node.id, -math.inf), node.wake_up(now + controller.lease.left(now))
        )
        for other, until in self.writable_until.items():
            if other == node.id:
                continue
            epoch, left = controller.state.epoch, until - self.now
            require(left <= 0, f"two writable primaries: {node.id} in epoch {epoch}, {other} for {left:.2f} s")

    # --- the leader's decisions -------------------------------------------------------------------

    def _decide_forever(self, name: str) -> None:
        """A leader changes the primary for no reason at all, which nobody may be hurt by."""
        self.after(self.rng.uniform(0.05, 0.5), self._decide_forever, name)
        if (node := self._running(name)) is None or node.raft is None or node.raft.role is not Role.LEADER:
            return
        controller, state = self.controllers[name], self.controllers[name].state
        if node.raft.term in self._applied_terms(node):
            controller.current_term = node.raft.term
        if controller.current_term != node.raft.term:
            return
        age = node.clock(self.now) - controller.version_since
        view = ClusterView(members={}, listening_seconds=age, version_seconds=age)
        if state.phase is Phase.FAILOVER:
            if self.rules.may_promote(state, view):
                others = [member for member in self.ids if member != state.previous_primary]
                self._decide(node, f"promote {state.version} {self.rng.choice(others)}")
        elif self.rng.random() < 0.1:
            self._decide(node, f"begin {state.version}")

    def _applied_terms(self, node: Node) -> set[int]:
        """The term of the last applied entry: one of the own term proves that all before it is applied."""
        assert node.raft is not None
        applied = node.raft.applied_index
        return {node.log[applied - 1].term} if applied else set()

    def _decide(self, node: Node, command: str) -> None:
        assert node.raft is not None
        try:
            node.raft.propose(command.encode(), node.clock(self.now))
        except NotLeader:
            return
        self._pump(node)


def disturb(world: LeaseWorld) -> None:
    """One fault, or the end of one; the connections of who dies close, so that elections begin at once."""
    rng = world.rng
    name = rng.choice(world.ids)
    node = world.nodes[name]
    match rng.randrange(6):
        case 0 if node.raft is not None:
            world.crash(name)
        case 1 if node.raft is not None:
            world.crash(name)
            world.start(name)  # a controller that is restarted at once
        case 2 if node.raft is not None and not node.paused:
            world.pause(name)
        case 3:
            world.cut |= {link for other in world.ids for link in ((name, other), (other, name))}
        case 4 if len(world.ids) > 1:
            world.break_connection(name, rng.choice([other for other in world.ids if other != name]))
        case _:
            world.cut.clear()
            for other, its in world.nodes.items():
                if its.raft is None:
                    world.start(other)
                elif its.paused:
                    world.resume(other)
    world.after(rng.uniform(0, 2.0), disturb, world)


def live(seed: int, *, rules: Rules | None = None, seconds: float = 120.0) -> LeaseWorld:
    """One life; raises SafetyViolation."""
    world = LeaseWorld(seed, rules=rules)
    world.after(2.0, disturb, world)
    world.run(until=seconds)
    return world
