"""Who waits for what in a RaftNode: callers for their proposals and reads, followers for reads that they
asked this leader for. Bookkeeping only; the driver says what happened.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from raftctl.consensus.types import Entry, ReadResult
from raftctl.errors import RaftctlError
from raftctl.raftnode.wire import PeerMessage, ReadIndexReply, ReadIndexRequest


class ProposalLost(RaftctlError):
    """Another entry was committed in the proposal's place: it never took effect."""

    def __init__(self, index: int) -> None:
        super().__init__(f"another entry was committed at index {index}", hint="propose it again")


class Proposals:
    """Callers that wait for an entry which they proposed to be applied."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[int, asyncio.Future[Any]]] = {}  # by index; with the entry's term

    def wait(self, index: int, term: int, timeout: float) -> asyncio.Future[Any]:
        """What applying the entry returns; ProposalLost when another one is applied in its place, TimeoutError after
        `timeout` seconds."""
        # An index that is proposed again was lost before: by an earlier leadership, whose entries were
        # truncated.
        _, earlier = self._waiting.pop(index, (0, None))
        if earlier is not None and not earlier.done():
            earlier.set_exception(ProposalLost(index))
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        timer = loop.call_later(timeout, _give_up, future)
        future.add_done_callback(partial(self._forget, index, timer))
        self._waiting[index] = (term, future)
        return future

    def _forget(self, index: int, timer: asyncio.TimerHandle, future: asyncio.Future[Any]) -> None:
        """The caller waits no longer."""
        timer.cancel()
        if self._waiting.get(index, (0, None))[1] is future:
            del self._waiting[index]

    def applied(self, entry: Entry, result: Any) -> None:
        term, future = self._waiting.pop(entry.index, (0, None))
        if future is None or future.done():
            return
        if term == entry.term:
            future.set_result(result)
        else:
            future.set_exception(ProposalLost(entry.index))

    def restored(self, index: int) -> None:
        """A snapshot replaced everything up to `index`: what became of the proposals there cannot be told."""
        for covered in [i for i in self._waiting if i <= index]:
            _, future = self._waiting.pop(covered)
            if not future.done():
                future.set_exception(TimeoutError("a snapshot covers the proposal; it may have taken effect"))

    def fail(self, error: RaftctlError) -> None:
        _fail((future for _, future in self._waiting.values()), error)


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("no majority answered in time; the proposal may still take effect"))


class _Forwarded(msgspec.Struct, frozen=True):
    """A read that a follower asked this leader for."""

    peer: str
    request_id: int


class Reads:
    """Linearizable reads: asked of this node's core, by its own callers and for followers, or of another
    leader."""

    def __init__(self, send: Callable[[str, PeerMessage], bool]) -> None:
        self._send = send
        self._request_ids = itertools.count(1)
        self._of_core: dict[int, asyncio.Future[int | None] | _Forwarded] = {}
        self._of_leader: dict[int, tuple[str, asyncio.Future[int | None]]] = {}
        self._until_applied: list[tuple[int, asyncio.Future[None]]] = []

    def ask_core(self) -> tuple[int, asyncio.Future[int | None]]:
        """The id for `Raft.read_index`, and the index that it answers (None: ask again)."""
        request_id = next(self._request_ids)
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._of_core[request_id] = future
        future.add_done_callback(lambda _future: self._of_core.pop(request_id, None))
        return request_id, future

    def ask_leader(self, leader: str) -> asyncio.Future[int | None] | None:
        """The index that `leader` answers (None: ask again); None when it cannot be asked."""
        request_id = next(self._request_ids)
        if not self._send(leader, ReadIndexRequest(request_id)):
            return None
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._of_leader[request_id] = (leader, future)
        future.add_done_callback(lambda _future: self._of_leader.pop(request_id, None))
        return future

    def ask_core_for(self, peer: str, peers_request_id: int) -> int:
        """The id for `Raft.read_index`; the answer goes to `peer`."""
        request_id = next(self._request_ids)
        self._of_core[request_id] = _Forwarded(peer, peers_request_id)
        return request_id

    def core_answered(self, result: ReadResult) -> None:
        asked = self._of_core.pop(result.request_id, None)
        if isinstance(asked, _Forwarded):
            self._send(asked.peer, ReadIndexReply(asked.request_id, result.index))
        elif asked is not None and not asked.done():
            asked.set_result(result.index)

    def leader_answered(self, reply: ReadIndexReply) -> None:
        _, future = self._of_leader.get(reply.request_id, ("", None))
        if future is not None and not future.done():
            future.set_result(reply.index)

    def peer_lost(self, peer: str) -> None:
        """`peer` answers no more what it was asked."""
        for asked, future in list(self._of_leader.values()):
            if asked == peer and not future.done():
                future.set_result(None)

    def wait_until_applied(self, index: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._until_applied.append((index, future))
        return future

    def applied(self, applied_index: int) -> None:
        if not self._until_applied:
            return
        due = [future for index, future in self._until_applied if index <= applied_index]
        self._until_applied = [(i, future) for i, future in self._until_applied if i > applied_index]
        for future in due:
            if not future.done():
                future.set_result(None)

    def fail(self, error: RaftctlError) -> None:
        _fail((f for f in list(self._of_core.values()) if not isinstance(f, _Forwarded)), error)
        _fail((future for _, future in list(self._of_leader.values())), error)
        _fail((future for _, future in self._until_applied), error)


def _fail(futures: Iterable[asyncio.Future[Any]], error: RaftctlError) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
