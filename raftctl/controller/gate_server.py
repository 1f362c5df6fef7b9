"""The controller's side of mysqld's gate: answers whether the own mysqld may start (rule R9)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from raftctl.cluster.codec import from_json, to_json
from raftctl.cluster.commands import Record
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import ClusterState
from raftctl.controller.gate_protocol import LINE_BYTES_MAX, Answer, Compared, MayCut, MayStart, Question, Tell
from raftctl.errors import MySQLError
from raftctl.planner.gate import Compare, Start, Wait, decide_gate

logger = logging.getLogger(__name__)

READ_SECONDS: Final = 2.0
NO_QUORUM: Final = Wait("no majority of the controllers confirms who is primary")


class GateServer:
    """`current` returns a state that was applied after the call and confirmed by a majority; it raises TimeoutError.
    `ask_primary` reads what a member's mysqld holds, blocking; it raises MySQLError. `note` gets what mysqld waits for,
    "" when it waits no more."""

    def __init__(
        self,
        *,
        me: str,
        current: Callable[[float], Awaitable[ClusterState]],
        ask_primary: Callable[[str], GTIDSet],
        record: Callable[[Record], None],
        note: Callable[[str], None],
    ) -> None:
        self._me = me
        self._current = current
        self._ask_primary = ask_primary
        self._record = record
        self._note = note

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Answer on the unix socket `path`, which is in a directory that is closed to others."""
        server = await asyncio.start_unix_server(self._serve, path, limit=LINE_BYTES_MAX)
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection is one start of mysqld."""
        visit = _Visit()
        try:
            while line := await reader.readline():
                answer = await self._answer(from_json(line, Question), visit)
                writer.write(to_json(answer) + b"\n")
                await writer.drain()
        except (OSError, ValueError, msgspec.DecodeError) as error:
            logger.warning("the gate of mysqld broke off: %s", error)
        finally:
            self._note("")
            writer.close()

    async def _answer(self, question: Question, visit: _Visit) -> Answer:
        match question:
            case Tell(kind, why, detail):
                epoch = visit.state.epoch if visit.state else 0
                self._record(Record(kind=kind, member=self._me, epoch=epoch, why=why, by=self._me, detail=detail))
                return Start("told")
            case MayCut(epoch):
                return await self._may_cut(epoch)
            case MayStart():
                answer = await self._may_start(visit)
                self._note(f"mysqld waits to be started: {answer.why}" if isinstance(answer, Wait) else "")
                return answer

    async def _may_start(self, visit: _Visit) -> Answer:
        try:
            state = await self._current(READ_SECONDS)
        except TimeoutError:
            return NO_QUORUM
        verdict = decide_gate(state, self._me, waited=visit.seconds(state))
        if not isinstance(verdict, Compare):
            return verdict
        try:
            held = await asyncio.to_thread(self._ask_primary, verdict.primary)
        except MySQLError as error:
            return Wait(f"{verdict.primary} does not say what it holds: {error}")
        # A primary that is still promoting may not have applied yet all that it holds: the floor says what that was.
        return Compared(primary=verdict.primary, epoch=state.epoch, held=held | state.floor)

    async def _may_cut(self, epoch: int) -> Answer:
        try:
            state = await self._current(READ_SECONDS)
        except TimeoutError:
            return NO_QUORUM
        if state.epoch != epoch or state.primary in ("", self._me) or self._me in state.sync_set:
            return Wait("the primary changed")
        return Start(f"{state.primary} is the primary of epoch {epoch}")


class _Visit:
    """What is remembered of one start of mysqld."""

    def __init__(self) -> None:
        self.state: ClusterState | None = None
        self._since = 0.0

    def seconds(self, state: ClusterState) -> float:
        """Since when a state was known to be current."""
        now = asyncio.get_running_loop().time()
        if self.state is None:
            self._since = now
        self.state = state
        return now - self._since
