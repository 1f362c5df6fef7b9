"""The cluster state on this node, and the way to change it: commands through the Raft log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from raftctl.cluster.apply import Outcome, apply
from raftctl.cluster.codec import pack, unpack
from raftctl.cluster.commands import AnyCommand
from raftctl.cluster.state import ClusterState, Phase
from raftctl.consensus.types import Entry

PROPOSE_TIMEOUT = 5.0


class Log(Protocol):
    """What is needed of RaftNode."""

    def propose(self, data: bytes, timeout: float) -> Awaitable[Outcome]: ...


class ClusterLog:
    """`state` is what the applied log says; `version_since` is when (monotonic seconds) it got its version, and
    `failover_since` when the last failover in it began: no earlier than this process started, which errs by waiting."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = ClusterState()
        self.applied_index = 0
        self._clock = clock
        self.version_since = self.failover_since = clock()
        self._watchers: list[asyncio.Event] = []
        self._listeners: list[Callable[[ClusterState, ClusterState], None]] = []
        self._log: Log | None = None

    def attach(self, log: Log) -> None:
        self._log = log

    def apply(self, entry: Entry) -> Outcome:
        """Apply a committed entry: RaftNode's callback. An entry that cannot be decoded ends the process: it was
        written by a newer version, and guessing would make this node disagree with the others."""
        command: AnyCommand = unpack(entry.data, AnyCommand)
        state, outcome = apply(self.state, command, entry.index)
        self.applied_index = entry.index
        self._become(state)
        return outcome

    def take_snapshot(self) -> bytes:
        return pack(self.state)

    def load_snapshot(self, data: bytes) -> None:
        """Continue from another state: at the start, or when the leader's log no longer has what this node lacks."""
        self._become(unpack(data, ClusterState))

    def _become(self, after: ClusterState) -> None:
        before, self.state = self.state, after
        if after.version != before.version:
            self.version_since = self._clock()
        if after.epoch != before.epoch and after.phase is Phase.FAILOVER:
            self.failover_since = self._clock()
        if after is not before:
            for listener in self._listeners:
                listener(before, after)
            for watcher in self._watchers:
                watcher.set()

    def watch(self) -> asyncio.Event:
        """An event that is set at every change of the state; its owner clears it."""
        event = asyncio.Event()
        self._watchers.append(event)
        return event

    def listen(self, listener: Callable[[ClusterState, ClusterState], None]) -> None:
        """Call `listener(before, after)` on the loop at every change, before anything else happens."""
        self._listeners.append(listener)

    async def propose(self, command: AnyCommand) -> Outcome:
        """Have `command` committed with the time of now. Raises as RaftNode.propose: NotLeader, ProposalLost,
        TimeoutError (it may still take effect)."""
        assert self._log is not None
        stamped = msgspec.structs.replace(command, at_ms=int(time.time() * 1000))
        return await self._log.propose(pack(stamped), PROPOSE_TIMEOUT)
