"""A controller around the production decisions: it applies the log at its own pace, observes, decides, acts.

Between any two of its steps anything may happen: other members act, entries are applied, it is paused or killed. What
the controller owes the decision core is here: an opening action belongs to the state it was decided on, what was
proven or asked is forgotten when mysqld starts anew, and the statements of abandoned sessions are ended before a new
look is taken.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from raftctl.cluster.facts import MemberReport, MySQLFacts, MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import ClusterState
from raftctl.planner import local
from raftctl.planner.local import Action, LocalContext, LocalPlan
from raftctl.planner.sync_set import receives
from raftctl.planner.view import ClusterView, Seen, proof

if TYPE_CHECKING:
    from tests.simulation.cluster_model_mysqld import Mysqld
    from tests.simulation.cluster_model_world import World

NOTHING = GTIDSet()
STAND_STILL_SECONDS = 1.0


@dataclasses.dataclass(slots=True)
class Heard:
    report: MemberReport
    at: float
    receiving_at: float
    first: MemberReport


@dataclasses.dataclass(slots=True)
class Task:
    """A plan under way: bound to the state, the start of mysqld it was decided on."""

    actions: list[Action]
    version: int
    epoch: int
    starts: int


class Controller:
    def __init__(self, name: str, world: World, rng: random.Random) -> None:
        self.name = name
        self._world = world
        self._rng = rng
        self.mysqld: Mysqld = world.mysqlds[name]
        self.seq = 0
        self.alive = False
        self.start()

    def start(self) -> None:
        """A new process: replays the log from the beginning, has promised and confirmed nothing itself."""
        if self.alive:
            return
        self.alive = True
        self.paused_until = 0.0
        self.applied = 0
        self.state = ClusterState()
        self.confirm_index: int | None = None
        self.confirmed = False
        self.lease_until = 0.0
        self.stopped_epoch = 0
        self.receiver_epoch = 0
        self.locked: tuple[str, ...] | None = None
        self.source_acks: int | None = None
        self.primary_executed: GTIDSet | None = None
        self.waiting, self.waiting_since = NOTHING, self._world.now
        self.task: Task | None = None
        self.starts_seen = -1
        self.heard: dict[str, Heard] = {}
        self.listening_since = self.version_since = self._world.now
        self.last_observation: MySQLObservation | None = None
        self.last_step = self._world.now

    def kill(self) -> None:
        if self.alive:
            self.alive = False
            if self.task and self.task.actions and self._rng.random() < 0.3:
                self._leave_behind(self.task)

    @property
    def running(self) -> bool:
        return self.alive and self._world.now >= self.paused_until

    def _leave_behind(self, task: Task) -> None:
        """The statement was sent; the server may carry it out at any time, unless its session is ended."""
        self._world.stray.append((self.name, task.starts, task.actions[0], task.epoch))

    # --- the log --------------------------------------------------------------------------------------

    def advance(self, limit: int) -> None:
        """Apply up to `limit` further committed entries."""
        for _ in range(min(limit, len(self._world.log) - self.applied)):
            before = self.state
            self.applied += 1
            self.state = self._world.state_at(self.applied)
            if self.state.version != before.version:
                self.version_since = self._world.now
            if self.state.epoch != before.epoch:
                self.primary_executed = None
        if self.confirm_index is None and (index := self._world.read_index(self.name)) is not None:
            self.confirm_index = index
        self.confirmed = self.confirm_index is not None and self.applied >= self.confirm_index

    # --- one step -------------------------------------------------------------------------------------

    def step(self) -> None:
        """The next action of the plan under way, or a new look, report and plan."""
        now = self._world.now
        if now - self.last_step > 2.0:
            self.listening_since = now  # it was away: what it did not hear proves nothing
        self.last_step = now
        if self.task is not None and self.task.actions:
            self._act(self.task)
            return
        if not self.mysqld.answers:
            self._mysqld_silent()
            return
        if self.mysqld.starts != self.starts_seen:
            self.locked, self.source_acks, self.primary_executed = None, None, None
            self.starts_seen = self.mysqld.starts
        if self._world.rules.ends_stray_statements:
            self._world.stray = [s for s in self._world.stray if s[0] != self.name]
        seen = self._world.observe(self.mysqld)
        self._watch_commits(seen)
        self.last_observation = seen
        context = self.context()
        plan = self._world.rules.decide_local(self.state, self.name, seen, context)
        if seen.writable and self.state.primary == self.name and not context.lease_valid:
            plan = LocalPlan((local.Fence("lease"),))
        self._report(seen, plan, context)
        self.task = Task(list(plan.actions), self.state.version, self.state.epoch, self.mysqld.starts)

    def context(self) -> LocalContext:
        return LocalContext(
            confirmed=self.confirmed,
            lease_valid=self._world.now < self.lease_until,
            stopped_epoch=self.stopped_epoch,
            receiver_epoch=self.receiver_epoch,
            locked=self.locked,
            source_acks=self.source_acks,
            primary_executed=self.primary_executed,
            commits_stand_still=self._world.now - self.waiting_since > STAND_STILL_SECONDS,
        )

    def _watch_commits(self, seen: MySQLObservation) -> None:
        if seen.gtid_owned != self.waiting or not seen.gtid_owned:
            self.waiting, self.waiting_since = seen.gtid_owned, self._world.now

    def _mysqld_silent(self) -> None:
        self.task = None
        state = MySQLState.DOWN
        if self.mysqld.alive:
            state = MySQLState.UNRESPONSIVE
            if self._rng.random() < 0.2 and self.state.primary != self.name:
                self.mysqld.kill()
        self._send(MySQLFacts(state, self.last_observation))

    def _act(self, task: Task) -> None:
        action = task.actions.pop(0)
        if not self.mysqld.answers:
            if self.mysqld.alive and self._rng.random() < 0.3:
                self._leave_behind(Task([action], task.version, task.epoch, task.starts))
            self.task = None
            return
        if isinstance(action, local.OPENING) and self.state.version != task.version:
            self.task = None
            return
        if self._rng.random() < self._world.config.stray_probability:
            self._leave_behind(Task([action], task.version, task.epoch, task.starts))
            self.task = None
            return
        self._world.trace(lambda: f"{self.name} does {action}")
        self._carry_out(action, task)

    def _carry_out(self, action: Action, task: Task) -> None:
        match action:
            case local.StopReceiver():
                self.mysqld.stop_receiver()
                self.stopped_epoch = task.epoch
            case local.StartReceiver():
                self._world.carry_out(self.mysqld, action, task.epoch)
                self.receiver_epoch = task.epoch
            case local.ProveQuiet():
                if not self.mysqld.running and not self.mysqld.waiting:
                    self.stopped_epoch = task.epoch
            case local.LockAccounts(members):
                self.locked = None
                self._world.lock_accounts(self.mysqld, members)
                self.locked = members
            case local.BecomeSource(acks):
                self._world.carry_out(self.mysqld, action, task.epoch)
                self.source_acks = acks
            case local.AskPrimary(primary):
                told = self._world.ask_primary(self.name, primary)
                self.primary_executed = told if task.epoch == self.state.epoch else None
                self.receiver_epoch = 0
            case local.Fence() if self._rng.random() < 0.3:
                self.mysqld.go_offline()  # the next rung did not fit into its deadline
            case _:
                self._world.carry_out(self.mysqld, action, task.epoch)

    # --- reports --------------------------------------------------------------------------------------

    def _report(self, seen: MySQLObservation, plan: LocalPlan, context: LocalContext) -> None:
        word = local.describe(self.state, self.name, seen)
        facts = MySQLFacts(word, seen, errant=plan.errant, stranded=plan.stranded)
        fenced_epoch = self._world.rules.promised_epoch(self.state, self.name, seen, context)
        acks = local.proven_acks(self.state, self.name, seen, context)
        self._send(facts, fenced_epoch=fenced_epoch, holds=seen.holds, source_acks=acks)

    def _send(
        self,
        facts: MySQLFacts,
        *,
        fenced_epoch: int = 0,
        holds: GTIDSet = NOTHING,
        source_acks: int | None = None,
    ) -> None:
        self.seq += 1
        self._world.broadcast(
            MemberReport(
                member=self.name,
                seq=self.seq,
                version=self.state.version,
                epoch=self.state.epoch,
                fenced_epoch=fenced_epoch,
                holds=holds,
                locked=self.locked or () if self.state.primary == self.name else (),
                source_acks=source_acks,
                mysql=facts,
            )
        )

    def hear(self, report: MemberReport) -> None:
        known = self.heard.get(report.member)
        if known and known.report.seq >= report.seq:
            return
        receiving_at = known.receiving_at if known else -1e9
        if self.state.primary and receives(self.state, report):
            receiving_at = self._world.now
        first = known.first if known and proof(known.report) == proof(report) else report
        self.heard[report.member] = Heard(report, self._world.now, receiving_at, first)

    def _away(self, member: str, age: float) -> float | None:
        """One that cannot be reached seems to have hung up: who decides on that must be right all the same."""
        return None if self._world.connected(self.name, member) else age

    def view(self) -> ClusterView:
        now = self._world.now
        return ClusterView(
            members={
                m: Seen(h.report, now - h.at, now - h.receiving_at, self._away(m, now - h.at), h.first)
                for m, h in self.heard.items()
            },
            listening_seconds=now - self.listening_since,
            version_seconds=now - self.version_since,
        )
