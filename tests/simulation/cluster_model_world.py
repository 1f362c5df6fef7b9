"""The simulated cluster: members, the ordered log, the network, clients, faults, and the checkers of the safety rules.

One seed is one run: a time of faults, then a time of healing in which the cluster must come back by itself. The log
stands for Raft: entries are totally ordered and never lost once committed; who applies them when is up to chance.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

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
from tests.simulation.cluster_model_faults import Config, Faults
from tests.simulation.cluster_model_mysqld import Dump, Mysqld, Transaction, Violation

TICK = 0.25  # seconds of virtual time
HEAL_TICKS_MAX = 600


Script = Callable[["World"], Iterator[None]]  # sets faults; a tick passes at each yield


class Rules:
    """The production decisions as the model calls them. A mutation overrides one of these."""

    ends_stray_statements = True
    open_is_verified = True
    rebuild_renews_uuid = True
    locks_accounts = True

    def apply(self, state: ClusterState, command: c.AnyCommand, index: int) -> ClusterState:
        return apply(state, command, index)[0]

    def decide(self, state: ClusterState, view: ClusterView) -> Verdict:
        return decide(state, view)

    def decide_local(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
        return decide_local(state, me, seen, context)

    def promised_epoch(self, state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> int:
        return promised_epoch(state, me, seen, context)


class World:
    """`rules` breaks a rule on purpose; `focus` replaces what the seed drew of `Config`."""

    def __init__(self, seed: int, *, rules: Rules | None = None, focus: Mapping[str, Any] | None = None) -> None:
        self.rng = random.Random(seed)
        self.config = dataclasses.replace(Config.drawn(self.rng), **(focus or {}))
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
        self.apply_rate = dict.fromkeys(names, 1.0)
        self.receive_rate = dict.fromkeys(names, self.config.receive_rate)
        self.leader = ""
        self._leaderless_until = 0.0
        self._messages: list[tuple[float, str, str, MemberReport]] = []
        self._acks: list[tuple[float, Dump, str, int]] = []
        self._pending: list[tuple[float, c.AnyCommand]] = []
        self.cloning: dict[str, tuple[float, str]] = {}
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
                settings=Settings(
                    durability="async" if self.config.acks == 0 else str(self.config.acks),
                    durability_policy="available" if self.config.available else "strict",
                ),
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
        if self.leader and self._has_quorum(self.leader) and self.rng.random() > 0.01:
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
        if command is None and not self.healing and self.rng.random() < self.config.request_rate:
            command = self._request(controller)
        if command is not None:
            delay = self.rng.choice((0.0, 0.0, self.config.proposal_delay_max))
            self._pending.append((self.now + delay, command))

    def propose(self, command: c.AnyCommand) -> None:
        self._pending.append((self.now, command))

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
        self._deliver_acks()
        pending, self._pending = self._pending, []
        for when, command in pending:
            if when > self.now:
                self._pending.append((when, command))
            elif self.leader and self.rng.random() < 0.95:
                self.commit(command)

    def connected(self, a: str, b: str) -> bool:
        """Whether the controllers' connection stands: also to one that is paused."""
        return self.controllers[b].alive and self.reachable(a, b)

    def _deliver_acks(self) -> None:
        """An acknowledgement whose connection is gone meanwhile was read before, or is lost."""
        acks, self._acks = self._acks, []
        for at, dump, member, position in acks:
            source = dump.source
            gone = self.mysqlds[member].dump is not dump
            if source.starts != dump.source_starts or not source.alive or (gone and self.rng.random() < 0.5):
                continue
            if at > self.now or source.frozen or not self.reachable(source.name, member):
                self._acks.append((at, dump, member, position))
            else:
                source.acknowledge(member, position)

    # --- effects --------------------------------------------------------------------------------------

    def ask_primary(self, me: str, primary: str) -> GTIDSet | None:
        mysqld = self.mysqlds[primary]
        if not mysqld.answers or not self.reachable(me, primary):
            return None
        seen = self.observe(mysqld)
        return seen.gtid_owned | seen.gtid_executed

    def observe(self, mysqld: Mysqld) -> MySQLObservation:
        dumps = [m.dump for m in self.mysqlds.values() if m.dump is not None]
        mine = [d for d in dumps if d.source is mysqld and d.source_starts == mysqld.starts and d.acknowledging]
        donates = any(donor == mysqld.name for _, donor in self.cloning.values())
        return mysqld.observe(clients=len(mine), donates=donates)

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
                self.lock_accounts(mysqld, members)
            case local.Open(acks):
                if mysqld.wait_for == acks or not self.rules.open_is_verified:
                    mysqld.open()
                    self._writable(mysqld, epoch)
            case local.Nudge():
                mysqld.nudge(next(self._content))
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
                self.cloning[mysqld.name] = (self.now + self.rng.choice((0.5, 3.0)), donor)
            case local.WaitApplied() | local.AskPrimary() | local.ProveQuiet():
                pass
            case _:
                raise AssertionError(action)

    def lock_accounts(self, mysqld: Mysqld, members: tuple[str, ...]) -> None:
        if self.rules.locks_accounts:
            mysqld.lock_accounts(members)

    def _finish_clones(self) -> None:
        for name, (at, donor) in list(self.cloning.items()):
            if at > self.now:
                continue
            source = self.mysqlds[donor]
            works = source.answers and self.reachable(name, donor)
            if works and source.waiting:
                continue  # InnoDB waits for prepared transactions to end
            del self.cloning[name]
            if works:
                self.cloned(name, source)
            self.mysqlds[name].start()

    def cloned(self, name: str, donor: Mysqld) -> None:
        self.mysqlds[name].cloned_from(donor)

    def _work_of_mysqld(self, mysqld: Mysqld) -> None:
        if not mysqld.answers:
            return
        if self.rng.random() < self.receive_rate[mysqld.name]:
            before = len(mysqld.relay)
            source = mysqld.channel
            dump = mysqld.receive(self.reachable, self.rng.randint(1, 4))
            if source is not None and len(mysqld.relay) > before:
                self._check_promise(mysqld, source)
            if dump is not None:
                delay = self.rng.choice((0.25, 2.0)) if self.rng.random() < self.config.ack_delay_rate else 0.0
                self._acks.append((self.now + delay, dump, mysqld.name, dump.position))
        for _ in range(3):
            if self.rng.random() < self.apply_rate[mysqld.name]:
                mysqld.apply()
        mysqld.settle()

    def _work_of_clients(self, mysqld: Mysqld) -> None:
        if self.writes and mysqld.writable and mysqld.running < 3 and self.rng.random() < 0.5:
            mysqld.begin()
        if mysqld.running and (self.healing or self.rng.random() < self.config.statement_rate):
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
                work += [lambda x=controller: self._work_of_controller(x)] * self.rng.randint(
                    1, self.config.controller_steps
                )
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
        if not self.stray or self.rng.random() > 0.1:
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
        promised = state.phase is Phase.FAILOVER and self._promised.get(mysqld.name) == state.epoch
        if promised and source.name == state.previous_primary:
            raise Violation("promise", f"{mysqld.name} reported fenced for {state.epoch} and receives")

    def _check_quiet(self, mysqld: Mysqld, transaction: Transaction) -> None:
        state = self.state
        relieved = state.previous_primary == mysqld.name and not state.primary
        if relieved and self._promised.get(mysqld.name) == state.epoch:
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

    def run(self, script: Script | None = None) -> None:
        """Faults drawn by chance or set by a script, then healing; raises Violation."""
        faults = Faults(self)
        steps = script(self) if script else itertools.repeat(None, self.config.ticks)
        for _ in steps:
            if script is None:
                faults.tick()
            self.tick()
            if self.now > 1000:
                raise AssertionError("the script never ends")
        faults.heal()
        self.healing = True
        writing_until = self.now + 5
        for _ in range(HEAL_TICKS_MAX):
            self.tick()
            faults.keep_alive()
            if self.writes and self.now > writing_until:
                self.writes = False
                faults.break_connections()  # no later write makes up for the acknowledgements that this loses
            if not self.writes and self.unhealed() == "":
                break
        else:
            raise Violation("liveness", self.unhealed())
        self._check_same_data()

    def unhealed(self) -> str:
        """What is not as it should be; "" when all is well."""
        state = self.state
        acks = (state.required_acks, state.source_acks)
        whole = len(state.sync_set) == len(self.mysqlds) and acks == (self.config.acks, self.config.acks)
        if state.phase is not Phase.STEADY or state.locked or not whole:
            return f"{state.phase} e{state.epoch} S={state.sync_set} k={acks} locked={state.locked}"
        primary = self.mysqlds[state.primary]
        if [m for m in self.mysqlds.values() if m.writable] != [primary]:
            return f"writable: {[m.name for m in self.mysqlds.values() if m.writable]}, primary: {primary.name}"
        for m in self.mysqlds.values():
            replicates = m.dump is not None and m.channel is primary and m.acknowledging == bool(self.config.acks)
            if m is not primary and not replicates:
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


def _brief(command: c.AnyCommand) -> str:
    fields = ("member", "target", "cause", "proof", "reporters", "certificate")
    values = {field: getattr(command, field, "") for field in fields}
    return " ".join([str(type(command).__struct_config__.tag), *(f"{f}={v}" for f, v in values.items() if v)])
