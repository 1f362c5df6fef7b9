"""The leader's loop: gather a view, ask the pure planner, propose what it says. Only the Raft leader runs it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from raftctl.cluster.commands import AnyCommand, BeginFailover, BeginSwitchover, Record
from raftctl.cluster.state import ClusterState
from raftctl.consensus.types import ChangeRefused, NotLeader
from raftctl.controller.cluster_log import ClusterLog
from raftctl.controller.messages import (
    ChangeMember,
    Failover,
    MemberChange,
    Operation,
    OperationResult,
    Propose,
    Switchover,
)
from raftctl.controller.reports import ReportBook
from raftctl.planner.leader import decide
from raftctl.planner.membership import (
    Requested,
    Reshape,
    request_add,
    request_rebuild,
    request_rejoin,
    request_removal,
    request_set,
    steps,
)
from raftctl.planner.refusal import Reason, Refusal
from raftctl.planner.switchover import request_failover, request_switchover
from raftctl.planner.view import ClusterView
from raftctl.raftnode.raft_node import ProposalLost, RaftStatus

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.1  # silence and grace are noticed at this pace; reports and log entries wake the loop at once
READ_SECONDS: Final = 2.0
RESHAPE_SECONDS: Final = 5.0
NOTHING: Final = "nothing: it is a member and does its duty"
# A failover that is due and not begun: one line of history for each reason in an epoch.
_WORTH_A_LINE: Final = frozenset(
    {
        Reason.PAUSED,
        Reason.AUTOMATIC_OFF,
        Reason.STILL_HEARD,
        Reason.COOLDOWN,
        Reason.PRIMARY_ALONE,
        Reason.TOO_FEW_REPLICAS,
        Reason.BELOW_FLOOR,
    }
)


class Raft(Protocol):
    """What is needed of RaftNode."""

    async def read_index(self, timeout: float) -> int: ...

    def status(self) -> RaftStatus: ...

    async def change_membership(self, voters: Sequence[str], learners: Sequence[str], timeout: float) -> None: ...


class Leader:
    """Decides while this node leads. `lead(True)` when it became leader, `lead(False)` when it ceased to be."""

    def __init__(
        self, *, log: ClusterLog, book: ReportBook, raft: Raft, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._book = book
        self._raft = raft
        self._clock = clock
        self._leads = False
        self._current = False
        self._wake = log.watch()
        self.refusals: tuple[Refusal, ...] = ()
        self._told: set[tuple[Reason, int]] = set()

    def lead(self, leads: bool) -> None:
        self._leads, self._current = leads, False
        self.refusals = ()
        self._wake.set()

    def poke(self) -> None:
        self._wake.set()

    @property
    def is_current(self) -> bool:
        """Leads, and has applied everything committed before it began to."""
        return self._leads and self._current

    def view(self) -> ClusterView:
        status = self._raft.status()
        return self._book.view(
            now=self._clock(),
            version_since=self._log.version_since,
            failover_since=self._log.failover_since,
            hung_up=status.hung_up,
            voters=status.voters,
            learners=status.learners,
        )

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS if self._leads else None):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._leads:
                await self._decide()

    async def _decide(self) -> None:
        try:
            if not self._current:
                await self._raft.read_index(READ_SECONDS)
                self._current = self._leads
            verdict = decide(self._log.state, self.view())
            await self._tell(verdict.refusals)
            if verdict.reshape is not None:
                await self._reshape(verdict.reshape)
            if verdict.command is not None:
                await self._propose(verdict.command)
        except (NotLeader, ProposalLost, TimeoutError) as error:
            # Another leader decides, or the next look does: nothing is carried over.
            logger.info("decision not committed: %s", error or type(error).__name__)

    async def _propose(self, command: AnyCommand) -> None:
        logger.info("proposes: %s", command)
        outcome = await self._log.propose(command)
        if not outcome.applied:
            logger.info("rejected: %s", outcome.rejection)
        self._wake.set()

    async def _reshape(self, wanted: Reshape) -> None:
        """Raft refuses what could cost the quorum; the next look tries again."""
        try:
            await self._raft.change_membership(wanted.voters, wanted.learners, RESHAPE_SECONDS)
        except ChangeRefused as error:
            self.refusals += (Refusal(Reason.RAFT_REFUSED, str(error)),)
            return
        logger.info("Raft's configuration is %s", wanted)
        self._wake.set()

    async def _tell(self, refusals: tuple[Refusal, ...]) -> None:
        before = tuple(r for r in self.refusals if r.reason is not Reason.RAFT_REFUSED)
        self.refusals = refusals
        if refusals != before:
            for refusal in refusals:
                logger.warning("waits: %s: %s", refusal.reason.value, refusal.text)
        state = self._log.state
        for refusal in refusals:
            key = (refusal.reason, state.epoch)
            if refusal.reason in _WORTH_A_LINE and state.primary and key not in self._told:
                self._told.add(key)
                record = Record(kind="held-back", member=state.primary, epoch=state.epoch, why=refusal.text)
                await self._log.propose(record)

    # --- what people ask for ---------------------------------------------------------------------------

    async def operate(self, operation: Operation) -> OperationResult:
        """Carry out a request on this leader. Raises NotLeader, ProposalLost, TimeoutError."""
        if not self._current:
            await self._raft.read_index(READ_SECONDS)
        match operation:
            case Propose(command):
                return await self._commit(command)
            case Switchover():
                return await self._change(operation, request_switchover)
            case Failover():
                return await self._change(operation, request_failover)
            case ChangeMember():
                return await self._change_member(operation)

    async def _change_member(self, operation: ChangeMember) -> OperationResult:
        state = self._log.state
        decided = _member_decision(state, self.view(), operation)
        if isinstance(decided, list):
            return refused(decided) if decided else OperationResult(applied=False, plan=(NOTHING,))
        if operation.dry_run:
            return OperationResult(applied=False, plan=steps(state, decided), target=operation.name)
        result = await self._commit(decided)
        return msgspec.structs.replace(result, target=operation.name)

    async def _change(self, operation: Switchover | Failover, plan: _Request) -> OperationResult:
        state = self._log.state
        decided = plan(state, self.view(), target=operation.target, by=operation.by)
        if isinstance(decided, list):
            return refused(decided)
        if operation.dry_run:
            return OperationResult(applied=False, plan=_steps(state, decided), target=decided.target)
        result = await self._commit(decided)
        return msgspec.structs.replace(result, target=decided.target)

    async def _commit(self, command: AnyCommand) -> OperationResult:
        outcome = await self._log.propose(command)
        self._wake.set()
        if outcome.rejection is not None:
            reason = outcome.rejection.value
            return OperationResult(applied=False, reason=reason, text=f"the log rejected it: {reason}")
        return OperationResult(applied=True, index=self._log.applied_index)


def _member_decision(state: ClusterState, view: ClusterView, operation: ChangeMember) -> Requested | list[Refusal]:
    name, by = operation.name, operation.by
    match operation.change:
        case MemberChange.ADD:
            assert operation.member is not None
            return request_add(state, operation.member, by=by)
        case MemberChange.REMOVE:
            return request_removal(state, view, name, by=by)
        case MemberChange.REBUILD:
            return request_rebuild(state, view, name, by=by)
        case MemberChange.SET:
            to = operation
            return request_set(state, view, name, role=to.role, zone=to.zone, priority=to.priority, by=by)
        case MemberChange.REJOIN:
            return request_rejoin(state, view, name, by=by)


class _Request(Protocol):
    def __call__(
        self, state: ClusterState, view: ClusterView, *, target: str, by: str
    ) -> BeginSwitchover | BeginFailover | list[Refusal]: ...


def refused(refusals: list[Refusal]) -> OperationResult:
    first, *others = refusals
    text = "; ".join([first.text, *(r.text for r in others)])
    return OperationResult(applied=False, reason=first.reason.value, text=text, hint=first.hint)


def _steps(state: ClusterState, decided: BeginSwitchover | BeginFailover) -> tuple[str, ...]:
    if isinstance(decided, BeginSwitchover):
        return (
            f"epoch {state.epoch + 1} begins: {state.primary} becomes read-only, its running commits end first",
            f"{decided.target} receives and applies everything that {state.primary} has",
            f"{decided.target} becomes writable",
            f"the other replicas and {state.primary} follow {decided.target}",
        )
    return (
        f"epoch {state.epoch + 1} begins: {state.primary} is fenced",
        f"at least {state.fence_quorum()} members of the sync set stop receiving and say what they hold",
        f"{decided.target or 'the most advanced of them'} applies what it received and becomes writable",
        "the others follow it",
    )
