"""What controllers say to each other: frames, the handshake that opens a connection, sealed sessions. No
sockets here.

    dialler                                   acceptor
      Hello(identity, nonce)        ------>
                                    <------   Welcome(identity, nonce, mac)   or   Refused(reason, mac)
      Proof(mac)                    ------>
      sealed frames                 <----->   sealed frames

Both sides hold the cluster key. Each MAC covers all that was said before it, the two nonces included, so
neither side can be answered from a recording; the acceptor proves the key first, then the dialler. The
session's two keys (one a direction) come from the same transcript. A sealed frame carries a MAC over its
sequence number and its body: frames cannot be forged, replayed, reordered or dropped in between without the
connection ending. Below it runs TLS, by which a node also proves that it is no other holder of the key.

A plain frame is `length u32 | body`, a sealed one `length u32 | mac 16 | body`. The length is checked before
anything is allocated for it.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn

import msgspec

from raftctl.consensus.types import AnyMessage

PROTOCOL_VERSION: Final = 2
MAX_FRAME_BYTES: Final = 16 << 20
MAX_HANDSHAKE_BYTES: Final = 4096
UNDECIDED: Final = "?"
_LENGTH_BYTES: Final = 4
_MAC_BYTES: Final = 16
_NONCE_BYTES: Final = 32
KEY_BYTES_MIN: Final = 16


class Refusal(enum.StrEnum):
    """Why a connection was not opened, or was closed as soon as its peer said something wrong."""

    VERSION = "protocol-version"
    CLUSTER = "wrong-cluster"
    STALE_INCARNATION = "stale-incarnation"  # the refused side missed a forced membership change (rule R10)
    NEWER_INCARNATION = "newer-incarnation"  # the refusing side missed one
    OTHER_BRANCH = "other-branch"  # two forced membership changes of one number: neither side missed anything
    UNKNOWN_PEER = "unknown-peer"
    WRONG_PEER = "wrong-peer"  # the address leads to another node than the one dialled
    BAD_KEY = "bad-key"
    MALFORMED = "malformed"
    OVERSIZED = "oversized-frame"
    SLOW = "handshake-timeout"
    CERTIFICATE = "certificate"  # none of the cluster's authority, expired, or another node's


class ProtocolViolation(Exception):
    """The peer, or whoever it is, broke the protocol: the connection ends."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason


class Refused(ProtocolViolation):
    """The handshake ended in a refusal. `reply` is what the other side still gets; `by_peer` when it refused
    us, with proof of the key; `incarnation` and `branch` are then its own."""

    def __init__(
        self,
        reason: Refusal,
        *,
        node_id: str = "",
        reply: bytes = b"",
        by_peer: bool = False,
        incarnation: int = 0,
        branch: str = "",
    ) -> None:
        super().__init__(reason, f"node {node_id!r}" if node_id else "")
        self.node_id = node_id
        self.reply = reply
        self.by_peer = by_peer
        self.incarnation = incarnation
        self.branch = branch


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Who a controller is. `instance` is random for each process, so that a restarted peer is told from the
    old one; `uid` tells a host from an earlier one of the same name, `branch` the forced membership changes of one
    number (`incarnation`) that several people made; UNDECIDED takes part in none and goes with the first it meets."""

    cluster_id: str
    incarnation: int
    node_id: str
    instance: bytes
    uid: str = ""
    branch: str = ""


class ClusterKey:
    """The secret that all controllers of a cluster share. Its text forms never show it."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < KEY_BYTES_MIN:
            raise ValueError(f"a cluster key needs at least {KEY_BYTES_MIN} bytes")
        self._root = hashlib.blake2b(secret, digest_size=32, person=b"raftctl-peer").digest()

    def __repr__(self) -> str:
        return "ClusterKey(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClusterKey) and hmac.compare_digest(self._root, other._root)

    def __hash__(self) -> int:
        return hash((ClusterKey, self._root))

    def mac(self, label: bytes, *parts: bytes) -> bytes:
        """32 bytes that only a holder of the key can compute; parts are told apart by their lengths."""
        digest = hashlib.blake2b(key=self._root, digest_size=32, person=label)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()


# --- handshake ------------------------------------------------------------------------------------


class _Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    version: int
    identity: Identity
    dialled: str  # the node id that the dialler expects to reach
    nonce: bytes


class _Welcome(msgspec.Struct, frozen=True, array_like=True, tag="welcome"):
    identity: Identity
    nonce: bytes
    mac: bytes


class _Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    reason: str
    node_id: str
    mac: bytes
    incarnation: int = 0  # of the refusing side
    branch: str = ""  # likewise


class _Proof(msgspec.Struct, frozen=True, array_like=True, tag="proof"):
    mac: bytes


