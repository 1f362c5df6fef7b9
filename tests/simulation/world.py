"""A cluster under virtual time: production Raft nodes, simulated disks, network and clients, one random source.

Everything that happens is a function of the seed. A disk write is lost, kept or kept in part when its node crashes, and
a full disk ends its node; messages are delayed, reordered, duplicated and lost; links are cut in either direction;
processes are paused, clocks jump ahead, and persons force memberships.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raftctl.consensus.membership import Membership
from raftctl.consensus.raft import Raft
from raftctl.consensus.types import (
    AnyMessage,
    ChangeRefused,
    Config,
    Entry,
    EntryKind,
    NotLeader,
    Ready,
    Role,
)
from raftctl.raftnode.forced_membership import sole_voter
from raftctl.raftnode.wal_records import Recovered
from raftctl.raftnode.wal_writer import Write
from tests.simulation.checks import Checks, digest, require
from tests.simulation.disk import Disk, WalDisk

STEPS_MAX = 500_000  # a run takes some ten thousand


@dataclass
class Weather:
    """How bad network and disks are. Times in seconds."""

    loss: float = 0.0
    duplicates: float = 0.0
    delay_min: float = 0.0002
    delay_max: float = 0.002
    in_order: bool = True  # per link, as TCP
    write_min: float = 0.0001
    write_max: float = 0.002
    slow_write: float = 0.0  # probability that a write takes up to 50 times write_max


@dataclass
class PendingWrite:
    term: int
    floor: int


@dataclass
class Node:
    id: str
    rng: random.Random
    clock_offset: float
    clock_rate: float
    disk: Disk
    checks: Checks  # of its incarnation
    incarnation: int = 1
    superseded: bool = False  # a person left it out, and it has heard so: it takes no part any more
    raft: Raft | None = None
    boot: int = 0  # counts starts: what was meant for an earlier process is dropped
    paused: bool = False
    inbox: list[Callable[[], None]] = field(default_factory=list)  # what arrived while paused
    log: list[Entry] = field(default_factory=list)  # the log as the process sees it, with what is compacted
    state: int = 0  # the state machine's
    tick_at: float = math.inf
    led_term: int = 0
    writes: dict[int, PendingWrite] = field(default_factory=dict)
    reads: dict[int, int] = field(default_factory=dict)  # request -> floor
    answered_reads: list[tuple[int, int]] = field(default_factory=list)  # (index, floor), not applied so far yet

    def clock(self, now: float) -> float:
        return self.clock_offset + now * self.clock_rate

    def wake_up(self, deadline: float) -> float:
        """The world's time at which this node's clock shows `deadline`."""
        return (deadline - self.clock_offset) / self.clock_rate


class World:
    def __init__(
        self,
        seed: int,
        *,
        size: int,
        weather: Weather,
        election_timeout: float,
        spares: int = 0,
        trace: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.weather = weather
        self.election_timeout = election_timeout
        self.group_commit = self.rng.random() < 0.5
        disk = self.rng.choice([Disk, WalDisk])
        self.cut: set[tuple[str, str]] = set()  # links from, to that deliver nothing
        self.trace = trace
        self.ids = [f"n{number}" for number in range(1, size + spares + 1)]
        self.incarnation = 1  # the newest; a person forced each but the first (rule R10)
        self.checks = Checks(self.ids[:size])  # of the newest
        self.nodes = {
            name: Node(
                id=name,
                rng=random.Random(self.rng.random()),
                clock_offset=self.rng.uniform(0, 1000),
                clock_rate=self.rng.uniform(0.98, 1.02),
                disk=disk(),
                checks=self.checks,
            )
            for name in self.ids
        }
        self.steps = 0
        self.acknowledged = 0
        self.changes = 0
        self.restored = 0
        self.reads_answered = 0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._link_free: dict[tuple[str, str], float] = {}
        self._request = 0
        for name in self.ids:
            self.start(name)

    # --- time -------------------------------------------------------------------------------------

    def after(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay, self._sequence, action, arguments))

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        while self._queue and self._queue[0][0] <= until and not stop():
            self.now, _, action, arguments = heapq.heappop(self._queue)
            self.steps += 1
            require(self.steps < STEPS_MAX, "timers fire without end")
            action(*arguments)
        if not stop():
            self.now = until

    def log(self, node: str, text: str) -> None:
        if self.trace:
            print(f"{self.now:9.4f} {node:3} {text}")

    # --- processes --------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        node = self.nodes[name]
        assert node.raft is None
        assert not node.superseded
        config = Config(
            node_id=name,
            voters=node.checks.voters if name in node.checks.voters else (),
            election_timeout=self.election_timeout,
            heartbeat_interval=self.election_timeout / 10,
            max_entries_per_append=8,
        )
        disk = node.disk
        node.boot += 1
        node.log = list(disk.log)
        node.state = int(disk.snapshot.data) if disk.snapshot else 0
        now = node.clock(self.now)
        node.raft = Raft(config, disk.hard_state, disk.entries(), node.rng, now, snapshot=disk.snapshot)
        node.tick_at = math.inf
        self.log(name, f"starts with {node.disk.hard_state} and {len(node.log)} entries")
        self._pump(node)

    def crash(self, name: str) -> None:
        node = self.nodes[name]
        self.log(name, "crashes")
        node.raft = None
        node.disk.crash(self.rng)
        node.paused = False
        node.inbox, node.writes, node.reads, node.answered_reads = [], {}, {}, []
        for other in self.ids:
            self.break_connection(name, other)

    def pause(self, name: str) -> None:
        self.log(name, "is paused")
        self.nodes[name].paused = True

    def resume(self, name: str) -> None:
        node = self.nodes[name]
        self.log(name, "goes on")
        node.paused = False
        if node.raft is not None and node.raft.role is Role.LEADER and self.rng.random() < 0.5:
            self.read(node)  # a client is quicker than the timer that will end this leadership
        waiting, node.inbox = node.inbox, []
        for action in waiting:
            action()
        self._tick(name, node.boot, node.tick_at)

    def _input(self, name: str, boot: int, action: Callable[[Raft, float], None]) -> None:
        """Feed one input to a process if it is still the one it was meant for."""
        node = self.nodes[name]
        if node.raft is None or node.boot != boot:
            return
        if node.paused:
            node.inbox.append(lambda: self._input(name, boot, action))
            return
        action(node.raft, node.clock(self.now))
        self._pump(node)

    def _tick(self, name: str, boot: int, at: float) -> None:
        node = self.nodes[name]
        if node.boot != boot or node.raft is None or node.paused or at != node.tick_at:
            return  # the last: an earlier tick took its place
        node.tick_at = math.inf
        if node.raft.deadline <= node.clock(self.now):
            node.raft.tick(node.clock(self.now))
        self._pump(node)

    def _pump(self, node: Node) -> None:
        """The shell's loop: obey the order that `Ready` asks for."""
        raft = node.raft
        assert raft is not None
        self._obey(node, raft.ready())
        assert not raft.ready(), "one Ready tells everything"
        if raft.role is Role.LEADER and node.led_term != raft.term:
            node.led_term = raft.term
            node.checks.leader(node.id, raft.term, node.log)
        due = max(node.wake_up(raft.deadline), self.now)
        if due < node.tick_at:
            node.tick_at = due
            self.after(due - self.now + 1e-9, self._tick, node.id, node.boot, due)

    def _obey(self, node: Node, ready: Ready) -> None:
        for event in ready.events:
            self.log(node.id, f"{event.kind} {event.detail}")
        for message in ready.messages:
            self._send(node, message)
        if ready.ticket:
            self._write(node, ready)
        if ready.restore is not None:
            node.state = int(ready.restore.data)
            self.restored += 1
            node.checks.restored(node.id, ready.restore.index, node.state)
        if ready.committed:
            self._apply(node, ready.committed)
        for read in ready.reads:
            floor = node.reads.pop(read.request_id)
            if read.index is not None:
                node.answered_reads.append((read.index, floor))
        self._serve_reads(node)

    # --- disk -------------------------------------------------------------------------------------

    def _write(self, node: Node, ready: Ready) -> None:
        history: tuple[Entry, ...] = ()
        if ready.snapshot is not None:
            history = tuple(node.checks.committed[: ready.snapshot.index])
            node.log = list(history)
        if ready.entries:
            first = ready.entries[0].index
            del node.log[first - 1 :]
            previous = node.log[-1].term if node.log else 0
            node.checks.appended(node.id, ready.entries, previous)
            node.log.extend(ready.entries)
        node.disk.submit(Write(ready.ticket, ready.hard_state, ready.entries, ready.snapshot), history)
        self._start_write(node)

    def _start_write(self, node: Node) -> None:
        if node.disk.busy or not node.disk.queue:
            return
        node.disk.busy = len(node.disk.queue) if self.group_commit else 1
        duration = self.rng.uniform(self.weather.write_min, self.weather.write_max)
        if self.rng.random() < self.weather.slow_write:
            duration *= self.rng.uniform(1, 50)
        self.after(duration, self._written, node.id, node.boot)

    def _written(self, name: str, boot: int) -> None:
        node = self.nodes[name]
        if node.raft is None or node.boot != boot:
            return
        if node.disk.full:
            self.log(name, "finds the disk full, and ends")
            self.crash(name)
            return
        ticket = node.disk.written()
        self._start_write(node)
        self._input(name, boot, lambda raft, now: raft.persisted(ticket, now))

    def compact(self, name: str) -> None:
        """Replace what is applied by a snapshot of the state; the small file is written at once."""
        node = self.nodes[name]
        if node.raft is None or any(write.snapshot for write, _ in node.disk.queue) or not node.raft.applied_index:
            return
        snapshot = node.raft.snapshot(str(node.state).encode())
        node.checks.restored(name, snapshot.index, node.state)
        if node.disk.snapshot is None or node.disk.snapshot.index < snapshot.index:
            self.log(name, f"compacts up to {snapshot.index}")
            node.disk.compact(snapshot)
            node.raft.compacted(snapshot, node.clock(self.now))

    # --- forced membership --------------------------------------------------------------------------

    def members(self, incarnation: int) -> list[Node]:
        return [node for node in self.nodes.values() if node.incarnation == incarnation]

    def force_membership(self, survivors: list[str]) -> None:
        """A person stops `survivors`, makes the one with the longest log the only voter, and the others join it as
        newcomers. Nobody else is asked: they may live on, until somebody tells them."""
        for name in survivors:
            if self.nodes[name].raft is not None:
                self.crash(name)
        chosen = max(survivors, key=lambda name: self.nodes[name].disk.position())
        learners = [name for name in survivors if name != chosen]
        self.log(chosen, f"is made the only voter, with {learners} as newcomers")
        node = self.nodes[chosen]
        recovered = Recovered(node.disk.hard_state, node.disk.snapshot, tuple(node.disk.entries()))
        hard_state, entries = sole_voter(recovered, node_id=chosen, learners=learners)
        node.disk.submit(Write(0, hard_state, entries))
        node.disk.write_one()
        self.incarnation += 1
        self.checks = Checks.of_sole_voter(chosen, node.disk.log, hard_state.term)
        for name in learners:
            self.nodes[name].disk = type(node.disk)()
        for name in survivors:
            self.nodes[name].incarnation = self.incarnation
            self.nodes[name].checks = self.checks
            self.start(name)

    # --- network ----------------------------------------------------------------------------------

    def _send(self, node: Node, message: AnyMessage) -> None:
        node.checks.sent(message, node.disk.hard_state, node.disk.log)
        if self.rng.random() < self.weather.loss:
            return
        copies = 2 if self.rng.random() < self.weather.duplicates else 1
        for _ in range(copies):
            self._transmit(message)

    def _transmit(self, message: AnyMessage) -> None:
        link = (message.sender, message.to)
        arrival = self.now + self.rng.uniform(self.weather.delay_min, self.weather.delay_max)
        if self.weather.in_order:
            arrival = max(arrival, self._link_free.get(link, 0.0))
            self._link_free[link] = arrival
        self.after(arrival - self.now, self._deliver, message, self.nodes[message.sender].incarnation)

    def _deliver(self, message: AnyMessage, incarnation: int) -> None:
        if (message.sender, message.to) in self.cut:
            return
        if self.nodes[message.to].incarnation != incarnation:
            self._refuse(message.sender, by=message.to)
            return
        self._input(message.to, self.nodes[message.to].boot, lambda raft, now: raft.step(message, now))

    def _refuse(self, name: str, by: str) -> None:
        """Who is refused by a later incarnation takes no part any more; the refusal itself may be lost."""
        node = self.nodes[name]
        if node.incarnation < self.nodes[by].incarnation and (by, name) not in self.cut:
            self.log(name, f"learns from {by} that it was left out")
            if node.raft is not None:
                self.crash(name)
            node.superseded = True

    def break_connection(self, one: str, other: str) -> None:
        """Both ends notice, each in its own time; what is on its way arrives first, as with TCP."""
        for end, peer in ((one, other), (other, one)):
            free = max(self._link_free.get((peer, end), 0.0), self.now)
            delay = free - self.now + self.rng.uniform(self.weather.delay_min, self.weather.delay_max)
            self.after(delay, self._lose_peer, end, self.nodes[end].boot, peer)

    def _lose_peer(self, name: str, boot: int, peer: str) -> None:
        self._input(name, boot, lambda raft, now: raft.peer_lost(peer, now))

    # --- state machine and clients ----------------------------------------------------------------

    def _apply(self, node: Node, entries: tuple[Entry, ...]) -> None:
        assert node.raft is not None
        disks = {other.id: other.disk.log for other in self.members(node.incarnation)}
        left = [other.id for other in self.nodes.values() if other.incarnation > node.incarnation]
        node.checks.applied(node.id, node.raft.term, entries, disks, lambda: self._configurations(node), left)
        for entry in entries:
            node.state = digest(node.state, entry)
            pending = node.writes.pop(entry.index, None)
            if pending is not None and pending.term == entry.term:
                node.checks.write_acknowledged(entry, pending.floor)
                self.acknowledged += 1

    def _configurations(self, node: Node) -> set[tuple[str, ...]]:
        """The voters in force somewhere, and those of the two newest configurations in the node's log."""
        in_force = {
            other.raft.voters
            for other in self.members(node.incarnation)
            if other.raft is not None and other.raft.voters
        }
        in_log = [Membership.decode(e.data).voters for e in node.log if e.kind is EntryKind.CONFIG]
        return in_force.union([node.checks.voters, *in_log][-2:])

    def _serve_reads(self, node: Node) -> None:
        assert node.raft is not None
        applied = node.raft.applied_index
        for index, floor in [read for read in node.answered_reads if read[0] <= applied]:
            node.answered_reads.remove((index, floor))
            node.checks.read_answered(index, applied, floor)
            self.reads_answered += 1

    def applied_index(self, name: str) -> int:
        raft = self.nodes[name].raft
        return raft.applied_index if raft is not None else 0

    def leaders(self) -> list[Node]:
        """Every process that believes to lead, stale ones too: clients ask them all."""
        return [
            node
            for node in self.nodes.values()
            if node.raft is not None and not node.paused and node.raft.role is Role.LEADER
        ]

    def propose(self, node: Node) -> int | None:
        """A client writes through `node`; the index, or None when it does not take writes now."""
        raft = node.raft
        assert raft is not None
        self._request += 1
        try:
            index = raft.propose(f"w{self._request}".encode(), node.clock(self.now))
        except NotLeader:
            return None
        node.writes[index] = PendingWrite(raft.term, node.checks.floor)
        self._pump(node)
        return index

    def read(self, node: Node) -> None:
        raft = node.raft
        assert raft is not None
        self._request += 1
        node.reads[self._request] = node.checks.floor
        raft.read_index(self._request, node.clock(self.now))
        self._pump(node)

    def transfer(self, node: Node, to: str) -> None:
        raft = node.raft
        assert raft is not None
        raft.transfer(to, node.clock(self.now))
        self._pump(node)

    def change_membership(self, node: Node, voters: list[str], learners: list[str]) -> None:
        raft = node.raft
        assert raft is not None
        try:
            raft.change_membership(voters, learners, node.clock(self.now))
        except ChangeRefused as refused:
            self.log(node.id, str(refused))
        else:
            self.changes += 1
        self._pump(node)

    def final_check(self, healthy: list[str], upto: int) -> None:
        """The healthy nodes hold the whole history, up to `upto`: nothing acknowledged before is lost."""
        for name in healthy:
            held = self.nodes[name].log[:upto]
            require(held == self.checks.committed[:upto], f"{name} lacks committed entries")
