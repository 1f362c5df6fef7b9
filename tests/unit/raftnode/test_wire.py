"""The wire protocol without sockets: who is let in, and that an open session accepts exactly the peer's next
frame."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftctl.consensus.types import AppendEntries, Entry, EntryKind, RequestVote
from raftctl.raftnode.wire import (
    MAX_HANDSHAKE_BYTES,
    AcceptorHandshake,
    AppMessage,
    ClusterKey,
    DiallerHandshake,
    FrameReader,
    Identity,
    ProtocolViolation,
    ReadIndexReply,
    Refusal,
    Refused,
    Session,
    encode_message,
    frame,
    pack,
    unpack,
)

KEY = ClusterKey(b"k" * 16)


def identity(node_id: str, *, cluster_id: str = "orders", incarnation: int = 1, branch: str = "") -> Identity:
    return Identity(cluster_id, incarnation, node_id, node_id.encode(), branch=branch)


def bodies(data: bytes) -> list[bytes]:
    return list(FrameReader(MAX_HANDSHAKE_BYTES).feed(data))


def handshake(
    *,
    dialler: Identity | None = None,
    acceptor: Identity | None = None,
    dialler_key: ClusterKey = KEY,
    also: tuple[ClusterKey, ...] = (),
    acceptor_key: ClusterKey = KEY,
    peer_id: str = "db2",
    known: tuple[str, ...] = ("db1", "db2"),
) -> tuple[Session, Session]:
    """The two sides' sessions. Raises what the dialler, else the acceptor, raises."""
    d = DiallerHandshake(key=dialler_key, other_keys=also, me=dialler or identity("db1"), peer_id=peer_id)
    a = AcceptorHandshake(key=acceptor_key, me=acceptor or identity("db2"), is_peer=known.__contains__)
    [hello] = bodies(d.hello)
    try:
        [reply] = bodies(a.on_hello(hello))
    except Refused as refused:
        [reply] = bodies(refused.reply)
    proof_frame, session = d.on_reply(reply)
    [proof] = bodies(proof_frame)
    return session, a.on_proof(proof)


def test_the_dialler_proves_nothing_to_an_earlier_host_of_the_name() -> None:
    """Else that host would believe for a moment that it belongs to the cluster."""
    earlier = Identity("orders", 1, "db2", b"instance", uid="earlier")
    with pytest.raises(Refused) as caught:
        handshake(acceptor=earlier)
    assert caught.value.reason is Refusal.WRONG_PEER


def open_sessions() -> tuple[Session, Session]:
    return handshake()


def test_while_the_key_is_replaced_the_acceptor_says_which_is_used() -> None:
    """In each order in which two nodes can be told: accept both, use the new one, forget the old one."""
    new = ClusterKey(b"another key of 16")
    for dialler_key, also, acceptor_key in [
        (KEY, (new,), KEY),
        (KEY, (new,), new),
        (new, (KEY,), KEY),
        (new, (KEY,), new),
        (new, (), new),
    ]:
        a, b = handshake(dialler_key=dialler_key, also=also, acceptor_key=acceptor_key)
        assert b.open(next(iter(bodies(a.seal(b"said"))))) == b"said"
    with pytest.raises(Refused, match="bad-key"):
        handshake(dialler_key=new, acceptor_key=KEY)


def test_both_sides_learn_who_the_other_is() -> None:
    dialler, acceptor = open_sessions()
    assert (dialler.peer.node_id, acceptor.peer.node_id) == ("db2", "db1")
    assert (dialler.dialled, acceptor.dialled) == (True, False)
    for sender, receiver in ((dialler, acceptor), (acceptor, dialler)):
        for body in (b"one", b"two", b""):
            [sealed] = bodies(sender.seal(body))
            assert receiver.open(sealed) == body


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"dialler": identity("db1", cluster_id="billing")}, Refusal.CLUSTER),
        ({"dialler": identity("db1", incarnation=0)}, Refusal.STALE_INCARNATION),
        ({"dialler": identity("db1", incarnation=2)}, Refusal.NEWER_INCARNATION),
        ({"dialler": identity("db1", branch="a"), "acceptor": identity("db2", branch="b")}, Refusal.OTHER_BRANCH),
        ({"dialler": identity("db1", branch="a")}, Refusal.OTHER_BRANCH),
        ({"dialler": identity("db1", branch="?"), "acceptor": identity("db2", branch="b")}, Refusal.STALE_INCARNATION),
        ({"dialler": identity("db1", branch="a"), "acceptor": identity("db2", branch="?")}, Refusal.NEWER_INCARNATION),
        ({"dialler": identity("db9")}, Refusal.UNKNOWN_PEER),
        ({"acceptor": identity("db3")}, Refusal.WRONG_PEER),
    ],
)
def test_a_mismatch_is_refused_and_the_refusal_is_proven(arguments: dict[str, Any], reason: Refusal) -> None:
    with pytest.raises(Refused) as caught:
        handshake(**arguments)
    assert caught.value.reason is reason
    assert caught.value.by_peer


def test_another_key_is_refused_by_the_dialler_first() -> None:
    with pytest.raises(Refused) as caught:
        handshake(dialler_key=ClusterKey(b"other key, 16 by"))
    assert caught.value.reason is Refusal.BAD_KEY
    assert not caught.value.by_peer