_encode = msgspec.msgpack.Encoder().encode
# What decoding can raise on bytes of strangers: malformed, of another type, not UTF-8, nested thousands deep.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class DiallerHandshake:
    """The dialler's side: send `hello`, feed the answer to `on_reply`. The acceptor says by its answer which key is
    used: `other_keys` are accepted, too, while the cluster key is replaced."""

    def __init__(
        self,
        *,
        key: ClusterKey,
        other_keys: Sequence[ClusterKey] = (),
        me: Identity,
        peer_id: str,
        peer_uid: str = "",
    ) -> None:
        self._keys = (key, *other_keys)
        self._me = me
        self._peer_id = peer_id
        self._peer_uid = peer_uid
        self._hello = _encode(_Hello(PROTOCOL_VERSION, me, peer_id, secrets.token_bytes(_NONCE_BYTES)))

    @property
    def hello(self) -> bytes:
        return frame(self._hello)

    def on_reply(self, body: bytes) -> tuple[bytes, Session]:
        """The frame to send and the open session. Raises Refused."""
        reply = _decode(body, _Welcome | _Refused)
        if isinstance(reply, _Refused):
            self._on_refused(reply)
        unsigned = _encode(msgspec.structs.replace(reply, mac=b""))
        key = self._key_of(reply.mac, lambda key: key.mac(b"welcome", self._hello, unsigned))
        if (reason := _mismatch(self._me, reply.identity)) is not None:
            raise Refused(reason, node_id=reply.identity.node_id)
        if (reply.identity.node_id, reply.identity.uid) != (self._peer_id, self._peer_uid):
            raise Refused(Refusal.WRONG_PEER, node_id=reply.identity.node_id)
        proof = key.mac(b"proof", self._hello, unsigned)
        transcript = (self._hello, unsigned)
        return frame(_encode(_Proof(proof))), Session(key, transcript, reply.identity, dialled=True)

    def _key_of(self, mac: bytes, mac_by: Callable[[ClusterKey], bytes]) -> ClusterKey:
        """The key with which the acceptor made `mac`. Raises Refused when it is none of ours."""
        for key in self._keys:
            if hmac.compare_digest(mac, mac_by(key)):
                return key
        raise Refused(Refusal.BAD_KEY)

    def _on_refused(self, reply: _Refused) -> NoReturn:
        self._key_of(reply.mac, lambda key: _refusal_mac(key, self._hello, reply))
        try:
            reason = Refusal(reply.reason)
        except ValueError:  # a reason that a later version knows
            reason = Refusal.VERSION
        raise Refused(reason, node_id=reply.node_id, by_peer=True, incarnation=reply.incarnation, branch=reply.branch)


class AcceptorHandshake:
    """The acceptor's side: feed the first frame to `on_hello`, the second to `on_proof`."""

    def __init__(
        self,
        *,
        key: ClusterKey,
        me: Identity,
        is_peer: Callable[[str], bool],
        uid_of: Callable[[str], str] = lambda _peer: "",
    ) -> None:
        self._key = key
        self._me = me
        self._is_peer = is_peer
        self._uid_of = uid_of
        self._transcript: tuple[bytes, bytes] | None = None
        self._peer: Identity | None = None

    @property
    def greeted(self) -> bool:
        """Whether `on_hello` has been through: the next frame is the proof."""
        return self._transcript is not None

    def on_hello(self, body: bytes) -> bytes:
        """The frame to send. Raises Refused, whose `reply` is to be sent before closing."""
        hello = _decode(body, _Hello)
        if (reason := self._objection(hello)) is not None:
            refusal = _Refused(reason, self._me.node_id, b"", self._me.incarnation, self._me.branch)
            signed = msgspec.structs.replace(refusal, mac=_refusal_mac(self._key, body, refusal))
            raise Refused(reason, node_id=hello.identity.node_id, reply=frame(_encode(signed)))
        welcome = _Welcome(self._me, secrets.token_bytes(_NONCE_BYTES), b"")
        unsigned = _encode(welcome)
        self._transcript = (body, unsigned)
        self._peer = hello.identity
        mac = self._key.mac(b"welcome", *self._transcript)
        return frame(_encode(msgspec.structs.replace(welcome, mac=mac)))

    def on_proof(self, body: bytes) -> Session:
        """The open session. Raises Refused."""
        assert self._transcript is not None
        assert self._peer is not None
        proof = _decode(body, _Proof)
        if not hmac.compare_digest(proof.mac, self._key.mac(b"proof", *self._transcript)):
            raise Refused(Refusal.BAD_KEY, node_id=self._peer.node_id)
        return Session(self._key, self._transcript, self._peer, dialled=False)

    def _objection(self, hello: _Hello) -> Refusal | None:
        if hello.version != PROTOCOL_VERSION:
            return Refusal.VERSION
        if (reason := _mismatch(self._me, hello.identity)) is not None:
            return reason
        if hello.dialled != self._me.node_id:
            return Refusal.WRONG_PEER
        known = self._is_peer(hello.identity.node_id) and self._uid_of(hello.identity.node_id) == hello.identity.uid
        return None if known else Refusal.UNKNOWN_PEER


def _refusal_mac(key: ClusterKey, hello: bytes, refusal: _Refused) -> bytes:
    said = [refusal.reason, refusal.node_id, str(refusal.incarnation)]
    if refusal.branch:
        said.append(refusal.branch)
    return key.mac(b"refused", hello, *(text.encode() for text in said))


