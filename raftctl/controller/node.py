"""One controller: Raft, the cluster state, the own mysqld, reports, leases and requests, wired together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
import shutil
from collections.abc import Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

import raftctl
from raftctl.api_client import split_address
from raftctl.cluster.commands import Record
from raftctl.cluster.facts import MemberFacts, MemberReport, RaftFacts
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import ClusterState, Member, Phase
from raftctl.consensus.types import Config, Event, NotLeader, Role
from raftctl.controller import admin_port, clock, gate_protocol, incarnation, messages
from raftctl.controller.certificates import Certificates
from raftctl.controller.cluster_log import ClusterLog
from raftctl.controller.config import ControllerConfig, Secrets
from raftctl.controller.gate_server import GateServer
from raftctl.controller.guard_link import GuardLink
from raftctl.controller.guard_protocol import GuardFiles, Renewal
from raftctl.controller.hooks import Hooks
from raftctl.controller.keeper import Keeper
from raftctl.controller.leader import Leader
from raftctl.controller.lease import Lease, may_be_granted
from raftctl.controller.members_file import MembersFile, Roster
from raftctl.controller.messages import Operation, OperationResult
from raftctl.controller.outside_fencing import OutsideFence
from raftctl.controller.reports import ReportBook
from raftctl.controller.secrets_file import SecretsFile
from raftctl.hosts.local_services import local_services
from raftctl.mysql.accounts import ADMIN_USER
from raftctl.mysql.client import Endpoint
from raftctl.raftnode.events import NodeEvent, NodeEventKind
from raftctl.raftnode.raft_node import ProposalLost, RaftNode
from raftctl.raftnode.transport import Address
from raftctl.raftnode.wire import ClusterKey
from raftctl.secret import Secret

logger = logging.getLogger(__name__)

REPORT_SECONDS: Final = 0.25
LEASE_WATCH_SECONDS: Final = 0.1
BEGIN_ANEW_AGAIN_SECONDS: Final = 5.0
OPERATION_SECONDS: Final = 5.0
RECORDS_KEPT: Final = 200  # history lines that wait for a leader


class Node:
    """Everything of one controller but its HTTP server. Runs on one event loop."""

    def __init__(self, config: ControllerConfig, secrets: Secrets) -> None:
        self.config = config
        self.name = config.node
        self._clock = clock.now
        now = self._clock()
        kept = incarnation.read(Path(config.directory))
        self._incarnation, self._branch = kept.incarnation, kept.branch
        self.superseded = asyncio.Event()  # this process is to end: the next one belongs to a later incarnation
        self.log = ClusterLog(clock=self._clock)
        self._members_file = MembersFile(Path(config.directory))
        self._roster = self._members_file.load_for(self._incarnation) or Roster(0, config.peers)
        self.lease = Lease(now)
        self.book = ReportBook(now)
        self.certificates = Certificates(self.name, config.api)
        self.secrets_file = SecretsFile(config.secrets_file, secrets)
        self.raft = self._make_raft(secrets)
        self.log.attach(self.raft)
        self.log.listen(self._state_changed)
        self.leader = Leader(log=self.log, book=self.book, raft=self.raft, clock=self._clock)
        self._services = local_services(socket_path=config.services.socket, mysqld_unit=config.services.mysqld_unit)
        self.keeper = self._make_keeper() if config.mysql else None
        if self.keeper is not None:
            self.keeper.returns = self._incarnation > incarnation.FIRST
        self._guard = self._make_guard_link() if config.mysql else None
        self._confirmed = False
        hooks = Hooks(me=self.name, programs=config.hooks, is_current=lambda: self._confirmed, record=self._remember)
        self.log.listen(hooks.state_changed)
        self.log.listen(self._make_outside_fence(hooks).state_changed)
        self._leaving = False
        self._report_due = asyncio.Event()
        self._seq = itertools.count(1)
        self._requests: dict[int, asyncio.Future[OperationResult]] = {}
        self._request_ids = itertools.count(1)
        self._records: asyncio.Queue[Record] = asyncio.Queue(RECORDS_KEPT)
        self.elections = 0  # begun by this process
        self.started = False  # the log has been read
        self._carrying: set[asyncio.Task[None]] = set()

    def _make_raft(self, secrets: Secrets) -> RaftNode:
        config = self.config
        directory = Path(config.directory)
        # A newcomer, also one to a later incarnation, waits to be taken in: an empty log says nothing about who votes.
        founds = self._incarnation == incarnation.FIRST and not config.joins
        voters = tuple(sorted(config.peers)) if founds else ()
        return RaftNode(
            config=Config(
                node_id=config.node,
                voters=voters,
                election_timeout=config.raft.election_timeout,
                heartbeat_interval=config.raft.heartbeat_interval,
                max_entries_per_append=config.raft.log_batch_size,
            ),
            cluster_id=config.cluster_id,
            incarnation=self._incarnation,
            branch=self._branch,
            key=_key(secrets.cluster_key),
            other_keys=[_key(other) for other in secrets.accepted_keys],
            tls=self.certificates.contexts.peers,
            directory=incarnation.log_directory(directory, self._incarnation),
            listen=Address(*split_address(config.raft.listen)),
            peers=_addresses(self._roster.members),
            uids=_uids(self._roster.members) | {config.node: config.member.uid},
            apply=self.log.apply,
            take_snapshot=self.log.take_snapshot,
            load_snapshot=self.log.load_snapshot,
            on_event=self._raft_event,
            on_app_message=self._received,
            on_role_change=self._role_changed,
            on_superseded=self._superseded,
            clock=self._clock,
        )

    def _make_keeper(self) -> Keeper:
        mysql = self.config.mysql
        assert mysql is not None
        return Keeper(
            me=self.name,
            endpoint=Endpoint(
                user=mysql.user,
                password=self._admin_password,
                unix_socket=mysql.socket,
                admin_port=partial(admin_port.remembered, self.config.directory),
            ),
            password_of=self._replication_password,
            services=self._services,
            log=self.log,
            lease=self.lease,
            members=lambda: self.members,
            record=self._remember,
            on_change=self._report_now,
            directory=Path(self.config.directory),
            clock=self._clock,
        )

    def _make_outside_fence(self, hooks: Hooks) -> OutsideFence:
        return OutsideFence(
            me=self.name,
            login=(self.config.mysql.user if self.config.mysql else ADMIN_USER, self._admin_password),
            hooks=hooks,
            leads=lambda: self.leader.is_current,
            connected=lambda: self.raft.status().connected,
            state=lambda: self.log.state,
            record=self._remember,
        )

    def _admin_password(self) -> Secret:
        return self.secrets_file.secrets.admin_password

    def _replication_password(self, member: str, uid: str) -> Secret:
        return self.secrets_file.secrets.replication_password(member, uid)

    async def _secrets_changed(self, before: Secrets, secrets: Secrets) -> None:
        if self.keeper is not None and secrets.cluster_key != before.cluster_key:
            self.keeper.passwords_changed()
        self.raft.set_keys(_key(secrets.cluster_key), [_key(other) for other in secrets.accepted_keys])
        await self.raft.connections_renewed()

    def _make_gate(self, keeper: Keeper) -> GateServer:
        def note(text: str) -> None:
            keeper.gate_note = text

        return GateServer(
            me=self.name, current=self._current_state, ask_primary=keeper.held_by, record=self._remember, note=note
        )

    def _make_guard_link(self) -> GuardLink:
        return GuardLink(
            files=GuardFiles(self.config.directory),
            services=self._services,
            renewal=self._renewal,
            record=self._remember_guard,
            clock=self._clock,
        )

    @property
    def members(self) -> dict[str, Member]:
        """As the log has them; until it is applied that far, as this host knew them last."""
        state = self.log.state
        return state.members if state.members and state.roster >= self._roster.number else self._roster.members

    def _state_changed(self, _: ClusterState, after: ClusterState) -> None:
        if after.roster > self._roster.number:
            # From the loop: connections must not close in the middle of a batch of entries.
            asyncio.get_running_loop().call_soon(self._follow_roster)

    def _follow_roster(self) -> None:
        """Members came or went: connect to those there are. Not while old entries are applied, with the members of
        those days: the leader that sends them need not be one, or was another host by its name."""
        if self._confirmed:
            self._connect_by(Roster(self.log.state.roster, self.log.state.members))

    def _connect_by(self, roster: Roster) -> None:
        if roster.number > self._roster.number:
            self._roster = roster
            self._members_file.save(msgspec.structs.replace(roster, incarnation=self._incarnation))
            self.raft.set_peers(_addresses(roster.members), _uids(roster.members))

    # --- life ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Raises what RaftNode.start raises, and CorruptLogError when the log is gone; any other
        exception is a bug and ends the process."""
        directory = Path(self.config.directory)
        begun = incarnation.Begun(self._incarnation, self.config.member.uid)
        incarnation.require_log(directory, begun)
        await self.raft.start()
        incarnation.remember_log(directory, begun)
        self.started = True
        try:
            async with self._gate(), asyncio.TaskGroup() as tasks:
                for task in self._tasks():
                    tasks.create_task(task)
        finally:
            await self.raft.stop()

    def _gate(self) -> contextlib.AbstractAsyncContextManager[None]:
        if self.keeper is None:
            return contextlib.nullcontext()
        return self._make_gate(self.keeper).listening(Path(self.config.directory) / gate_protocol.SOCKET)

    def _tasks(self) -> list[Coroutine[Any, Any, None]]:
        tasks = [self._report_forever(), self._write_history(), self.leader.run(), self._confirm()]
        tasks.append(self.secrets_file.watch(self._secrets_changed))
        if self.keeper is not None:
            watch = self.keeper.watch_lease(ttl=lambda: self.log.state.settings.lease_ttl, interval=LEASE_WATCH_SECONDS)
            tasks += [self.keeper.run(), self.keeper.errant.run(), self.keeper.corruption.run(), watch]
        if self._guard is not None:
            tasks.append(self._guard.run())
        return tasks

    async def _current_state(self, timeout: float) -> ClusterState:
        """The state as of now or later, confirmed by a majority. Raises TimeoutError."""
        await self.raft.read_index(timeout)
        return self.log.state

    async def _confirm(self) -> None:
        """Learn once that the applied state is no older than this process (see planner.local)."""
        while True:
            try:
                index = await self.raft.read_index(timeout=OPERATION_SECONDS)
            except TimeoutError:
                continue
            logger.info("state confirmed up to index %d", index)
            self._confirmed = True
            self._follow_roster()
            if self.keeper is not None:
                self.keeper.confirmed = True
                self.keeper.poke()
            return

    def _raft_event(self, event: Event | NodeEvent) -> None:
        logger.info("raft: %s %s", event.kind, event.detail)
        lost = event.kind == NodeEventKind.PEER_DISCONNECTED and event.detail["peer"] == self.log.state.primary
        if lost and self.keeper is not None:
            self.keeper.poke()  # does this replica still receive from that host?

    def _superseded(self, later: int, branch: str) -> None:
        """Rule R10: this member was excluded by force. It fences its mysqld, and returns as a newcomer."""
        logger.warning("excluded by force: this is incarnation %d, the cluster is at %d", self._incarnation, later)
        task = asyncio.get_running_loop().create_task(self._begin_anew(later, branch))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _begin_anew(self, later: int, branch: str) -> None:
        if self.keeper is not None:
            await self.keeper.fence_now(f"excluded by force: the cluster is at incarnation {later}")
        directory = Path(self.config.directory)
        while True:
            try:
                await asyncio.to_thread(self._adopt, directory, later, branch)
            except OSError as error:
                logger.error("cannot begin anew below %s: %s", directory, error.strerror)
                await asyncio.sleep(BEGIN_ANEW_AGAIN_SECONDS)
            else:
                break
        self.superseded.set()

    def _adopt(self, directory: Path, later: int, branch: str) -> None:
        if later > self._incarnation:  # else that is the log in use
            # of a forced membership that was begun on this host and never came into force: another line's log
            shutil.rmtree(incarnation.log_directory(directory, later), ignore_errors=True)
        incarnation.adopt(directory, later, branch)

    def _role_changed(self, role: Role, term: int, leader: str) -> None:
        self.elections += role is Role.CANDIDATE
        logger.info("raft: %s in term %d, leader %s", role.value, term, leader or "unknown")
        self.leader.lead(role is Role.LEADER)
        self._report_now()

    # --- reports and leases ----------------------------------------------------------------------------

    def _report_now(self) -> None:
        self._report_due.set()

    async def _report_forever(self) -> None:
        before = self._clock()
        while True:
            try:
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._report_due.wait()
            except TimeoutError:
                pass
            self._report_due.clear()
            now = self._clock()
            if now - before > self.log.state.settings.silence_deadline / 2:
                self.book.forget_time(now)  # it was this process that was away
            before = now
            self._report(now)

    def _report(self, now: float) -> None:
        report = self.report(next(self._seq))
        self.lease.asked(report.seq, now)
        body = messages.encode(messages.ReportMessage(report, self._roster.number))
        for peer in self.members:
            if peer != self.name:
                self.raft.send_app(peer, body)
        self._heard_report(self.name, report)

    def report(self, seq: int = 0) -> MemberReport:
        if self.keeper is not None:
            return self.keeper.report(seq=seq)
        state = self.log.state
        return MemberReport(member=self.name, seq=seq, version=state.version, epoch=state.epoch)

    def _heard_report(self, peer: str, report: MemberReport) -> None:
        if report.member != peer:
            logger.warning("%s reports as %s: ignored", peer, report.member)
            return
        before = self.book.latest(peer)
        self.book.add(report, self.log.state, self._clock())
        self._grant(report)
        if before is None or msgspec.structs.replace(before, seq=0) != msgspec.structs.replace(report, seq=0):
            self.leader.poke()

    def _grant(self, report: MemberReport) -> None:
        """Rule R7: answer the primary's report by a lease, when this node leads and knows all that was decided."""
        state = self.log.state
        if not self.leader.is_current:
            return
        try:
            contact = self.raft.quorum_contact()
        except NotLeader:
            return
        if not may_be_granted(state, report, contact_age=self._clock() - contact):
            return
        grant = messages.LeaseGrant(epoch=state.epoch, seq=report.seq, ttl=state.settings.lease_ttl)
        if report.member == self.name:
            self._granted(grant)
        else:
            self.raft.send_app(report.member, messages.encode(grant))

    def _granted(self, grant: messages.LeaseGrant) -> None:
        had = self.lease.remaining(grant.epoch, self._clock()) > 0
        self.lease.granted(seq=grant.seq, epoch=grant.epoch, ttl=grant.ttl)
        if self._guard is not None:
            self._guard.renew()
        if not had and self.keeper is not None:
            self.keeper.poke()

    def _renewal(self) -> Renewal:
        """What the guard is told: how long this controller answers for its mysqld."""
        assert self.keeper is not None
        state, now = self.log.state, self._clock()
        ttl = state.settings.lease_ttl
        writable = state.primary == self.name or self.keeper.may_be_writable
        return Renewal(
            pid=os.getpid(),
            sent=now,
            seconds=self.lease.left(now) if writable else ttl,
            ttl=0.0 if state.phase is Phase.UNINITIALIZED and not self.keeper.returns else ttl,
            writable=writable,
            leaving=self._leaving,
        )

    def leave(self) -> None:
        """This process was told to stop: the guard fences mysqld in time and does not restart the controller."""
        self._leaving = True
        if self._guard is not None:
            self._guard.renew()

    # --- messages --------------------------------------------------------------------------------------

    def _received(self, peer: str, body: bytes) -> None:
        try:
            message = messages.decode(body)
        except (msgspec.DecodeError, ValueError) as error:
            logger.warning("%s sent what cannot be understood: %s", peer, error)
            return
        match message:
            case messages.ReportMessage(report, roster):
                self._heard_report(peer, report)
                if roster is not None and roster < self._roster.number:
                    newer = messages.RosterMessage(self._roster.number, self._roster.members)
                    self.raft.send_app(peer, messages.encode(newer))
            case messages.RosterMessage(number, members):
                self._connect_by(Roster(number, members))
            case messages.LeaseGrant():
                self._granted(message)
            case messages.Ask():
                task = asyncio.get_running_loop().create_task(self._answer(peer, message))
                self._carrying.add(task)
                task.add_done_callback(self._carrying.discard)
            case messages.Answer(request_id, result):
                future = self._requests.pop(request_id, None)
                if future is not None and not future.done():
                    future.set_result(result)

    async def _answer(self, peer: str, ask: messages.Ask) -> None:
        result = await self._lead(ask.operation)
        self.raft.send_app(peer, messages.encode(messages.Answer(ask.request_id, result)))

    # --- operations ------------------------------------------------------------------------------------

    async def operate(self, operation: Operation, timeout: float = OPERATION_SECONDS) -> OperationResult:
        """Have the leader carry out `operation`, whoever leads. Never raises: no leader is a result too."""
        sent = False
        try:
            async with asyncio.timeout(timeout):
                while True:
                    leader = self.raft.status().leader
                    if leader == self.name:
                        return await self._lead(operation)
                    if leader:
                        sent = True
                        if (result := await self._forward(leader, operation)) is not None:
                            return result
                        sent = False
                    await asyncio.sleep(self.config.raft.heartbeat_interval)
        except TimeoutError:
            text = f"no answer of a leader within {timeout:g} s"
            return outcome_unknown(text) if sent else no_quorum(text)

    async def _lead(self, operation: Operation) -> OperationResult:
        try:
            return await self.leader.operate(operation)
        except (NotLeader, ProposalLost) as error:
            return no_quorum(str(error))
        except TimeoutError:
            return outcome_unknown("no majority of the controllers confirmed it in time")

    async def _forward(self, leader: str, operation: Operation) -> OperationResult | None:
        request_id = next(self._request_ids)
        future: asyncio.Future[OperationResult] = asyncio.get_running_loop().create_future()
        self._requests[request_id] = future
        try:
            if not self.raft.send_app(leader, messages.encode(messages.Ask(request_id, operation))):
                return None
            return await future
        finally:
            self._requests.pop(request_id, None)

    def _remember(self, record: Record) -> None:
        if self._records.full():
            self._records.get_nowait()  # the oldest one; it is in this host's log file
        self._records.put_nowait(record)

    def _remember_guard(self, kind: str, why: str, detail: dict[str, Any]) -> None:
        epoch = self.log.state.epoch
        self._remember(Record(kind=kind, member=self.name, epoch=epoch, why=why, by=self.name, detail=detail))

    async def _write_history(self) -> None:
        """Bring what was done here into the log, when there is a leader to take it."""
        while True:
            record = await self._records.get()
            while (await self.operate(messages.Propose(record))).reason == NO_QUORUM:  # noqa: ASYNC110 (no event to wait for)
                await asyncio.sleep(1.0)

    # --- what the API shows ----------------------------------------------------------------------------

    def facts(self) -> MemberFacts:
        status = self.raft.status()
        return MemberFacts(
            node=self.name,
            version=raftctl.__version__,
            raft=RaftFacts(
                state=status.role.value,
                term=status.term,
                leader=status.leader,
                commit_index=status.commit_index,
                applied_index=status.applied_index,
                log_index=status.last_index,
                voters=status.voters,
                learners=status.learners,
            ),
            report=self.report(),
            state=msgspec.structs.replace(self.log.state, history=()),
            connected=status.connected,
            quorum_contact_seconds=_finite(status.quorum_contact_age),
            secrets=self.secrets_file.in_use,
            guard_secrets=self._guard.secrets if self._guard is not None else "",
            certificate=self.certificates.facts,
            password_in_use=self.keeper is None or self.keeper.password_in_use,
            held_back=tuple(r.text for r in self.leader.refusals),
            primary_held=self._primary_held(),
        )

    def _primary_held(self) -> GTIDSet:
        state = self.log.state
        report = self.book.latest(state.primary or state.previous_primary)
        seen = report.mysql.observation if report and report.mysql else None
        return seen.holds if seen else GTIDSet()

    @property
    def state(self) -> ClusterState:
        return self.log.state


def _addresses(members: Mapping[str, Member]) -> dict[str, Address]:
    return {name: Address(*split_address(member.raft)) for name, member in members.items()}


def _uids(members: Mapping[str, Member]) -> dict[str, str]:
    return {name: member.uid for name, member in members.items() if member.uid}


NO_QUORUM: Final = "no-quorum"  # certainly not done
OUTCOME_UNKNOWN: Final = "outcome-unknown"  # it may still be done


def no_quorum(text: str) -> OperationResult:
    hint = "see `raftctl status` for who is missing"
    return OperationResult(applied=False, reason=NO_QUORUM, text=text, hint=hint)


def outcome_unknown(text: str) -> OperationResult:
    hint = "it may still take effect: see `raftctl history` before you try again"
    return OperationResult(applied=False, reason=OUTCOME_UNKNOWN, text=text, hint=hint)


def _key(secret: Secret) -> ClusterKey:
    return ClusterKey(secret.reveal().encode())


def _finite(age: float | None) -> float | None:
    return age if age is not None and math.isfinite(age) else None