def test_a_refusal_without_the_key_is_not_believed() -> None:
    """Nobody on the network can make a controller believe that it was excluded."""
    with pytest.raises(Refused) as caught:
        handshake(dialler=identity("db1", incarnation=0), acceptor_key=ClusterKey(b"other key, 16 by"))
    assert caught.value.reason is Refusal.BAD_KEY


def test_a_dialler_without_the_key_gets_no_session() -> None:
    acceptor = AcceptorHandshake(key=KEY, me=identity("db2"), is_peer=lambda _node_id: True)
    stranger = DiallerHandshake(key=ClusterKey(b"x" * 16), me=identity("db1"), peer_id="db2")
    [hello] = bodies(stranger.hello)
    acceptor.on_hello(hello)
    with pytest.raises(Refused) as caught:
        acceptor.on_proof(msgspec.msgpack.encode(["proof", b"0" * 32]))
    assert caught.value.reason is Refusal.BAD_KEY


def test_a_recorded_handshake_opens_nothing() -> None:
    dialler = DiallerHandshake(key=KEY, me=identity("db1"), peer_id="db2")
    [hello] = bodies(dialler.hello)

    def acceptor() -> AcceptorHandshake:
        return AcceptorHandshake(key=KEY, me=identity("db2"), is_peer=lambda _node_id: True)

    first = acceptor()
    [welcome] = bodies(first.on_hello(hello))
    [proof] = bodies(dialler.on_reply(welcome)[0])
    again = acceptor()
    again.on_hello(hello)
    with pytest.raises(Refused):
        again.on_proof(proof)
    with pytest.raises(Refused):
        DiallerHandshake(key=KEY, me=identity("db1"), peer_id="db2").on_reply(welcome)


def test_a_later_protocol_version_is_refused_by_reason() -> None:
    acceptor = AcceptorHandshake(key=KEY, me=identity("db2"), is_peer=lambda _node_id: True)
    hello = ["hello", 99, list(msgspec.structs.astuple(identity("db1"))), "db2", b"n" * 32, "a new field"]
    with pytest.raises(Refused) as caught:
        acceptor.on_hello(msgspec.msgpack.encode(hello))
    assert caught.value.reason is Refusal.VERSION


@given(st.binary(max_size=300))
@example(b"\x91\xa2\x00\x80")  # text that is not UTF-8
@example(b"\x96\xa5hello\x01\x94\xa1c\x01\xa1n\xc4\x01i\xa3db2\xc4\x01n" + b"\x91" * 4000)  # nested too deep
def test_garbage_in_the_handshake_is_malformed(body: bytes) -> None:
    acceptor = AcceptorHandshake(key=KEY, me=identity("db2"), is_peer=lambda _node_id: True)
    with pytest.raises(Refused):
        acceptor.on_hello(body)
    with pytest.raises(Refused):
        DiallerHandshake(key=KEY, me=identity("db1"), peer_id="db2").on_reply(body)


def test_frames_cannot_be_changed_repeated_reordered_skipped_or_reflected() -> None:
    def attempt(make: Any) -> None:
        dialler, acceptor = open_sessions()
        first, second = (bodies(dialler.seal(body))[0] for body in (b"first", b"second"))
        for sealed in make(first, second)[:-1]:
            acceptor.open(sealed)
        with pytest.raises(ProtocolViolation):
            acceptor.open(make(first, second)[-1])

    attempt(lambda first, _: [first[:-1] + b"X"])
    attempt(lambda first, _: [bytes([first[0] ^ 1]) + first[1:]])
    attempt(lambda first, _: [first, first])
    attempt(lambda _, second: [second])
    attempt(lambda first, _: [first[:10]])
    attempt(lambda *_: [b""])
    dialler, _ = open_sessions()
    [sealed] = bodies(dialler.seal(b"mirror"))
    with pytest.raises(ProtocolViolation):
        dialler.open(sealed)


@given(st.lists(st.binary(max_size=50), max_size=10), st.lists(st.integers(1, 30), max_size=50))
def test_frames_are_cut_the_same_however_the_stream_is_chopped(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(body) for body in sent)
    reader = FrameReader(100)
    received: list[bytes] = []
    for size in [*cuts, len(stream)]:
        received += reader.feed(stream[:size])
        stream = stream[size:]
    assert received == sent


def test_a_length_above_the_limit_is_refused_before_its_bytes_come() -> None:
    reader = FrameReader(4096)
    with pytest.raises(ProtocolViolation) as caught:
        list(reader.feed((1 << 30).to_bytes(4, "little")))
    assert caught.value.reason is Refusal.OVERSIZED


def test_messages_survive_the_trip() -> None:
    messages = [
        RequestVote(sender="db1", to="db2", term=3, last_log_index=7, last_log_term=2),
        AppendEntries("db1", "db2", 3, 6, 2, (Entry(7, 3, EntryKind.COMMAND, b"\x00\xff"),), 6, 9),
        AppMessage(b"report"),
        ReadIndexReply(4, None),
    ]
    assert unpack(pack([encode_message(m) for m in messages])) == messages


@given(st.binary(max_size=100))
def test_garbage_in_a_session_is_a_violation(body: bytes) -> None:
    try:
        messages = unpack(body)
    except ProtocolViolation:
        return
    assert isinstance(messages, list)


def test_the_key_never_shows() -> None:
    key = ClusterKey(b"a very secret key")
    assert "secret" not in repr(key) + str(key)
    with pytest.raises(ValueError, match="at least 16 bytes") as caught:
        ClusterKey(b"short secret")
    assert "secret" not in str(caught.value)