def _mismatch(me: Identity, peer: Identity) -> Refusal | None:
    """What the two disagree on. STALE and NEWER are said from the refusing side: the peer is stale, or
    newer."""
    if peer.cluster_id != me.cluster_id:
        return Refusal.CLUSTER
    if peer.incarnation < me.incarnation:
        return Refusal.STALE_INCARNATION
    if peer.incarnation > me.incarnation:
        return Refusal.NEWER_INCARNATION
    if peer.branch == me.branch:
        return None
    if UNDECIDED in (peer.branch, me.branch):
        return Refusal.STALE_INCARNATION if peer.branch == UNDECIDED else Refusal.NEWER_INCARNATION
    return Refusal.OTHER_BRANCH


def _decode(body: bytes, expected: Any) -> Any:
    try:
        return msgspec.msgpack.decode(body, type=expected)
    except _UNREADABLE as error:
        raise Refused(Refusal.MALFORMED) from error


# --- frames ---------------------------------------------------------------------------------------


def frame(body: bytes) -> bytes:
    """A plain frame, used until the session is open."""
    return len(body).to_bytes(_LENGTH_BYTES, "little") + body


class FrameReader:
    """Cuts a byte stream into frame bodies. `limit` is the largest body that is accepted now."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Bodies that are complete now. Raises ProtocolViolation on a length above the limit, before its
        bytes come."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH_BYTES:
            length = int.from_bytes(buffer[:_LENGTH_BYTES], "little")
            if length > self.limit:
                raise ProtocolViolation(Refusal.OVERSIZED, f"{length} bytes")
            end = _LENGTH_BYTES + length
            if len(buffer) < end:
                return
            body = bytes(memoryview(buffer)[_LENGTH_BYTES:end])
            del buffer[:end]
            yield body


class Session:
    """An open connection's keys and counters. `peer` is proven to hold the cluster key."""

    def __init__(self, key: ClusterKey, transcript: tuple[bytes, bytes], peer: Identity, *, dialled: bool) -> None:
        ours, theirs = (b"dialler", b"acceptor") if dialled else (b"acceptor", b"dialler")
        self.peer = peer
        self.dialled = dialled
        self._send_key = key.mac(ours, *transcript)
        self._receive_key = key.mac(theirs, *transcript)
        self._sent = 0
        self._received = 0

    def seal(self, body: bytes) -> bytes:
        """The frame that carries `body`."""
        mac = _frame_mac(self._send_key, self._sent, body)
        self._sent += 1
        return (_MAC_BYTES + len(body)).to_bytes(_LENGTH_BYTES, "little") + mac + body

    def open(self, sealed: bytes) -> memoryview:
        """The body of the next frame. Raises ProtocolViolation when it is not the peer's next frame."""
        body = memoryview(sealed)[_MAC_BYTES:]
        mac = _frame_mac(self._receive_key, self._received, body)
        if not hmac.compare_digest(mac, sealed[:_MAC_BYTES]):
            raise ProtocolViolation(Refusal.BAD_KEY, "a frame is forged, repeated or out of order")
        self._received += 1
        return body


def _frame_mac(key: bytes, sequence: int, body: bytes | memoryview) -> bytes:
    # The sequence number goes into BLAKE2's salt: it is hashed like a prefix, without copying the body.
    salt = sequence.to_bytes(16, "little")
    return hashlib.blake2b(body, key=key, salt=salt, digest_size=_MAC_BYTES).digest()


# --- messages -------------------------------------------------------------------------------------


class AppMessage(msgspec.Struct, frozen=True, array_like=True, tag_field="type", tag=100):
    """Bytes of the controller above: reports, leases, forwarded proposals."""

    body: bytes


class ReadIndexRequest(msgspec.Struct, frozen=True, array_like=True, tag_field="type", tag=101):
    """A follower asks the leader for a read index (thesis 6.4: a follower may serve reads this way)."""

    request_id: int


class ReadIndexReply(msgspec.Struct, frozen=True, array_like=True, tag_field="type", tag=102):
    """`index` is None when the node asked is not the leader, or lost its leadership meanwhile."""

    request_id: int
    index: int | None


PeerMessage = AnyMessage | AppMessage | ReadIndexRequest | ReadIndexReply

_decoder = msgspec.msgpack.Decoder(list[PeerMessage])


def encode_message(message: PeerMessage) -> bytes:
    return _encode(message)


def pack(messages: list[bytes]) -> bytes:
    """One frame body of several encoded messages: a msgpack array (type `array 32`)."""
    return b"\xdd" + len(messages).to_bytes(4, "big") + b"".join(messages)


def unpack(body: bytes | memoryview) -> list[PeerMessage]:
    """Raises ProtocolViolation when it is not a list of messages."""
    try:
        return _decoder.decode(body)
    except _UNREADABLE as error:
        raise ProtocolViolation(Refusal.MALFORMED, str(error)) from error
