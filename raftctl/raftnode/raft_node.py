"""The asyncio driver of one Raft node: it owns the core, the write-ahead log and the connections to the
peers.

All of Raft runs on the event loop; only the log is written on a thread of its own. The order of `Ready` is
kept by `_drain`: messages leave, the write is queued, committed entries are applied; `persisted` is called
when the thread reports that the write is durable, and releases what depended on it.

A process that was stopped for a while (SIGSTOP, a blocked loop, a suspended virtual machine) finds old
messages in its sockets. A *leader* first lets its timers see the new time, so that it steps down before it
believes anything; the others read their messages first, since among them are the heartbeats that prove that
the leader lives.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from raftctl.consensus.raft import Raft
from raftctl.consensus.types import (
    Config,
    Entry,
    EntryKind,
    Event,
    NotLeader,
    ReadResult,
    Ready,
    Role,
    Snapshot,
)
from raftctl.errors import RaftctlError
from raftctl.raftnode.events import NodeEvent, NodeEventKind
from raftctl.raftnode.transport import RENEWED, Address, PeerTransport, TLSContexts
from raftctl.raftnode.waiting import ProposalLost, Proposals, Reads
from raftctl.raftnode.wal import Wal
from raftctl.raftnode.wal_writer import WalWriter, Write, end_process
from raftctl.raftnode.wire import AppMessage, ClusterKey, PeerMessage, ReadIndexReply, ReadIndexRequest

__all__ = ["COMPACT_AFTER_BYTES", "MAX_COMMAND_BYTES", "NodeStopped", "ProposalLost", "RaftNode", "RaftStatus"]

MAX_COMMAND_BYTES: Final = 1 << 20
MAX_SNAPSHOT_BYTES: Final = 8 << 20
COMPACT_AFTER_BYTES: Final = 4 << 20
INQUIRY_SECONDS: Final = 1.5  # a little longer than one attempt to connect


class NodeStopped(RaftctlError):
    """The node was stopped meanwhile; a proposal that waited may still take effect."""


class RaftStatus(msgspec.Struct, frozen=True):
    """`quorum_contact_age`: seconds since a majority was last known to follow this leader; None for
    others. `hung_up`: peers that ended their connection themselves, and for how many seconds they have been away."""

    node_id: str
    term: int
    role: Role
    leader: str
    commit_index: int
    applied_index: int
    last_index: int
    voters: tuple[str, ...]
    learners: tuple[str, ...]
    connected: tuple[str, ...]
    hung_up: dict[str, float]
    quorum_contact_age: float | None


class RaftNode:
    """One member of the Raft group.

    `apply` is given every committed COMMAND entry exactly once per process, in order, from the first of the
    log on; what it returns is what `propose` returns. It runs on the loop and must be deterministic: an
    exception from it ends the process. With `take_snapshot` (the state as bytes, up to MAX_SNAPSHOT_BYTES)
    and `load_snapshot` (replace the state) the log is compacted whenever it has grown by
    `compact_after_bytes`; `apply` then begins after the newest snapshot. `on_role_change(role, term, leader)`
    comes after any of the three changed. `on_fatal` must not return.

    Rule R10: a node takes no part before it has asked every peer once, and none any more when a peer proved that there
    is a later incarnation, which `on_superseded` is told. So members that were excluded by force and start together
    do not form the old group when they can reach anybody who knows better.
    """

    def __init__(
        self,
        *,
        config: Config,
        cluster_id: str,
        incarnation: int,
        key: ClusterKey,
        directory: Path,
        listen: Address,
        peers: Mapping[str, Address],
        apply: Callable[[Entry], Any],
        take_snapshot: Callable[[], bytes] | None = None,
        load_snapshot: Callable[[bytes], None] | None = None,
        compact_after_bytes: int = COMPACT_AFTER_BYTES,
        on_event: Callable[[Event | NodeEvent], None] = lambda _event: None,
        on_app_message: Callable[[str, bytes], None] = lambda _peer, _body: None,
        on_role_change: Callable[[Role, int, str], None] = lambda _role, _term, _leader: None,
        on_superseded: Callable[[int, str], None] = lambda _incarnation, _branch: None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        tls: TLSContexts | None = None,
        uids: Mapping[str, str] | None = None,
        other_keys: Sequence[ClusterKey] = (),
        branch: str = "",
        on_fatal: Callable[[BaseException], NoReturn] = end_process,
    ) -> None:
        self._config = config
        self._cluster_id = cluster_id
        self._directory = directory
        assert (take_snapshot is None) == (load_snapshot is None)
        self._apply = apply
        self._take_snapshot = take_snapshot
        self._load_snapshot = load_snapshot
        self._compact_after_bytes = compact_after_bytes
        self._on_event = on_event
        self._on_app_message = on_app_message
        self._on_role_change = on_role_change
        self._on_superseded = on_superseded
        self._takes_part = False  # what Raft misses meanwhile is sent again
        self._is_superseded = False
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 (timeouts and back-off, not secrets)
        self._on_fatal = on_fatal
        self._transport = self._make_transport(
            cluster_id=cluster_id,
            incarnation=incarnation,
            key=key,
            other_keys=other_keys,
            listen=listen,
            peers=peers,
            tls=tls,
            uids=uids,
            branch=branch,
        )
        self._proposals = Proposals()
        self._reads = Reads(self._transport.send)
        self._raft: Raft
        self._writer: WalWriter
        self._running = False
        self._applied_index = 0
        self._compacting = False
        self._compacted_bytes = 0  # size of the log after the last compaction
        self._seen: tuple[Role, int, str] = (Role.FOLLOWER, 0, "")
        self._not_leading = asyncio.Event()
        self._not_leading.set()
        self._drain_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def _make_transport(self, **who: Any) -> PeerTransport:
        return PeerTransport(
            node_id=self._config.node_id,
            on_connected=self._peer_connected,
            on_disconnected=self._peer_disconnected,
            on_messages=self._received,
            on_event=self._on_event,
            on_superseded=self._superseded,
            settled=self._settled,
            rng=self._rng,
            **who,
        )

    # --- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the log, listen, ask the peers, take part. Raises the errors of `Wal.open`, OSError when it cannot
        listen."""
        wal, recovered = await asyncio.to_thread(
            Wal.open, self._directory, cluster_id=self._cluster_id, node_id=self._config.node_id
        )
        if recovered.torn_bytes:
            detail = {"path": str(wal.path), "offset": recovered.torn_at, "bytes": recovered.torn_bytes}
            self._on_event(NodeEvent(NodeEventKind.TORN_TAIL_CUT, detail))
        if recovered.snapshot is not None:
            self._restore(recovered.snapshot)
        self._raft = Raft(
            self._config,
            recovered.hard_state,
            recovered.entries,
            self._rng,
            self._clock(),
            recovered.snapshot,
        )
        self._writer = WalWriter(wal, on_written=self._written, on_compacted=self._compacted, on_fatal=self._on_fatal)
        self._running = True
        try:
            await self._transport.start()
            await self._transport.asked_everybody(INQUIRY_SECONDS)
        except BaseException:
            await self.stop()
            raise
        self._takes_part = not self._is_superseded
        self._drain()

    async def stop(self) -> None:
        """Leave the group in good order; whoever waits for something gets NodeStopped."""
        if not self._running:
            return
        self._running = False
        await self._transport.stop()
        for handle in (self._timer, self._drain_handle):
            if handle is not None:
                handle.cancel()
        await self._writer.stop()
        self._proposals.fail(NodeStopped("this node was stopped"))
        self._reads.fail(NodeStopped("this node was stopped"))

    # --- use ------------------------------------------------------------------------------------------

    def propose(self, data: bytes, timeout: float) -> asyncio.Future[Any]:
        """Have a command committed; the future tells what `apply` returned for it.

        Raises NotLeader at once, and ValueError when it is larger than MAX_COMMAND_BYTES. The future raises
        ProposalLost when it certainly never took effect; TimeoutError after `timeout` seconds, when it may still take
        effect later. A future and not a coroutine: whoever does not wait in a task saves a pass of the loop.
        """
        if len(data) > MAX_COMMAND_BYTES:
            raise ValueError(f"a command of {len(data)} bytes is larger than {MAX_COMMAND_BYTES}")
        self._require_running()
        self._let_a_stale_leader_step_down()
        return self._committed(self._raft.propose(data, self._clock()), timeout)

    async def change_membership(self, voters: Sequence[str], learners: Sequence[str], timeout: float) -> None:
        """Replace the configuration by one that differs in at most one voter (thesis 4.1), and wait until
        that is committed. `set_peers` must have connected a new node before. Raises ChangeRefused, and as
        `propose`."""
        self._require_running()
        self._let_a_stale_leader_step_down()
        await self._committed(self._raft.change_membership(voters, learners, self._clock()), timeout)

    def _committed(self, index: int, timeout: float) -> asyncio.Future[Any]:
        """What becomes of the entry that was just appended at `index`."""
        self._schedule_drain()
        return self._proposals.wait(index, self._raft.term, timeout)

    async def read_index(self, timeout: float) -> int:
        """An index that this node has applied by now and that covers everything committed before the call: a
        read of its state is linearizable. Asks again while there is no leader. Raises TimeoutError,
        NodeStopped."""
        async with asyncio.timeout(timeout):
            while True:
                index = await self._ask_read_index()
                if index is not None:
                    break
                await asyncio.sleep(self._config.heartbeat_interval)
            if index > self._applied_index:
                await self._reads.wait_until_applied(index)
        return index

    async def transfer(self, to: str, timeout: float) -> None:
        """Hand the leadership to `to`; returns when this node does not lead any more. Raises NotLeader,
        ValueError (`to` is not another voter), TimeoutError."""
        self._let_a_stale_leader_step_down()
        self._raft.transfer(to, self._clock())
        self._schedule_drain()
        async with asyncio.timeout(timeout):
            await self._not_leading.wait()

    def send_app(self, peer: str, body: bytes) -> bool:
        """Send bytes to a peer's `on_app_message`. False when it is not connected; True promises nothing."""
        return self._transport.send(peer, AppMessage(body))

    def set_peers(self, peers: Mapping[str, Address], uids: Mapping[str, str] | None = None) -> None:
        """Connect to these nodes, and to no others. `uids`: see PeerTransport."""
        self._transport.set_peers(peers, uids)

    def set_tls(self, contexts: TLSContexts) -> None:
        """Other certificates, without a pause: see PeerTransport."""
        self._transport.set_tls(contexts)

    def set_keys(self, key: ClusterKey, other_keys: Sequence[ClusterKey]) -> None:
        """Another cluster key, without a pause: see PeerTransport."""
        self._transport.set_keys(key, other_keys)

    async def connections_renewed(self) -> None:
        """Returns when no connection of before the last `set_tls` or `set_keys` is left."""
        await self._transport.renewed()

    def quorum_contact(self) -> float:
        """The latest time (of `clock`) such that a majority answered a heartbeat sent at or after it; -inf
        when none did yet. The base of leases (rule R7). Raises NotLeader."""
        self._let_a_stale_leader_step_down()
        return self._raft.quorum_contact(self._clock())

    def status(self) -> RaftStatus:
        """What this node knows now; never a leadership that the time has ended already."""
        self._let_a_stale_leader_step_down()
        raft = self._raft
        age = None
        if raft.role is Role.LEADER:
            now = self._clock()
            age = now - raft.quorum_contact(now)
        return RaftStatus(
            node_id=self._config.node_id,
            term=raft.term,
            role=raft.role,
            leader=raft.leader,
            commit_index=raft.commit_index,
            applied_index=self._applied_index,
            last_index=raft.last_index,
            voters=raft.voters,
            learners=raft.learners,
            connected=tuple(sorted(self._transport.connected)),
            hung_up=self._transport.hung_up,
            quorum_contact_age=age,
        )

    @property
    def address(self) -> Address:
        """Where this node listens."""
        return self._transport.address

    # --- inputs, each followed by a drain -------------------------------------------------------------

    def _superseded(self, incarnation: int, branch: str) -> None:
        if not self._is_superseded:
            self._is_superseded, self._takes_part = True, False
            self._on_superseded(incarnation, branch)

    def _received(self, peer: str, messages: list[PeerMessage]) -> None:
        if not self._takes_part:
            return
        self._let_a_stale_leader_step_down()
        now = self._clock()
        loop = asyncio.get_running_loop()
        for message in messages:
            if isinstance(message, AppMessage):
                # From the loop, not from here: an error in the controller's handler must not touch Raft.
                loop.call_soon(self._on_app_message, peer, message.body)
            elif isinstance(message, ReadIndexRequest):
                self._forwarded_read(peer, message.request_id)
            elif isinstance(message, ReadIndexReply):
                self._reads.leader_answered(message)
            elif message.sender == peer:
                self._input(self._raft.step, message, now)
            else:
                self._transport.drop(peer, "speaks-for-another-node")
                return
        self._drain()

    def _peer_connected(self, peer: str) -> None:
        self._on_event(NodeEvent(NodeEventKind.PEER_CONNECTED, {"peer": peer}))

    def _peer_disconnected(self, peer: str, reason: str) -> None:
        self._on_event(NodeEvent(NodeEventKind.PEER_DISCONNECTED, {"peer": peer, "reason": reason}))
        if not self._running:
            return
        self._reads.peer_lost(peer)
        self._input(partial(self._raft.peer_lost, renewed=reason in RENEWED), peer, self._clock())
        self._drain()

    async def _settled(self, peer: str) -> None:
        since = self._clock()
        while self._running and not self._raft.has_settled(peer, since, self._clock()):  # noqa: ASYNC110 (no event)
            await asyncio.sleep(self._config.heartbeat_interval / 4)

    def _written(self, ticket: int) -> None:
        if self._running:
            self._input(self._raft.persisted, ticket, self._clock())
            self._drain()

    def _timer_fired(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._input(self._raft.tick, self._clock())
        self._drain()

    def _let_a_stale_leader_step_down(self) -> None:
        now = self._clock()
        # The timer is never armed later than the deadline, and costs nothing to look at.
        if now >= self._timer_at and self._raft.role is Role.LEADER and now >= self._raft.deadline:
            self._input(self._raft.tick, now)
            self._schedule_drain()

    def _input(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001 (a broken invariant: the next step could break a promise)
            self._on_fatal(error)

    # --- output ---------------------------------------------------------------------------------------

    def _schedule_drain(self) -> None:
        """Drain at the end of this iteration of the loop, so that proposals made together travel together."""
        if self._drain_handle is None:
            self._drain_handle = asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        if self._drain_handle is not None:
            self._drain_handle.cancel()
            self._drain_handle = None
        if not self._takes_part:
            return
        try:
            self._obey(self._raft.ready())
        except Exception as error:  # noqa: BLE001 (as in _input; `apply` is part of what must not fail)
            self._on_fatal(error)
        self._arm_timer()
        seen = (self._raft.role, self._raft.term, self._raft.leader)
        if seen != self._seen:
            self._seen = seen
            if self._raft.role is Role.LEADER:
                self._not_leading.clear()
            else:
                self._not_leading.set()
            self._on_role_change(*seen)

    def _obey(self, ready: Ready) -> None:
        if ready.messages:
            for message in ready.messages:
                self._transport.queue(message.to, message)
            self._transport.flush()
        if ready.ticket:
            self._writer.submit(Write(ready.ticket, ready.hard_state, ready.entries, ready.snapshot))
        if ready.restore is not None:
            self._restore(ready.restore)
        for entry in ready.committed:
            self._apply_entry(entry)
        if ready.committed:
            self._compact_if_large()
        for read in ready.reads:
            self._reads.core_answered(read)
        for event in ready.events:
            self._on_event(event)

    def _arm_timer(self) -> None:
        """Heartbeats push the deadline back all the time; an armed timer is left alone and looks again when
        it fires, so that this costs next to nothing."""
        deadline = self._raft.deadline
        if self._timer_at <= deadline or deadline == math.inf or not self._running:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, deadline - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._timer_fired)
        self._timer_at = deadline

    def _apply_entry(self, entry: Entry) -> None:
        result = self._apply(entry) if entry.kind is EntryKind.COMMAND else None
        self._applied_index = entry.index
        self._proposals.applied(entry, result)
        self._reads.applied(entry.index)

    # --- snapshots ------------------------------------------------------------------------------------

    def _restore(self, snapshot: Snapshot) -> None:
        assert self._load_snapshot is not None, "a snapshot, but a state machine that takes none"
        self._load_snapshot(snapshot.data)
        self._applied_index = snapshot.index
        self._proposals.restored(snapshot.index)
        self._reads.applied(snapshot.index)

    def _compact_if_large(self) -> None:
        grown = self._writer.log_bytes - self._compacted_bytes
        if self._take_snapshot is None or self._compacting or grown < self._compact_after_bytes:
            return
        data = self._take_snapshot()
        if len(data) > MAX_SNAPSHOT_BYTES:
            # It could not be sent to a member that needs it. The log grows on: slower restarts, nothing
            # worse.
            self._compacted_bytes = self._writer.log_bytes
            self._on_event(NodeEvent(NodeEventKind.SNAPSHOT_TOO_LARGE, {"bytes": len(data)}))
            return
        self._compacting = True
        self._writer.compact(self._raft.snapshot(data))

    def _compacted(self, snapshot: Snapshot) -> None:
        self._compacting = False
        self._compacted_bytes = self._writer.log_bytes
        self._on_event(
            NodeEvent(NodeEventKind.LOG_COMPACTED, {"index": snapshot.index, "bytes": self._compacted_bytes})
        )
        if self._running:
            self._input(self._raft.compacted, snapshot, self._clock())
            self._drain()

    # --- reads ----------------------------------------------------------------------------------------

    def _require_running(self) -> None:
        if not self._running:
            raise NodeStopped("this node was stopped")

    async def _ask_read_index(self) -> int | None:
        """Ask the leader, wherever it is. None: there is none, or it lost the leadership meanwhile."""
        self._require_running()
        self._let_a_stale_leader_step_down()
        if self._raft.role is not Role.LEADER:
            asked = self._reads.ask_leader(self._raft.leader)
            return None if asked is None else await asked
        request_id, future = self._reads.ask_core()
        self._raft.read_index(request_id, self._clock())
        self._schedule_drain()
        return await future

    def _forwarded_read(self, peer: str, peers_request_id: int) -> None:
        request_id = self._reads.ask_core_for(peer, peers_request_id)
        try:
            self._raft.read_index(request_id, self._clock())
        except NotLeader:
            self._reads.core_answered(ReadResult(request_id, None))
