"""Authenticated connections between controllers: one full-duplex TCP connection per pair.

One connection instead of one per direction: replies carry TCP's acknowledgements of what they answer (half
the packets), and there is one state per peer, connected or not. The smaller node id of a pair dials. So that
a larger one which (re)starts need not wait until the other's back-off has passed, it *knocks*: it opens a
connection, is recognised, closes it, and is dialled at once. A pair never has two connections to choose from.

`send` never blocks and never waits for a connection: Raft sends again what matters.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from raftctl.raftnode.connection import EOF, HANDSHAKE_TIMEOUT, RESET, Connection
from raftctl.raftnode.events import NodeEvent, NodeEventKind
from raftctl.raftnode.wire import (
    UNDECIDED,
    AcceptorHandshake,
    ClusterKey,
    DiallerHandshake,
    Identity,
    PeerMessage,
    Refusal,
    Refused,
    encode_message,
)
from raftctl.tls import Subject, why_not_accepted

CONNECT_TIMEOUT: Final = 1.0
BACKOFF_MIN: Final = 0.020
BACKOFF_MAX: Final = 1.0
BACKOFF_MIN_KNOCKING: Final = 0.100  # longer than the other needs to dial again by itself
MAX_UNAUTHENTICATED: Final = 64
RENEWAL_SECONDS_MAX: Final = 5.0  # for one peer to come back before the next one's connection is made anew
CERTIFICATES_CHANGED: Final = "certificates-changed"
KEY_CHANGED: Final = "key-changed"
RENEWED: Final = frozenset({CERTIFICATES_CHANGED, KEY_CHANGED})  # why this side ends a connection to make it anew
_REPORT_INTERVAL: Final = 60.0
_REPORTS_REMEMBERED: Final = 1000


class Address(NamedTuple):
    """Where a controller listens."""

    host: str
    port: int


class TLSContexts(NamedTuple):
    """TLS below the handshake: nobody reads along, and a node can only speak for itself. `server` must ask for a
    certificate; `client` must check the server's against the peer's node id."""

    server: ssl.SSLContext
    client: ssl.SSLContext


class _Peer:
    def __init__(self, node_id: str, address: Address, uid: str) -> None:
        self.node_id = node_id
        self.address = address
        self.uid = uid
        self.connection: Connection | None = None
        self.hung_up_at: float | None = None
        self.connected = asyncio.Event()
        self.disconnected = asyncio.Event()
        self.disconnected.set()
        self.asked = asyncio.Event()  # the first attempt to reach it has ended, one way or the other
        self.knocked = asyncio.Event()
        self.dialling: asyncio.Task[None] | None = None


class PeerTransport:
    """Keeps a connection to every peer and hands over what arrives.

    Callbacks run on the event loop: `on_connected(peer)`, `on_disconnected(peer, reason)` (strictly in
    turns), `on_messages(peer, messages)`, `on_event(event)`, `on_superseded(incarnation, branch)` when a peer proves
    that there is a later incarnation than this node's. `dead_after` (seconds) is when a connection that does not move
    counts as dead; a peer's EOF counts at once. `uids` tell hosts, this one among them, from earlier ones of the same
    name, which are not let in. `other_keys` are accepted of those that are dialled, while the key is replaced.
    `settled(peer)` returns when losing the next connection does no harm, after the one to `peer` was made anew.
    """

    def __init__(
        self,
        *,
        cluster_id: str,
        incarnation: int,
        node_id: str,
        key: ClusterKey,
        listen: Address,
        peers: Mapping[str, Address],
        on_connected: Callable[[str], None],
        on_disconnected: Callable[[str, str], None],
        on_messages: Callable[[str, list[PeerMessage]], None],
        on_event: Callable[[NodeEvent], None],
        on_superseded: Callable[[int, str], None] = lambda _incarnation, _branch: None,
        rng: random.Random,
        tls: TLSContexts | None = None,
        dead_after: float = 2.0,
        uids: Mapping[str, str] | None = None,
        other_keys: Sequence[ClusterKey] = (),
        branch: str = "",
        settled: Callable[[str], Awaitable[None]] = lambda _peer: asyncio.sleep(0),
    ) -> None:
        uids = uids or {}
        self._settled = settled
        self._other_keys = tuple(other_keys)
        self._me = Identity(cluster_id, incarnation, node_id, secrets.token_bytes(8), uids.get(node_id, ""), branch)
        self._key = key
        self._listen = listen
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_messages = on_messages
        self._on_event = on_event
        self._on_superseded = on_superseded
        self._rng = rng
        self._tls = tls
        self._dead_after = dead_after
        self._peers = {
            peer: _Peer(peer, address, uids.get(peer, "")) for peer, address in peers.items() if peer != node_id
        }
        self._connections: set[Connection] = set()
        self._unauthenticated: dict[Connection, asyncio.Task[None]] = {}  # accepted, oldest first
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._reported: dict[tuple[NodeEventKind, str, str], float] = {}
        self._renewing: asyncio.Task[None] | None = None

    # --- use ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen and begin to dial. Raises OSError when the address cannot be listened on."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*self._listen, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = found[0]
        self._listener = socket.create_server(address[:2], family=family, backlog=128)
        self._listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept_forever(self._listener))
        for peer in self._peers.values():
            self._begin_dialling(peer)

    async def asked_everybody(self, timeout: float) -> None:
        """Returns when each peer has answered, refused, or could not be reached; after `timeout` seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for peer in list(self._peers.values()):
                    await peer.asked.wait()

    async def stop(self) -> None:
        """Close everything; what was sent before still leaves. No callback comes afterwards."""
        tasks = [p.dialling for p in self._peers.values()]
        tasks += [self._accepting, self._renewing, *self._unauthenticated.values()]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(t for t in tasks if t is not None), return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        self._peers.clear()
        for connection in list(self._connections):
            connection.close("stopped")
        await asyncio.sleep(0)  # transports close their sockets from the loop

    @property
    def address(self) -> Address:
        """Where this node listens (the real port when 0 was asked for)."""
        assert self._listener is not None
        return Address(*self._listener.getsockname()[:2])

    @property
    def connected(self) -> frozenset[str]:
        return frozenset(p.node_id for p in self._peers.values() if p.connection is not None)

    @property
    def hung_up(self) -> dict[str, float]:
        """For how many seconds each peer that ended the connection itself has been away. Not one that TCP gave up,
        nor one that this side left: such a peer may be well."""
        now = asyncio.get_running_loop().time()
        return {p.node_id: now - p.hung_up_at for p in self._peers.values() if p.hung_up_at is not None}

    def send(self, peer_id: str, message: PeerMessage) -> bool:
        """Send at the end of this iteration of the loop. False when there is no connection: the message is gone."""
        peer = self._peers.get(peer_id)
        if peer is None or peer.connection is None:
            return False
        return peer.connection.send(encode_message(message))

    def queue(self, peer_id: str, message: PeerMessage) -> None:
        """Send with the next `flush`, if there is a connection."""
        peer = self._peers.get(peer_id)
        if peer is not None and peer.connection is not None:
            peer.connection.queue(encode_message(message))

    def flush(self) -> None:
        """Write now what waits."""
        for peer in self._peers.values():
            if peer.connection is not None:
                peer.connection.flush()

    def drop(self, peer_id: str, reason: str) -> None:
        """End the connection to a peer that misbehaves; it is dialled again."""
        peer = self._peers.get(peer_id)
        if peer is not None and peer.connection is not None:
            peer.connection.abort(reason)

    def set_peers(self, peers: Mapping[str, Address], uids: Mapping[str, str] | None = None) -> None:
        """The membership changed: connect to these and to no others."""
        uids = uids or {}
        wanted = {peer: address for peer, address in peers.items() if peer != self._me.node_id}
        for peer in list(self._peers.values()):
            if (wanted.get(peer.node_id), uids.get(peer.node_id, "")) != (peer.address, peer.uid):
                self._forget(peer)
        for node_id, address in wanted.items():
            if node_id not in self._peers:
                self._peers[node_id] = peer = _Peer(node_id, address, uids.get(node_id, ""))
                if self._listener is not None:
                    self._begin_dialling(peer)

    def set_incarnation(self, incarnation: int) -> None:
        """A forced membership change happened (rule R10): talk only to those who know of it."""
        self._me = msgspec.structs.replace(self._me, incarnation=incarnation)
        for connection in list(self._connections):
            connection.abort("incarnation-changed")

    def set_tls(self, contexts: TLSContexts) -> None:
        """Other certificates, at once for new connections. Those that were made under the earlier ones are made anew,
        one after the other: whoever is not trusted any more is gone then, and the leader stays the leader."""
        self._tls = contexts
        self._renew(CERTIFICATES_CHANGED)

    def set_keys(self, key: ClusterKey, other_keys: Sequence[ClusterKey]) -> None:
        """Another cluster key and others beside it, at once for new connections. Those that another key opened are made
        anew like under other certificates."""
        before, self._key, self._other_keys = self._key, key, tuple(other_keys)
        if key != before:
            self._renew(KEY_CHANGED)

    async def renewed(self) -> None:
        """Returns when all connections are as `set_tls` or `set_keys` last said."""
        while self._renewing is not None and not self._renewing.done():  # a later one may take its place meanwhile
            await asyncio.wait([self._renewing])

    def _renew(self, reason: str) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        self._renewing = asyncio.create_task(self._renew_connections(reason))

    async def _renew_connections(self, reason: str) -> None:
        for connection in list(self._connections):
            if connection.session is None:
                connection.abort(reason)  # it may be in the middle of the handshake
        for peer in list(self._peers.values()):
            if peer.connection is None:
                continue
            peer.connection.close(reason)
            await peer.disconnected.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEWAL_SECONDS_MAX):
                    await peer.connected.wait()
                    await self._settled(peer.node_id)

    # --- dialling -------------------------------------------------------------------------------------

    def _begin_dialling(self, peer: _Peer) -> None:
        peer.dialling = asyncio.create_task(self._dial_forever(peer))

    def _dials(self, peer_id: str) -> bool:
        """Whether this side of the pair dials; the other one knocks."""
        return self._me.node_id < peer_id

    async def _dial_forever(self, peer: _Peer) -> None:
        shortest = BACKOFF_MIN if self._dials(peer.node_id) else BACKOFF_MIN_KNOCKING
        backoff = shortest
        while True:
            if peer.connection is None:
                peer.knocked.clear()
                # UnicodeError: what the configuration says is not a host name at all
                try:
                    await self._dial(peer)
                except ssl.SSLCertVerificationError as error:
                    detail = f"{peer.node_id}: {why_not_accepted(error)}"
                    self._report(
                        NodeEventKind.CONNECTION_REFUSED, peer.address.host, detail, reason=Refusal.CERTIFICATE
                    )
                except (OSError, TimeoutError, UnicodeError):
                    pass
                peer.asked.set()
            if peer.connection is not None:
                backoff = shortest
                await peer.disconnected.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff * self._rng.uniform(0.5, 1.0)):
                    await peer.knocked.wait()
            backoff = min(backoff * 2, BACKOFF_MAX)

    async def _dial(self, peer: _Peer) -> None:
        """One attempt; returns when the handshake has ended one way or the other."""
        ended = asyncio.Event()

        def opened(connection: Connection) -> None:
            self._opened(connection)
            ended.set()

        def closed(connection: Connection, reason: str) -> None:
            self._closed(connection, reason, peer.address.host)
            ended.set()

        handshake = DiallerHandshake(
            key=self._key, other_keys=self._other_keys, me=self._me, peer_id=peer.node_id, peer_uid=peer.uid
        )
        connection = self._connection(handshake, opened, closed)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    *peer.address,
                    ssl=self._tls.client if self._tls else None,
                    server_hostname=peer.node_id if self._tls else None,
                )
        except BaseException:
            connection.abort("not-connected")
            raise
        await ended.wait()

    # --- accepting ------------------------------------------------------------------------------------

    async def _accept_forever(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors, or the caller gave up while waiting
                self._report(NodeEventKind.ACCEPT_FAILED, "", str(error.strerror))
                await asyncio.sleep(BACKOFF_MAX)
                continue
            if len(self._unauthenticated) >= MAX_UNAUTHENTICATED:
                # Honest peers are through within milliseconds; whoever has waited longest is the least likely
                # one.
                self._evict(next(iter(self._unauthenticated)))
            self._accept(sock, str(address[0]))

    def _accept(self, sock: socket.socket, host: str) -> None:
        def opened(connection: Connection) -> None:
            self._unauthenticated.pop(connection, None)
            self._opened(connection)

        def closed(connection: Connection, reason: str) -> None:
            self._unauthenticated.pop(connection, None)
            self._closed(connection, reason, host)

        handshake = AcceptorHandshake(
            key=self._key, me=self._me, is_peer=self._peers.__contains__, uid_of=lambda peer: self._peers[peer].uid
        )
        connection = self._connection(handshake, opened, closed)
        task = asyncio.create_task(self._open_accepted(connection, sock, host))
        # A task that is cancelled before its first step never runs any code of its own.
        task.add_done_callback(lambda done: sock.close() if done.cancelled() else None)
        self._unauthenticated[connection] = task

    async def _open_accepted(self, connection: Connection, sock: socket.socket, host: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=self._tls.server if self._tls else None,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT if self._tls else None,
            )
        except OSError as error:  # includes ssl.SSLError
            if isinstance(error, ssl.SSLError):
                self._report(NodeEventKind.CONNECTION_REFUSED, host, str(error), reason=Refusal.CERTIFICATE)
            connection.abort(f"not-accepted: {error.strerror}")

    def _evict(self, connection: Connection) -> None:
        self._unauthenticated.pop(connection).cancel()
        connection.abort("evicted")

    # --- connections ----------------------------------------------------------------------------------

    def _connection(
        self,
        handshake: DiallerHandshake | AcceptorHandshake,
        on_opened: Callable[[Connection], None],
        on_closed: Callable[[Connection, str], None],
    ) -> Connection:
        connection = Connection(
            handshake,
            dead_after=self._dead_after,
            on_opened=on_opened,
            on_messages=self._received,
            on_closed=on_closed,
        )
        self._connections.add(connection)
        return connection

    def _opened(self, connection: Connection) -> None:
        assert connection.session is not None
        identity = connection.session.peer
        peer = self._peers.get(identity.node_id)
        if self._tls is not None and connection.certified != Subject(identity.node_id, identity.uid):
            certified = connection.certified.name if connection.certified else "a host without a certificate"
            detail = f"{certified} says that it is {identity.node_id}"
            if certified == identity.node_id:
                detail = f"the certificate is that of another host of the name {certified}"
            self._report(NodeEventKind.CONNECTION_REFUSED, identity.node_id, detail, reason=Refusal.CERTIFICATE)
            connection.abort(Refusal.CERTIFICATE)
        elif peer is None or (identity.incarnation, identity.branch) != (self._me.incarnation, self._me.branch):
            connection.abort("no-longer-a-peer")
        elif identity.uid != peer.uid:
            connection.abort("another-host-of-that-name")
        elif connection.session.dialled != self._dials(peer.node_id):
            connection.close("knock")
            if not connection.session.dialled:
                self._knocked(peer, identity.instance)
        else:
            if peer.connection is not None:  # the dialling side noticed before this one that it is dead
                self._lost(peer, "replaced")
            peer.connection, peer.hung_up_at = connection, None
            peer.disconnected.clear()
            peer.connected.set()
            self._on_connected(peer.node_id)

    def _knocked(self, peer: _Peer, instance: bytes) -> None:
        if peer.connection is not None:
            assert peer.connection.session is not None
            if peer.connection.session.peer.instance == instance:
                return
            self._lost(peer, "restarted")  # what a crash of the peer left behind
        peer.knocked.set()

    def _lost(self, peer: _Peer, reason: str) -> None:
        connection, peer.connection = peer.connection, None
        assert connection is not None
        connection.abort(reason)
        peer.hung_up_at = asyncio.get_running_loop().time() if reason in (EOF, RESET) else None
        peer.connected.clear()
        peer.disconnected.set()
        self._on_disconnected(peer.node_id, reason)

    def _received(self, connection: Connection, messages: list[PeerMessage]) -> None:
        assert connection.session is not None
        node_id = connection.session.peer.node_id
        if node_id in self._peers:
            self._on_messages(node_id, messages)

    def _closed(self, connection: Connection, reason: str, host: str) -> None:
        self._connections.discard(connection)
        if connection.failure is not None:
            by_peer = isinstance(connection.failure, Refused) and connection.failure.by_peer
            kind = NodeEventKind.REFUSED_BY_PEER if by_peer else NodeEventKind.CONNECTION_REFUSED
            self._report(kind, host, str(connection.failure), reason=connection.failure.reason)
            if isinstance(connection.failure, Refused):
                self._heed(connection.failure)
        session = connection.session
        peer = self._peers.get(session.peer.node_id) if session is not None else None
        if peer is not None and peer.connection is connection:
            self._lost(peer, reason)

    def _heed(self, refused: Refused) -> None:
        """A hello proves nothing, so only a peer that refused us, with the cluster's key, is believed."""
        stale = refused.by_peer and refused.reason is Refusal.STALE_INCARNATION
        undecided = refused.incarnation == self._me.incarnation and self._me.branch == UNDECIDED
        if stale and (refused.incarnation > self._me.incarnation or undecided):
            self._on_superseded(refused.incarnation, refused.branch)

    def _forget(self, peer: _Peer) -> None:
        if peer.dialling is not None:
            peer.dialling.cancel()
        if peer.connection is not None:
            self._lost(peer, "no-longer-a-peer")
        del self._peers[peer.node_id]

    def _report(self, kind: NodeEventKind, host: str, detail: str, *, reason: str = "") -> None:
        """Tell of each (host, reason) once a minute at most, whatever strangers send us; `detail` has their words."""
        now = asyncio.get_running_loop().time()
        key = (kind, host, reason)
        if now - self._reported.get(key, -_REPORT_INTERVAL) < _REPORT_INTERVAL:
            return
        if len(self._reported) >= _REPORTS_REMEMBERED:
            self._reported.clear()
        self._reported[key] = now
        self._on_event(NodeEvent(kind, {"host": host, "reason": reason, "detail": detail}))
