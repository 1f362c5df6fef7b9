"""The simulated cluster: members, the ordered log, the network, clients, faults, and the checkers of the safety rules.

One seed is one run: a time of faults, then a time of healing in which the cluster must come back by itself. The log
stands for Raft: entries are totally ordered and never lost once committed; who applies them when is up to chance.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable

from raftctl.cluster import commands as c
from raftctl.cluster.apply import apply
from raftctl.cluster.facts import MemberReport
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import ClusterState, Engine, Member, MemberRole, Phase, Settings
from raftctl.planner import local
from raftctl.planner.leader import Verdict, decide
from raftctl.planner.local import Action, LocalContext, LocalPlan, decide_local, promised_epoch
from raftctl.planner.switchover import request_failover, request_switchover
from raftctl.planner.view import ClusterView
from tests.simulation.cluster_model_controller import Controller
from tests.simulation.cluster_model_mysqld import Mysqld, Transaction, Violation

TICK = 0.25  # seconds of virtual time
HEAL_TICKS_MAX = 600


class Rules:
    """The production decisions as the model calls them. A mutation overrides one of these."""

    ends_stray_statements = True
    plan_ends_with_mysqld = True
    rebuild_renews_uuid = True
    asks_for_owned = True

    def apply(self, state: ClusterState, command: c.AnyCommand, index: int) -> ClusterState:
        return apply(state, command, index)[0]

    def decide(self, state: ClusterState, view: ClusterView) -> Verdict:
        return decide(state, view)

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        return decide_local(state, me, seen, context)

    def promised_epoch(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> int:
        return promised_epoch(state, me, seen, context)


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """`ticks` of faults at `fault_rate` (probability a tick), `acks` is k."""

    members: int = 3
    acks: int = 1
    ticks: int = 120
    fault_rate: float = 0.15
    stray_probability: float = 0.01

    @classmethod
    def drawn(cls, rng: random.Random) -> Config:
        members, acks = rng.choice(((3, 1), (3, 1), (3, 1), (5, 2), (5, 2), (4, 2), (2, 1), (3, 2), (5, 1), (3, 0)))
        return cls(members=members, acks=acks, fault_rate=rng.choice((0.05, 0.15, 0.3)))


class World:
    def __init__(self, seed: int, *, rules: Rules | None = None, config: Config | None = None) -> None:
        self.rng = random.Random(seed)
        self.config = config or Config.drawn(self.rng)
        self.rules = rules or Rules()
        self.now = 0.0
        self.lines: list[str] | None = None
        self.log: list[c.AnyCommand] = []
        self._states = [ClusterState()]
        names = [f"db{i + 1}" for i in range(self.config.members)]
        self.mysqlds = {n: Mysqld(n, f"{n}:3306", self._acknowledged) for n in names}
        self.controllers: dict[str, Controller] = {}
        self.controllers = {n: Controller(n, self, self.rng) for n in names}
        self.cut: set[frozenset[str]] = set()
        self.slow: dict[str, float] = dict.fromkeys(names, 1.0)
        self.leader = ""
        self._leaderless_until = 0.0
        self._messages: list[tuple[float, str, str, MemberReport]] = []
        self._acks: list[tuple[float, Mysqld, int, str, int]] = []
        self._pending: list[tuple[float, c.AnyCommand]] = []
        self._cloning: dict[str, tuple[float, str]] = {}
        self.stray: list[tuple[str, int, Action, int]] = []
        self._content = itertools.count(1)
        self.acknowledged: list[Transaction] = []
        self._unfloored: list[Transaction] = []
        self._newest_open = 0
        self._opened: dict[str, int] = {}
        self._promised: dict[str, int] = {}
        self.writes = True
        self.healing = False
        self._initialize(names)

    def _initialize(self, names: list[str]) -> None:
        members = tuple(
            Member(name=n, role=MemberRole.DATA, raft=f"{n}:1", api=f"{n}:2", mysql=f"{n}:3306") for n in names
        )
        self.commit(
            c.InitCluster(
                cluster="model",
                engine=Engine.SEMI_SYNC,
                members=members,
                settings=Settings(durability="async" if self.config.acks == 0 else str(self.config.acks)),
                primary=names[0],
                floor=GTIDSet(),
                sync_set=tuple(names),
                required_acks=self.config.acks,
            )
        )

    # --- the log --------------------------------------------------------------------------------------

    @property
    def state(self) -> ClusterState:
        """The committed state, which nobody need have applied yet."""
        return self._states[-1]

    def state_at(self, index: int) -> ClusterState:
        return self._states[index]

    def commit(self, command: c.AnyCommand) -> None:
        before = self.state
        self.log.append(command)
        state = self.rules.apply(before, command, len(self.log))
        self._states.append(state)
        self.trace(
            lambda: (
                f"log {len(self.log)}: {_brief(command)}"
                + (" REJECTED" if state is before else f" -> {state.phase} e{state.epoch} {state.primary or '-'}")
                + f" S={','.join(state.sync_set)} locked={','.join(state.locked)}"
            )
        )
        self.check_acknowledged_held()

    def read_index(self, member: str) -> int | None:
        """What a leader with a majority names as committed to a member that it reaches."""
        if self.leader and self.reachable(member, self.leader) and self._has_quorum(self.leader):
            return len(self.log)
        return None

    def _has_quorum(self, name: str) -> bool:
        there = sum(
            1 for n, other in self.controllers.items() if n == name or (other.running and self.reachable(name, n))
        )
        return self.controllers[name].running and there > len(self.controllers) // 2

    def _elect(self) -> None:
        if self.leader and self._has_quorum(self.leader):
            if self.rng.random() > 0.01:
                return
        if self.leader:
            self.leader, self._leaderless_until = "", self.now + self.rng.choice((0.0, 0.5, 1.0))
        if self.now < self._leaderless_until:
            return
        able = [n for n in self.controllers if self._has_quorum(n)]
        if able:
            self.leader = self.rng.choice(able)
            controller = self.controllers[self.leader]
            controller.advance(len(self.log))  # its first entry of the term commits all before it
            controller.listening_since = self.now
            self.trace(lambda: f"{self.leader} leads")

    def _lead(self) -> None:
        if not self.leader:
            return
        controller = self.controllers[self.leader]
        if not controller.running:
            return
        controller.advance(len(self.log))
        primary = self.controllers.get(controller.state.primary)
        if primary and primary.running and self.reachable(self.leader, primary.name) and self._has_quorum(self.leader):
            primary.lease_until = self.now + controller.state.settings.lease_ttl
        if len(self._pending) > 2:
            return
        command = self.rules.decide(controller.state, controller.view()).command
        if command is None and not self.healing and self.rng.random() < 0.02:
            command = self._request(controller)
        if command is not None:
            self._pending.append((self.now + self.rng.choice((0.0, 0.0, 0.0, 0.25, 1.0, 5.0)), command))

    def _request(self, controller: Controller) -> c.AnyCommand | None:
        target = self.rng.choice(("", *self.mysqlds))
        ask = request_switchover if self.rng.random() < 0.8 else request_failover
        answer = ask(controller.state, controller.view(), target=target, by="somebody")
        return None if isinstance(answer, list) else answer

    # --- the network ----------------------------------------------------------------------------------

    def reachable(self, a: str, b: str) -> bool:
        return a == b or frozenset((a, b)) not in self.cut

    def broadcast(self, report: MemberReport) -> None:
        if report.fenced_epoch:
            self._promised[report.member] = report.fenced_epoch
        for name in self.controllers:
            if self.rng.random() < 0.05 and not self.healing:
                continue
            delay = 0.0 if self.rng.random() < 0.9 else self.rng.choice((0.25, 1.0, 4.0))
            for _ in range(2 if self.rng.random() < 0.02 else 1):
                self._messages.append((self.now + delay, report.member, name, report))

    def _deliver(self) -> None:
        messages, self._messages = self._messages, []
        for at, sender, to, report in messages:
            if at > self.now:
                self._messages.append((at, sender, to, report))
            elif self.reachable(sender, to) and self.controllers[to].running:
                self.controllers[to].hear(report)
        acks, self._acks = self._acks, []
        for at, source, starts, member, position in acks:
            if source.starts != starts or not source.alive:
                continue
            if at > self.now or source.frozen or not self.reachable(source.name, member):
                self._acks.append((at, source, starts, member, position))
            else:
                source.acknowledge(member, position)
        pending, self._pending = self._pending, []
        for when, command in pending:
            if when > self.now:
                self._pending.append((when, command))
            elif self.leader and self.rng.random() < 0.95:
                self.commit(command)

    # --- effects --------------------------------------------------------------------------------------

    def ask_primary(self, me: str, primary: str) -> GTIDSet | None:
        mysqld = self.mysqlds[primary]
        if not mysqld.answers or not self.reachable(me, primary):
            return None
        seen = mysqld.observe()
        return seen.gtid_executed | seen.gtid_owned if self.rules.asks_for_owned else seen.gtid_executed

    def carry_out(self, mysqld: Mysqld, action: Action, epoch: int) -> None:
        """The action's effect on mysqld."""
        match action:
            case local.StopReceiver():
                mysqld.stop_receiver()
            case local.StartReceiver():
                mysqld.start_receiver()
            case local.StartApplier():
                mysqld.applier_running = mysqld.channel is not None
            case local.ForgetSource():
                mysqld.forget_source()
            case local.PointTo(primary):
                mysqld.point_to(self.mysqlds[primary])
            case local.SetAcknowledging(on):
                mysqld.set_acknowledging(on)
            case local.BecomeSource(acks):
                mysqld.become_source(acks)
            case local.SourceOff():
                mysqld.become_source(0)
            case local.LockAccounts(members):
                mysqld.lock_accounts(members)
            case local.Open():
                mysqld.open()
                self._writable(mysqld, epoch)
            case local.GoOnline():
                mysqld.offline = False
            case local.StopWriting():
                if mysqld.closing and self.rng.random() < 0.3:
                    mysqld.stop_writing_timed_out()
                else:
                    mysqld.stop_writing()
            case local.Fence():
                mysqld.fence()
            case local.Rebuild(donor):
                mysqld.wipe(renew_uuid=self.rules.rebuild_renews_uuid)
                self._cloning[mysqld.name] = (self.now + self.rng.choice((0.5, 3.0)), donor)
            case local.WaitApplied() | local.AskPrimary() | local.ProveQuiet():
                pass
            case _:
                raise AssertionError(action)

    def _finish_clones(self) -> None:
        for name, (at, donor) in list(self._cloning.items()):
            if at > self.now:
                continue
            del self._cloning[name]
            if self.mysqlds[donor].answers and self.reachable(name, donor):
                self.mysqlds[name].cloned_from(self.mysqlds[donor])
            self.mysqlds[name].start()

    def _work_of_mysqld(self, mysqld: Mysqld) -> None:
        if not mysqld.answers:
            return
        if self.rng.random() < 0.8:
            before = len(mysqld.relay)
            source = mysqld.channel
            dump = mysqld.receive(self.reachable, self.rng.randint(1, 4))
            if source is not None and len(mysqld.relay) > before:
                self._check_promise(mysqld, source)
            if dump is not None:
                delay = 0.0 if self.rng.random() < 0.8 else self.rng.choice((0.25, 2.0))
                self._acks.append((self.now + delay, dump.source, dump.source_starts, mysqld.name, dump.position))
        for _ in range(3):
            if self.rng.random() < self.slow[mysqld.name]:
                mysqld.apply()
        mysqld.settle()

    def _work_of_clients(self, mysqld: Mysqld) -> None:
        if self.writes and mysqld.writable and mysqld.running < 3 and self.rng.random() < 0.5:
            mysqld.begin()
        if mysqld.running and self.rng.random() < 0.5:
            transaction = mysqld.progress(next(self._content))
            if transaction:
                self.trace(lambda: f"{mysqld.name} logs {transaction.uuid[:8]}:{transaction.number}")
                self._check_quiet(mysqld, transaction)

    # --- time -----------------------------------------------------------------------------------------

    def tick(self) -> None:
        self.now += TICK
        work: list[Callable[[], None]] = [self._deliver, self._lead, self._finish_clones, self._do_stray]
        for mysqld in self.mysqlds.values():
            work.append(lambda m=mysqld: self._work_of_mysqld(m))
            work.append(lambda m=mysqld: self._work_of_clients(m))
        for controller in self.controllers.values():
            if controller.running:
                work += [lambda x=controller: self._work_of_controller(x)] * self.rng.randint(1, 4)
            else:
                work.append(lambda x=controller: self._guard(x))
        self.rng.shuffle(work)
        self._elect()
        for do in work:
            do()
        self.check_acknowledged_held()

    def _work_of_controller(self, controller: Controller) -> None:
        if controller.running:
            if self.rng.random() < 0.5:
                controller.advance(self.rng.choice((1, 1, 2, 10)))
            controller.step()

    def _guard(self, controller: Controller) -> None:
        """The guard fences when the controller does not renew the lease, sooner or later."""
        if controller.mysqld.writable and self.now > controller.lease_until and self.rng.random() < 0.1:
            controller.mysqld.fence()

    def _do_stray(self) -> None:
        """A statement whose session was given up takes effect after all."""
        if not self.stray or self.rng.random() > 0.3:
            return
        name, starts, action, epoch = self.stray.pop(self.rng.randrange(len(self.stray)))
        mysqld = self.mysqlds[name]
        if mysqld.answers and mysqld.starts == starts and not isinstance(action, local.Rebuild):
            self.trace(lambda: f"{name} did {action} late")
            self.carry_out(mysqld, action, epoch)

    def trace(self, text: Callable[[], str]) -> None:
        if self.lines is not None:
            self.lines.append(f"{self.now:7.2f} {text()}")

    # --- checkers -------------------------------------------------------------------------------------

    def _acknowledged(self, mysqld: Mysqld, transaction: Transaction) -> None:
        self.trace(lambda: f"{mysqld.name} acknowledges {transaction.uuid[:8]}:{transaction.number}")
        self.acknowledged.append(transaction)
        self._unfloored.append(transaction)
        outdated = self._opened.get(mysqld.name, 0) < self._newest_open
        # The last acknowledgements may have been on their way: what the newer primary started with is not lost.
        if self.config.acks and outdated and not self.state.floor.has(*transaction.gtid):
            raise Violation("old-primary", f"{mysqld.name} acknowledged {transaction} after a newer primary opened")

    def _writable(self, mysqld: Mysqld, epoch: int) -> None:
        """Checked when a server becomes writable as primary of `epoch`."""
        self._opened[mysqld.name] = epoch
        if epoch < self._newest_open:
            return  # an old primary: harmless as long as nothing is acknowledged there
        self._newest_open = epoch
        if not self.config.acks:
            return
        for transaction in self.acknowledged:
            if mysqld.executed.get(transaction.gtid) != transaction.content:
                raise Violation("lost-write", f"{mysqld.name} opens in epoch {epoch} without {transaction}")

    def _check_promise(self, mysqld: Mysqld, source: Mysqld) -> None:
        state = self.state
        if state.phase is Phase.FAILOVER and self._promised.get(mysqld.name) == state.epoch:
            if source.name == state.previous_primary:
                raise Violation("promise", f"{mysqld.name} reported fenced for {state.epoch} and receives")

    def _check_quiet(self, mysqld: Mysqld, transaction: Transaction) -> None:
        state = self.state
        if state.previous_primary == mysqld.name and not state.primary:
            if self._promised.get(mysqld.name) == state.epoch:
                raise Violation("promise", f"{mysqld.name} reported quiet for {state.epoch} and logs {transaction}")

    def check_acknowledged_held(self) -> None:
        """Rule R6: in the floor, or on at least k members of S besides the primary."""
        state = self.state
        if not self.config.acks:
            return
        self._unfloored = [t for t in self._unfloored if not state.floor.has(*t.gtid)]
        replicas = [self.mysqlds[m] for m in state.sync_set if m != (state.primary or state.previous_primary)]
        for transaction in self._unfloored:
            holders = sum(1 for m in replicas if m.has(transaction))
            if holders < state.required_acks:
                raise Violation("ack-set", f"{transaction} is on {holders} of {[m.name for m in replicas]}")

    # --- a run ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Faults, then healing; raises Violation."""
        faults = Faults(self)
        for _ in range(self.config.ticks):
            faults.tick()
            self.tick()
        faults.heal()
        self.healing = True
        writing_until = self.now + 5
        for _ in range(HEAL_TICKS_MAX):
            self.tick()
            self.writes = self.now < writing_until or bool(self.unhealed() and self.rng.random() < 0.1)
            faults.keep_alive()
            if self.now > writing_until and self.unhealed() == "":
                break
        else:
            raise Violation("liveness", self.unhealed())
        self._check_same_data()

    def unhealed(self) -> str:
        """What is not as it should be; "" when all is well."""
        state = self.state
        if state.phase is not Phase.STEADY or state.locked or len(state.sync_set) != len(self.mysqlds):
            return f"{state.phase} e{state.epoch} S={state.sync_set} locked={state.locked}"
        primary = self.mysqlds[state.primary]
        if [m for m in self.mysqlds.values() if m.writable] != [primary]:
            return f"writable: {[m.name for m in self.mysqlds.values() if m.writable]}, primary: {primary.name}"
        for m in self.mysqlds.values():
            if m is not primary and not (m.dump and m.channel is primary and m.acknowledging):
                return f"{m.name} does not replicate from {primary.name}"
            if m.executed_set != primary.executed_set or m.waiting or m.running:
                return f"{m.name} differs from {primary.name}"
        return ""

    def _check_same_data(self) -> None:
        primary = self.mysqlds[self.state.primary]
        for mysqld in self.mysqlds.values():
            if mysqld.executed != primary.executed:
                raise Violation("divergence", f"{mysqld.name} has other data than {primary.name} under the same GTIDs")
        for transaction in self.acknowledged if self.config.acks else ():
            if primary.executed.get(transaction.gtid) != transaction.content:
                raise Violation("lost-write", f"{transaction} is missing in the end")


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
        if self._rng.random() < world.config.fault_rate:
            fault = self._rng.choice(
                (self._kill_mysqld,) * 3
                + (self._kill_controller,) * 2
                + (self._pause_controller,) * 2
                + (self._freeze_host, self._partition, self._partition, self._slow, self._stop_receiver)
                + (self._kill_host, self._kill_everything, self._kill_primary, self._kill_primary)
            )
            fault()

    def _later(self, undo: Callable[[], None]) -> None:
        self._back.append((self._world.now + self._rng.choice((0.0, 0.5, 1.0, 3.0, 8.0, 20.0)), undo))

    def _name(self) -> str:
        return self._rng.choice(list(self._world.mysqlds))

    def _kill_mysqld(self, name: str = "") -> None:
        name = name or self._name()
        if name in self._world._cloning:
            return
        mysqld = self._world.mysqlds[name]
        self._world.trace(lambda: f"FAULT kill mysqld {name}")
        mysqld.kill()
        self._later(lambda: self._restart(name))

    def _restart(self, name: str) -> None:
        if name not in self._world._cloning:
            self._world.mysqlds[name].start()

    def _kill_primary(self) -> None:
        if self._world.state.primary:
            self._kill_mysqld(self._world.state.primary)

    def _kill_controller(self, name: str = "") -> None:
        controller = self._world.controllers[name or self._name()]
        self._world.trace(lambda: f"FAULT kill controller {controller.name}")
        controller.kill()
        self._later(controller.start)

    def _kill_host(self) -> None:
        name = self._name()
        self._kill_mysqld(name)
        self._kill_controller(name)

    def _kill_everything(self) -> None:
        for name in self._world.mysqlds:
            self._kill_mysqld(name)
            self._kill_controller(name)

    def _pause_controller(self) -> None:
        controller = self._world.controllers[self._name()]
        controller.paused_until = self._world.now + self._rng.choice((0.5, 3.0, 10.0))
        self._world.trace(lambda: f"FAULT pause controller {controller.name} until {controller.paused_until:.2f}")

    def _freeze_host(self) -> None:
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

    def _partition(self) -> None:
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

    def _slow(self) -> None:
        name = self._name()
        self._world.slow[name] = self._rng.choice((0.0, 0.1))
        self._later(lambda: self._world.slow.__setitem__(name, 1.0))

    def _stop_receiver(self) -> None:
        mysqld = self._world.mysqlds[self._name()]
        mysqld.stop_receiver()

    def heal(self) -> None:
        world = self._world
        world.trace(lambda: "HEAL")
        for _, undo in self._back:
            undo()
        self._back = []
        world.cut.clear()
        world.slow = dict.fromkeys(world.mysqlds, 1.0)
        for controller in world.controllers.values():
            controller.paused_until = 0.0
            controller.start()
        self.keep_alive()

    def keep_alive(self) -> None:
        """systemd restarts what ended, and nothing stays frozen."""
        for name, mysqld in self._world.mysqlds.items():
            mysqld.frozen = False
            self._restart(name)


def _brief(command: c.AnyCommand) -> str:
    words = [str(type(command).__struct_config__.tag)]
    for field in ("member", "target", "cause", "proof", "reporters", "certificate"):
        if value := getattr(command, field, ""):
            words.append(f"{field}={value}")
    return " ".join(words)
