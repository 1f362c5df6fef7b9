"""Keeps the own mysqld as the log says: observe, decide (`planner.local`), act, again.

Three threads touch mysqld, each with its own connections: the observer, the worker that carries out actions, and the
fencing ladder, which nothing else can hold up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from raftctl.cluster.commands import Record
from raftctl.cluster.facts import MemberReport, MySQLFacts, MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import ClusterState, Member, Phase
from raftctl.controller import gate_protocol
from raftctl.controller.actions import Hands
from raftctl.controller.cluster_log import ClusterLog
from raftctl.controller.corruption import CorruptionWatch
from raftctl.controller.disk import DiskWatch
from raftctl.controller.errant import ErrantWatch
from raftctl.controller.fencer import Fencer
from raftctl.controller.fencing import Ladder
from raftctl.controller.lease import Lease
from raftctl.controller.observer import Look, Observer
from raftctl.controller.pace import RETRY_SECONDS, Pace
from raftctl.controller.rebuilder import Rebuilder
from raftctl.controller.rebuilding import Copy, Rebuilding
from raftctl.controller.standstill import ApplierRest, ApplierStandstill, Standstill
from raftctl.errors import MySQLError
from raftctl.hosts.services import ServiceManager
from raftctl.mysql.client import Connection, Endpoint
from raftctl.mysql.errors import LockWaitTimeout
from raftctl.mysql.saved import newest
from raftctl.mysql.tail import ServerFiles, directories_of
from raftctl.planner import local as plan
from raftctl.secret import Secret

logger = logging.getLogger(__name__)

ACCOUNTS_SECONDS: Final = 30.0  # between two looks whether they are all there

# What is worth a line in the history when it succeeds.
_HISTORY: Final[Mapping[type[plan.Action], str]] = {
    plan.PointTo: "rejoined",
    plan.Open: "opened",
    plan.KeepSettings: "settings-restored",
    plan.CheckAccounts: "accounts-missing",
    plan.FreeApplier: "sessions-ended",
    plan.FreeAccounts: "sessions-ended",
    plan.FreeWriters: "sessions-ended",
    plan.EndQueries: "queries-ended",
}


class Keeper:
    """One data member's mysqld. Everything but the blocking calls runs on the event loop.

    `record` gets lines for the cluster's history; `on_change` is called when the report's content changed; `directory`
    is the controller's own."""

    def __init__(
        self,
        *,
        me: str,
        endpoint: Endpoint,
        password_of: Callable[[str, str], Secret],
        services: ServiceManager,
        log: ClusterLog,
        lease: Lease,
        members: Callable[[], Mapping[str, Member]],
        record: Callable[[Record], None],
        on_change: Callable[[], None],
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._me = me
        self._log = log
        self._lease = lease
        self._record = record
        self._on_change = on_change
        self._clock = clock
        self._directory = directory
        self.confirmed = False
        self.returns = False  # to a later incarnation: before it is taken in, nothing allows it to be writable
        self.gate_note = ""  # what mysqld's start waits for
        self._observer = Observer(endpoint=endpoint, patience=lambda: log.state.settings.silence_deadline, clock=clock)
        self._rebuilding = Rebuilding(directory)
        self._ladder = Ladder(endpoint=endpoint, services=services)
        self._fencer = Fencer(me=me, ladder=self._ladder, epoch=lambda: log.state.epoch, record=record, ended=self.poke)
        self._hands = Hands(
            endpoint=endpoint,
            me=me,
            members=members,
            password_of=password_of,
            services=services,
            spare=self._own_sessions,
            directory=directory,
            cloning=self._rebuilding.sending,
        )
        self._observing = ThreadPoolExecutor(1, thread_name_prefix="observer")
        self._acting = ThreadPoolExecutor(1, thread_name_prefix="actions")
        self.errant = ErrantWatch(
            me=me, log=log, report=lambda: self._report, held_by=self._hands.held_by, record=record, on_change=self.poke
        )
        self.corruption = CorruptionWatch(
            me=me,
            log=log,
            endpoint=endpoint,
            directory=directory,
            session=lambda: self._session,
            record=record,
            on_change=self.poke,
        )
        self._rebuilder = Rebuilder(
            me=me,
            rebuilding=self._rebuilding,
            hands=self._hands,
            services=services,
            acting=self._acting,
            killing=self._ladder.executor,
            verdict=self.corruption.verdict,
            record=record,
            ended=self._rebuild_ended,
            clock=clock,
        )
        self._wake = log.watch()
        self._sentinel: Connection | None = None
        self._session = 0
        self._stopped_epoch = 0
        self._asked_epoch = 0
        self._receiver_epoch = 0
        self._pace = Pace()
        self._standstill = Standstill()
        self._applier_standstill = ApplierStandstill()
        self._applier_rest = ApplierRest()
        self._accounts_at = clock()
        self._lock_wait = False  # the last action gave up waiting for a lock
        self._disk = DiskWatch(clock=clock)
        self._disk_waits = 0.0
        self._failure = ""
        self._look = Look(0, state=MySQLState.UNKNOWN)
        self._report = MemberReport(member=me, seq=0, version=0, epoch=0)
        log.listen(self._state_changed)

    # --- what others see -------------------------------------------------------------------------------

    def report(self, *, seq: int) -> MemberReport:
        """The last finished look and what it proves, as one consistent piece."""
        epoch = self._log.state.epoch
        lease = self._lease.remaining(epoch, self._clock()) if self._log.state.primary == self._me else None
        return msgspec.structs.replace(self._report, seq=seq, lease_seconds=lease)

    @property
    def seen(self) -> MySQLObservation | None:
        """What the last look saw; None when mysqld did not answer."""
        return self._look.observation

    @property
    def may_be_writable(self) -> bool:
        """What was seen last, although mysqld may not answer now; True before the first look."""
        mysql = self._report.mysql
        seen = mysql.observation if mysql is not None else None
        return seen is None or seen.writable

    @property
    def is_open_primary(self) -> bool:
        """Writable, in the current epoch, under a valid lease: `GET /primary`."""
        seen = self._look.observation
        return bool(seen and seen.writable and self._log.state.primary == self._me and self._lease_valid())

    @property
    def password_in_use(self) -> bool:
        """Whether replication, when there is any, was configured with the present password."""
        channel = self._look.observation.channel if self._look.observation is not None else None
        return self._hands.password_in_use if channel is not None else self._log.state.primary == self._me

    # --- the loop --------------------------------------------------------------------------------------

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            state, context = self._log.state, self._context()
            look = await loop.run_in_executor(
                self._observing, partial(self._observer.look, with_clone=self._rebuilding.is_marked)
            )
            copy = await self._rebuilder.watch(look, state)
            context = msgspec.structs.replace(
                context, incomplete=copy is Copy.INCOMPLETE, unverified=copy is Copy.UNVERIFIED
            )
            decided = self._digest(look, state, context)
            acted = False
            if decided.actions and not self._rebuilder.running and not self._fencer.is_busy:
                acted = await self._act(decided, state)
            await self._watch_for_death()
            if not acted:
                await self._rest()

    def held_by(self, member: str) -> GTIDSet:
        """What a member's mysqld holds: see `Hands.held_by`. Blocking; from any thread. Raises MySQLError."""
        return self._hands.held_by(member)

    def _own_sessions(self) -> list[int]:
        """This controller's other sessions. Read from the worker's thread: a stale answer costs a reconnect."""
        sentinel = self._sentinel.thread_id if self._sentinel is not None else None
        return [s for s in (self._observer.session, self._ladder.session, sentinel) if s is not None]

    def passwords_changed(self) -> None:
        """Replicate with the new one, and see to it that the accounts here have theirs. An earlier password that is
        kept beside it stays."""
        self._acting.submit(self._hands.forget_accounts)  # after an action that may be using the earlier ones
        self.poke()

    def poke(self) -> None:
        """Look again now."""
        self._wake.set()

    async def _rest(self) -> None:
        state = self._log.state
        mysql = self._report.mysql.state if self._report.mysql is not None else None
        settled = state.phase in (Phase.STEADY, Phase.UNINITIALIZED) and mysql in _SETTLED
        rest = self._pace.rest((state.version, mysql), settled=settled, now=self._clock())
        try:
            async with asyncio.timeout(RETRY_SECONDS if self._failure else rest):
                await self._wake.wait()
        except TimeoutError:
            return

    # --- observe ---------------------------------------------------------------------------------------

    def _context(self) -> plan.LocalContext:
        state = self._log.state
        asked = self._hands.primary_executed if self._asked_epoch == state.epoch else None
        return plan.LocalContext(
            confirmed=self.confirmed,
            lease_valid=self._lease_valid(),
            stopped_epoch=self._stopped_epoch,
            locked=self._hands.locked,
            source_acks=self._hands.source_acks,
            primary_executed=asked,
            commits_stand_still=self._standstill.is_due(self._clock()),
            receiver_epoch=self._receiver_epoch,
            roster=self._hands.roster,
            errant=self.errant.known,
            password_in_use=self._hands.password_in_use,
            accounts_due=self._clock() - self._accounts_at >= ACCOUNTS_SECONDS,
            retry_applier=self._applier_rest.is_over(self._clock()),
            held_up=self._lock_wait or self._applier_standstill.is_due(self._clock()),
        )

    def _lease_valid(self) -> bool:
        return self._lease.remaining(self._log.state.epoch, self._clock()) > 0

    def _digest(self, look: Look, state: ClusterState, context: plan.LocalContext) -> plan.LocalPlan:
        """Turn a look into the report's content and a plan. `state` and `context` are those from before the look, so
        that nothing is claimed that was not so when mysqld was looked at."""
        if look.session != self._session:
            # Perhaps another mysqld process than before: nothing proven about the old one holds.
            self._session, self._stopped_epoch = look.session, 0
            self._hands.forget()
            if self._observer.files is not None:
                self._remember_files(self._observer.files)
            context = msgspec.structs.replace(
                context, stopped_epoch=0, locked=None, source_acks=None, primary_executed=None, roster=None
            )
        self._look = look
        self._standstill.note(look.observation, self._clock())
        self._applier_standstill.note(look.observation, self._clock())
        self._applier_rest.note(look.observation, self._clock())
        if self._observer.files is not None:
            self._disk_waits = self._disk.look(directories_of(self._observer.files))
        decided = plan.LocalPlan(note=self.gate_note or look.error)
        if look.observation is not None:
            decided = plan.decide_local(state, self._me, look.observation, context)
        elif look.state is MySQLState.UNRESPONSIVE and self._me in (state.primary, state.previous_primary):
            decided = plan.LocalPlan((plan.Fence("mysqld does not answer"),), note=look.error)
        self._publish(look, decided, state, context)
        return decided

    def _remember_files(self, files: ServerFiles) -> None:
        try:
            gate_protocol.remember(self._directory, files)
        except OSError as error:  # a full disk: what was remembered before is still so, but after a change of options
            logger.warning("cannot write below %s: %s", self._directory, error.strerror)

    def _publish(self, look: Look, decided: plan.LocalPlan, state: ClusterState, context: plan.LocalContext) -> None:
        seen, before = look.observation, self._report
        fenced = plan.promised_epoch(state, self._me, seen, context) if seen else 0
        self._report = MemberReport(
            member=self._me,
            seq=0,
            version=state.version,
            epoch=state.epoch,
            fenced_epoch=fenced,
            holds=seen.holds if seen and fenced else GTIDSet(),
            locked=(context.locked or ()) if state.primary == self._me else (),
            source_acks=plan.proven_acks(state, self._me, seen, context) if seen else None,
            mysql=self._facts(look, decided, state, incomplete=context.incomplete),
            note=self._failure or self._rebuilder.note(look) or decided.note,
        )
        if _outline(self._report) != _outline(before) or (not state.primary and self._report != before):
            self._on_change()

    def _facts(self, look: Look, decided: plan.LocalPlan, state: ClusterState, *, incomplete: bool) -> MySQLFacts:
        before = self._report.mysql
        last = look.observation or (before.observation if before else None)
        if self._rebuilder.running:
            return MySQLFacts(MySQLState.REBUILDING, last, errant=decided.errant, incomplete=True)
        if look.observation is None:
            word = look.state or (before.state if before else MySQLState.UNKNOWN)
            full = str(self._disk.full or "")
            return MySQLFacts(word, last, error=look.error, disk_full=full, incomplete=incomplete)
        word = plan.describe(state, self._me, look.observation)
        known = self.errant.known if state.primary != self._me else GTIDSet()
        errant = decided.errant | (known & look.observation.gtid_executed)
        return MySQLFacts(
            word,
            last,
            error=self._failure,
            errant=errant,
            disk_waits_seconds=self._disk_waits,
            disk_full=str(self._disk.full or ""),
            damage=self.corruption.of(look.observation.server_uuid),
            stranded=decided.stranded,
            incomplete=incomplete,
            saved=newest(self._directory / gate_protocol.TAILS),
        )

    async def _watch_for_death(self) -> None:
        """Keep an idle connection whose EOF wakes the loop at once when mysqld dies."""
        if self._sentinel is not None or self._look.observation is None:
            return
        loop = asyncio.get_running_loop()
        self._sentinel = await loop.run_in_executor(self._observing, self._observer.sentinel)
        if self._sentinel is not None:
            loop.add_reader(self._sentinel.fileno(), self._sentinel_readable)
        await self._fencer.prepare()

    def _sentinel_readable(self) -> None:
        assert self._sentinel is not None
        asyncio.get_running_loop().remove_reader(self._sentinel.fileno())
        self._sentinel.close()
        self._sentinel = None
        self.poke()

    # --- act -------------------------------------------------------------------------------------------

    async def _act(self, decided: plan.LocalPlan, state: ClusterState) -> bool:
        """Carry out the plan while it is still the plan; True when something was done and a look is due at once."""
        done = False
        for action in decided.actions:
            if isinstance(action, plan.Fence):
                self._fencer.fence(action.why)
                return True
            if isinstance(action, plan.OPENING) and not self._still_justified(action, state):
                return True
            if isinstance(action, plan.Rebuild):
                return done or self._rebuilder.begin(action, self._log.state)
            if not await self._do(action, state):
                return done
            done = True
        return done

    def _still_justified(self, action: plan.Action, state: ClusterState) -> bool:
        if self._log.state.version != state.version:
            return False
        return self._lease_valid() if isinstance(action, plan.Open) else True

    async def _do(self, action: plan.Action, state: ClusterState) -> bool:
        loop = asyncio.get_running_loop()
        name = type(action).__name__
        if isinstance(action, plan.StartApplier):
            self._applier_rest.tried(self._clock())
        if isinstance(action, plan.CheckAccounts):
            self._accounts_at = self._clock()
        try:
            await loop.run_in_executor(self._acting, self._hands.carry_out, action)
        except MySQLError as error:
            failure = f"{name}: {error}"
            if failure != self._failure:  # it is tried five times a second
                logger.warning("action failed: %s", failure)
            self._failure, self._lock_wait = failure, isinstance(error, LockWaitTimeout)
            return False
        self._failure, self._lock_wait = "", False
        logger.info("done: %s", action)
        if isinstance(action, plan.StopReceiver | plan.ProveQuiet):
            self._stopped_epoch = state.epoch
        if isinstance(action, plan.StartReceiver):
            self._receiver_epoch = state.epoch
        if isinstance(action, plan.AskPrimary):
            self._asked_epoch, self._receiver_epoch = state.epoch, 0
        if isinstance(action, plan.Nudge):
            self._standstill.nudged(self._clock())
        self._write_history(action, state)
        return True

    def _write_history(self, action: plan.Action, state: ClusterState) -> None:
        kind = _HISTORY.get(type(action))
        if kind is None or (why := self._story(action, state)) is None:
            return
        if kind in _WARNINGS:
            logger.warning("%s: %s", kind, why)
        self._record(Record(kind=kind, member=self._me, epoch=state.epoch, why=why, by=self._me))

    def _story(self, action: plan.Action, state: ClusterState) -> str | None:
        """What the history says of it beside its kind; None when nothing came of it."""
        match action:
            case plan.PointTo():
                return f"follows {state.primary}; nothing had to be rebuilt"
            case plan.KeepSettings():
                return f"{'; '.join(action.found)}: what acknowledged writes rest on is not to be changed"
            case plan.CheckAccounts():
                missing = ", ".join(self._hands.missing)
                return f"the replication accounts of {missing}: they are made again" if missing else None
            case plan.FreeApplier() | plan.FreeAccounts() | plan.FreeWriters() | plan.EndQueries():
                ended = ", ".join(self._hands.ended)
                return f"of {ended}: in the way of a change of the primary or of the sync set" if ended else None
            case _:
                return ""

    def _rebuild_ended(self, failure: str) -> None:
        self._failure = failure
        self._hands.forget()
        self._asked_epoch = 0
        self.poke()

    # --- fencing ---------------------------------------------------------------------------------------

    async def fence_now(self, why: str) -> None:
        """Fence mysqld unless it is seen to be harmless; returns when that is done, however often it was tried."""
        while self.may_be_writable and self._look.state is not MySQLState.DOWN:
            if await self._fencer.fence(why):
                return

    async def watch_lease(self, *, ttl: Callable[[], float], interval: float) -> None:
        """Fence when the lease is over (rule R7), however busy the rest is."""
        while True:
            await asyncio.sleep(interval)
            down = self._look.state is MySQLState.DOWN
            unbound = self._log.state.phase is Phase.UNINITIALIZED and not self.returns
            if down or not self.may_be_writable or unbound:
                continue  # one that does not answer, or refuses this account, may well serve others
            if self._lease.is_over(self._clock(), ttl=ttl()):
                self._fencer.fence("the lease is over")

    def _state_changed(self, before: ClusterState, after: ClusterState) -> None:
        """A change of primary relieves this one: an unplanned one fences at once, not at the next look."""
        relieved = after.epoch != before.epoch and after.previous_primary == self._me
        seen = self._look.observation
        if relieved and after.phase is Phase.FAILOVER and self.confirmed and seen is not None and seen.writable:
            self._fencer.fence(f"epoch {after.epoch} begins")


_WARNINGS = frozenset({"settings-restored", "accounts-missing", "sessions-ended", "queries-ended"})
_SETTLED = frozenset({MySQLState.PRIMARY, MySQLState.REPLICA})


def _outline(report: MemberReport) -> tuple[object, ...]:
    """What others should hear of at once; GTID sets move all the time and wait for the next regular report."""
    mysql = report.mysql
    if mysql is None:
        return (report.version, report.fenced_epoch)
    seen = mysql.observation
    return (
        report.version,
        report.fenced_epoch,
        report.locked,
        report.source_acks,
        report.note,
        mysql.state,
        mysql.errant,
        mysql.damage,
        mysql.stranded,
        mysql.incomplete,
        seen and (seen.writable, seen.channel and seen.channel.receiver, seen.semi_sync.replica_enabled),
    )
