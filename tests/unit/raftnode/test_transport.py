"""The peer transport on real sockets: who gets in, what strangers can do (nothing), and how a lost peer is
noticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from raftctl.bootstrap.tls import KeyPair, bundle, create_authority, issue_node
from raftctl.raftnode.connection import MAX_MESSAGE_BYTES
from raftctl.raftnode.events import NodeEvent, NodeEventKind
from raftctl.raftnode.transport import MAX_UNAUTHENTICATED, Address, PeerTransport, TLSContexts
from raftctl.raftnode.wire import (
    MAX_FRAME_BYTES,
    AppMessage,
    ClusterKey,
    DiallerHandshake,
    FrameReader,
    Identity,
    PeerMessage,
    Session,
)
from raftctl.sandbox.network import free_ports
from raftctl.tls import client_context, server_context
from tests.support.raft_cluster import ROOT

KEY = b"0123456789abcdef"


class Node:
    """A transport that writes down its callbacks."""

    def __init__(self, node_id: str, peers: dict[str, Address], **arguments: Any) -> None:
        self.node_id = node_id
        self.history: list[str] = []
        self.received: list[tuple[str, bytes]] = []
        self.events: list[NodeEvent] = []
        settings: dict[str, Any] = {
            "cluster_id": "orders",
            "incarnation": 1,
            "key": ClusterKey(KEY),
            "listen": peers[node_id],
            "rng": random.Random(1),
        }
        self.transport = PeerTransport(
            node_id=node_id,
            peers=peers,
            on_connected=lambda peer: self.history.append(f"+{peer}"),
            on_disconnected=lambda peer, _reason: self.history.append(f"-{peer}"),
            on_messages=self.take,
            on_event=self.events.append,
            **(settings | arguments),
        )

    def take(self, peer: str, messages: list[PeerMessage]) -> None:
        self.received += [(peer, m.body) for m in messages if isinstance(m, AppMessage)]

    def reasons(self, kind: NodeEventKind) -> list[str]:
        return [event.detail["reason"] for event in self.events if event.kind is kind]

    def send(self, peer: str, body: bytes) -> bool:
        return self.transport.send(peer, AppMessage(body))


class FixedRandom(random.Random):
    """Stretches every back-off by a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def uniform(self, a: float, b: float) -> float:
        return self._factor


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(node_id, peers, ...)` gives a running Node; it is stopped after the test."""
    running: list[Node] = []

    async def begin(node_id: str, peers: dict[str, Address], **arguments: Any) -> Node:
        node = Node(node_id, peers, **arguments)
        running.append(node)
        await node.transport.start()
        return node

    yield begin
    for node in running:
        await node.transport.stop()


def addresses(*names: str) -> dict[str, Address]:
    return {name: Address("127.0.0.1", port) for name, port in zip(names, free_ports(len(names)), strict=True)}


async def until(condition: Callable[[], Any], *, timeout: float = 30.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 (any condition, not one that can be waited for)
            await asyncio.sleep(0.005)


def connected(a: Node, b: Node) -> bool:
    return b.node_id in a.transport.connected and a.node_id in b.transport.connected


async def test_messages_arrive_in_order_both_ways(start: Start) -> None:
    peers = addresses("db1", "db2")
    a, b = await start("db1", peers), await start("db2", peers)
    await until(lambda: connected(a, b))
    bodies = [str(n).encode() for n in range(500)]
    for body in bodies:
        assert a.send("db2", body)
        assert b.send("db1", body)
    await until(lambda: len(a.received) == len(b.received) == 500)
    assert a.received == [("db2", body) for body in bodies]
    assert b.received == [("db1", body) for body in bodies]


async def test_a_message_may_be_as_large_as_a_frame_allows(start: Start) -> None:
    peers = addresses("db1", "db2")
    a, b = await start("db1", peers), await start("db2", peers)
    await until(lambda: connected(a, b))
    big = os.urandom(MAX_MESSAGE_BYTES - 16)
    assert a.send("db2", b"small")
    assert a.send("db2", big)
    await until(lambda: len(b.received) == 2)
    assert b.received[1][1] == big
    with pytest.raises(ValueError, match="larger than"):
        a.send("db2", bytes(MAX_FRAME_BYTES))
    assert connected(a, b)


async def test_without_a_connection_a_message_is_gone(start: Start) -> None:
    peers = addresses("db1", "db2")
    a = await start("db1", peers)
    assert not a.send("db2", b"x")
    assert not a.send("unknown", b"x")


async def test_nodes_that_start_together_make_one_connection_a_pair_and_lose_nothing(start: Start) -> None:
    for _ in range(10):
        peers = addresses("db1", "db2", "db3")
        nodes = await asyncio.gather(*(start(name, peers) for name in peers))
        for node in nodes:
            for peer in peers:
                if peer != node.node_id:
                    await until(lambda: node.send(peer, b"x"))  # noqa: B023
        await until(lambda: all(len(n.received) == 2 for n in nodes))  # noqa: B023
        for node in nodes:
            assert sorted(node.history) == sorted(f"+{peer}" for peer in peers if peer != node.node_id)
        for node in nodes:
            await node.transport.stop()


@pytest.mark.parametrize("restarted", ["db1", "db2"])
async def test_whoever_restarts_is_connected_without_waiting_for_the_others_back_off(
    start: Start, restarted: str
) -> None:
    peers = addresses("db1", "db2")
    other = await start("db2" if restarted == "db1" else "db1", peers)
    await asyncio.sleep(1.5)  # the other's back-off has become long
    other.transport._rng = FixedRandom(60.0)  # and longer: only being dialled or a knock can help now
    await asyncio.sleep(1.1)
    node = await start(restarted, peers)
    await until(lambda: connected(node, other), timeout=20)


@pytest.mark.parametrize(
    ("arguments", "at_db1", "at_db2"),
    [
        ({"cluster_id": "billing"}, "wrong-cluster", "wrong-cluster"),
        ({"incarnation": 0}, "stale-incarnation", "stale-incarnation"),
        ({"incarnation": 2}, "newer-incarnation", "newer-incarnation"),
    ],
)
async def test_both_sides_say_once_why_they_do_not_talk(
    start: Start, arguments: dict[str, Any], at_db1: str, at_db2: str
) -> None:
    """db2 is the odd one; whoever dials is refused by the other, which proves that it holds the key."""
    peers = addresses("db1", "db2")
    a, b = await start("db1", peers), await start("db2", peers, **arguments)
    await until(lambda: a.reasons(NodeEventKind.CONNECTION_REFUSED) and b.reasons(NodeEventKind.REFUSED_BY_PEER))
    assert a.reasons(NodeEventKind.CONNECTION_REFUSED) == [at_db1]
    assert b.reasons(NodeEventKind.REFUSED_BY_PEER) == [at_db2]
    await asyncio.sleep(0.3)  # several more attempts: none is said again
    assert a.reasons(NodeEventKind.CONNECTION_REFUSED) == [at_db1]
    assert not a.transport.connected
    assert not b.transport.connected


async def test_another_key_or_an_unknown_peer_is_refused(start: Start) -> None:
    peers = addresses("db1", "db2", "db3")
    a = await start("db1", {name: peers[name] for name in ("db1", "db2")})
    b = await start("db2", peers, key=ClusterKey(b"another key 1234"))
    c = await start("db3", peers)
    await until(lambda: "bad-key" in b.reasons(NodeEventKind.CONNECTION_REFUSED))
    await until(lambda: "unknown-peer" in c.reasons(NodeEventKind.REFUSED_BY_PEER))
    assert not a.transport.connected


async def test_strangers_who_give_ever_other_names_are_told_of_once(start: Start) -> None:
    peers = addresses("db1", "db2", "db3", "db4")
    a = await start("db1", {"db1": peers["db1"]})
    strangers = [await start(name, {name: peers[name], "db1": peers["db1"]}) for name in ("db2", "db3", "db4")]
    for stranger in strangers:
        await until(lambda stranger=stranger: "unknown-peer" in stranger.reasons(NodeEventKind.REFUSED_BY_PEER))
    assert a.reasons(NodeEventKind.CONNECTION_REFUSED) == ["unknown-peer"]


async def test_an_address_that_leads_to_another_node_is_noticed(start: Start) -> None:
    peers = addresses("db1", "db2", "db3")
    await start("db3", peers)
    a = await start("db1", peers | {"db2": peers["db3"]})
    await until(lambda: "wrong-peer" in a.reasons(NodeEventKind.REFUSED_BY_PEER))


async def test_a_peer_that_ends_is_noticed_and_dialled_again(start: Start) -> None:
    peers = addresses("db1", "db2")
    a, b = await start("db1", peers), await start("db2", peers)
    await until(lambda: connected(a, b))
    await b.transport.stop()
    await until(lambda: not a.transport.connected)
    again = await start("db2", peers)
    await until(lambda: connected(a, again))
    assert a.history == ["+db2", "-db2", "+db2"]
    assert a.send("db2", b"hello again")
    await until(lambda: again.received == [("db1", b"hello again")])


async def test_strangers_do_not_disturb(start: Start) -> None:
    peers = addresses("db1", "db2")
    a, b = await start("db1", peers), await start("db2", peers)
    await until(lambda: connected(a, b))
    said = [os.urandom(5000), (1 << 30).to_bytes(4, "little"), b"\x04\x00\x00\x00abcd", b"GET / HTTP/1.0\r\n\r\n"]
    for line in [*said, (1 << 30).to_bytes(4, "little") + bytes(100_000)]:
        reader, writer = await asyncio.open_connection(*peers["db1"])
        writer.write(line)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b"", "none of this gets an answer"
        writer.close()
    assert a.send("db2", b"x")
    await until(lambda: b.received == [("db1", b"x")])
    assert a.history == ["+db2"]
    assert "oversized-frame" in a.reasons(NodeEventKind.CONNECTION_REFUSED)
    assert "malformed" in a.reasons(NodeEventKind.CONNECTION_REFUSED)


async def test_whoever_stays_silent_is_thrown_out(start: Start) -> None:
    peers = addresses("db1", "db2")
    a = await start("db1", peers)
    reader, writer = await asyncio.open_connection(*peers["db1"])
    writer.write(b"\x10")  # and not a byte more
    assert await asyncio.wait_for(reader.read(), 30) == b""
    await until(lambda: "handshake-timeout" in a.reasons(NodeEventKind.CONNECTION_REFUSED))
    writer.close()


async def test_a_crowd_of_silent_strangers_does_not_keep_a_peer_out(start: Start) -> None:
    peers = addresses("db1", "db2")
    accepting = await start("db2", peers)
    crowd = [socket.create_connection(peers["db2"], timeout=10) for _ in range(MAX_UNAUTHENTICATED + 20)]
    dialling = await start("db1", peers)
    await until(lambda: connected(dialling, accepting), timeout=4.0)  # before the crowd's own deadline passes
    for stranger in crowd:
        stranger.close()


def open_session(address: Address, *, node_id: str, peer_id: str) -> tuple[socket.socket, Session]:
    """A connection as `node_id`, made by hand."""
    sock = socket.create_connection(address, timeout=10)
    identity = Identity("orders", 1, node_id, os.urandom(8))
    handshake = DiallerHandshake(key=ClusterKey(KEY), me=identity, peer_id=peer_id)
    sock.sendall(handshake.hello)
    reader = FrameReader(4096)
    while not (replies := list(reader.feed(sock.recv(4096)))):
        pass
    proof, session = handshake.on_reply(replies[0])
    sock.sendall(proof)
    return sock, session


async def test_a_peer_that_reads_nothing_is_dropped(start: Start) -> None:
    peers = addresses("db1", "db2")
    a = await start("db2", peers, dead_after=0.5)
    sock, _ = await asyncio.to_thread(open_session, peers["db2"], node_id="db1", peer_id="db2")
    await until(lambda: a.history == ["+db1"])
    for _ in range(16):  # more than the kernel's buffers take, less than the queue's limit
        a.send("db1", bytes(1 << 20))
    await until(lambda: a.history == ["+db1", "-db1"])
    assert not a.transport.hung_up, "it was given up here, and may be well"
    sock.close()


@pytest.mark.parametrize("linger", [False, True], ids=["end of file", "reset"])
async def test_a_peer_that_ends_the_connection_has_hung_up_until_it_is_back(start: Start, linger: bool) -> None:
    peers = addresses("db1", "db2")
    a = await start("db2", peers)
    sock, _ = await asyncio.to_thread(open_session, peers["db2"], node_id="db1", peer_id="db2")
    await until(lambda: a.history == ["+db1"])
    assert not a.transport.hung_up
    if linger:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    await until(lambda: a.transport.hung_up)
    before = a.transport.hung_up["db1"]
    await until(lambda: a.transport.hung_up["db1"] > before)
    await start("db1", peers)
    await until(lambda: a.transport.connected)
    assert not a.transport.hung_up


async def test_a_full_queue_drops_the_connection_at_once(start: Start) -> None:
    peers = addresses("db1", "db2")
    a = await start("db2", peers, dead_after=600)
    sock, _ = await asyncio.to_thread(open_session, peers["db2"], node_id="db1", peer_id="db2")
    await until(lambda: a.history == ["+db1"])
    accepted = 0
    while a.send("db1", bytes(1 << 20)):
        accepted += 1
        assert accepted < 100
    await until(lambda: a.history == ["+db1", "-db1"])
    sock.close()


async def test_a_frame_out_of_turn_ends_the_connection(start: Start) -> None:
    peers = addresses("db1", "db2")
    a = await start("db2", peers)
    sock, session = await asyncio.to_thread(open_session, peers["db2"], node_id="db1", peer_id="db2")
    session.seal(b"never sent")
    sock.sendall(session.seal(b"\xdd\x00\x00\x00\x00"))
    await until(lambda: a.history == ["+db1", "-db1"])
    assert a.reasons(NodeEventKind.CONNECTION_REFUSED) == ["bad-key"]
    sock.close()


async def test_a_new_process_of_a_peer_replaces_what_a_crash_left(start: Start) -> None:
    peers = addresses("db1", "db2")
    a = await start("db2", peers)
    old, _ = await asyncio.to_thread(open_session, peers["db2"], node_id="db1", peer_id="db2")
    await until(lambda: a.history == ["+db1"])
    new, _ = await asyncio.to_thread(open_session, peers["db2"], node_id="db1", peer_id="db2")
    await until(lambda: a.history == ["+db1", "-db1", "+db1"])
    old.close()
    new.close()


async def test_the_end_of_a_killed_process_is_an_eof(start: Start) -> None:
    peers = addresses("db1", "db2")
    a = await start("db2", peers)
    code = (
        "import sys; from tests.unit.raftnode import test_transport as t; import time\n"
        "sock, _ = t.open_session(t.Address(sys.argv[1], int(sys.argv[2])), node_id='db1', peer_id='db2')\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", code, *map(str, peers["db2"])]
    process = subprocess.Popen(command, cwd=ROOT)  # noqa: ASYNC220 (it returns at once)
    try:
        await until(lambda: a.history == ["+db1"])
        process.kill()
        await until(lambda: a.history == ["+db1", "-db1"])
    finally:
        process.kill()
        process.wait(30)


def an_authority() -> KeyPair:
    return create_authority("orders", now=datetime.now(UTC))


def contexts_of(
    directory: Path,
    name: str,
    authority: KeyPair,
    *,
    as_name: str = "",
    issued: datetime | None = None,
    uid: str = "",
    trusted: bytes = b"",
) -> TLSContexts:
    """Both sides' contexts for the node `name`; `as_name` is another node whose certificate it has got hold of."""
    pair = issue_node(authority, as_name or name, "127.0.0.1", now=issued or datetime.now(UTC), uid=uid)
    files = {"ca": trusted or authority.certificate, "cert": pair.certificate, "key": pair.key}
    for kind, data in files.items():
        (directory / f"{name}.{kind}").write_bytes(data)
    ca, cert, key = (directory / f"{name}.{kind}" for kind in files)
    return TLSContexts(server_context(cert, key, ca, mutual=True), client_context(ca, cert, key))


def tls_contexts(directory: Path, *names: str) -> dict[str, TLSContexts]:
    authority = an_authority()
    return {name: contexts_of(directory, name, authority) for name in names}


@pytest.mark.parametrize("wrong", ["db1", "db2"], ids=["the dialling one", "the accepting one"])
@pytest.mark.parametrize("how", ["another authority", "expired", "another node's"])
async def test_a_wrong_certificate_is_refused_and_said(start: Start, tmp_path: Path, how: str, wrong: str) -> None:
    peers, authority = addresses("db1", "db2", "db3"), an_authority()
    changes: dict[str, Any] = {
        "another authority": {"authority": an_authority()},
        "expired": {"authority": authority, "issued": datetime.now(UTC) - timedelta(days=11 * 365)},
        "another node's": {"authority": authority, "as_name": "db3"},
    }[how]
    tls = {name: contexts_of(tmp_path, name, authority) for name in ("db1", "db2")}
    tls[wrong] = contexts_of(tmp_path, wrong, **changes)
    a, b = [await start(name, peers, tls=tls[name]) for name in ("db1", "db2")]
    right = b if wrong == "db1" else a
    await until(lambda: "certificate" in right.reasons(NodeEventKind.CONNECTION_REFUSED))
    assert right.history == []  # the other one may hold it for open until it is closed


async def test_the_certificate_of_an_earlier_host_of_the_name_is_refused(start: Start, tmp_path: Path) -> None:
    """It knows the cluster key and says the present host's uid, but its certificate has another one."""
    peers, authority, uids = addresses("db1", "db2"), an_authority(), {"db2": "new"}
    first = contexts_of(tmp_path, "db1", authority)
    a = await start("db1", peers, tls=first, uids=uids)
    await start("db2", peers, tls=contexts_of(tmp_path, "db2", authority, uid="old"), uids=uids)
    await until(lambda: "certificate" in a.reasons(NodeEventKind.CONNECTION_REFUSED))
    assert a.history == []


async def test_the_authority_changes_while_connected(start: Start, tmp_path: Path) -> None:
    """Both trust both, then each shows the new one's, then both trust it alone; nobody is left behind but the old."""
    peers, old, new = addresses("db1", "db2", "db3"), an_authority(), an_authority()
    both = KeyPair(bundle(new.certificate, old.certificate), new.key)
    a, b = [await start(name, peers, tls=contexts_of(tmp_path, name, old)) for name in ("db1", "db2")]
    await until(lambda: connected(a, b))
    for trusted, signer in [(both, old), (both, new), (new, new)]:
        for node in (a, b):
            before = len(node.history)
            node.transport.set_tls(contexts_of(tmp_path, node.node_id, signer, trusted=trusted.certificate))
            await until(lambda node=node, before=before: len(node.history) > before)
            await until(lambda: connected(a, b))
    late = await start("db3", peers, tls=contexts_of(tmp_path, "db3", old, trusted=both.certificate))
    await until(lambda: "certificate" in a.reasons(NodeEventKind.CONNECTION_REFUSED))
    assert late.history == []


async def test_the_cluster_key_changes_while_connected(start: Start) -> None:
    """Each takes it beside the present one, then shows it, then forgets the earlier one, with which nobody gets in."""
    peers, old, new = addresses("db1", "db2", "db3"), ClusterKey(KEY), ClusterKey(bytes(reversed(KEY)))
    a, b = await start("db1", peers), await start("db2", peers)
    await until(lambda: connected(a, b))
    for key, others in [(old, [new]), (new, [old]), (new, [])]:
        for node in (a, b):
            before = len(node.history)
            node.transport.set_keys(key, others)
            if key == new and others:
                await until(lambda node=node, before=before: len(node.history) > before)
            await until(lambda: connected(a, b))
    assert a.history == ["+db2", "-db2"] * 2 + ["+db2"], "only another key makes new connections"
    late = await start("db3", peers)
    await until(
        lambda: (
            "bad-key" in {*a.reasons(NodeEventKind.CONNECTION_REFUSED), *late.reasons(NodeEventKind.CONNECTION_REFUSED)}
        )
    )
    assert late.history == []


async def test_a_peer_without_tls_is_refused(start: Start, tmp_path: Path) -> None:
    peers = addresses("db1", "db2")
    tls = tls_contexts(tmp_path, "db2")
    a, b = await start("db1", peers), await start("db2", peers, tls=tls["db2"])
    await until(lambda: "certificate" in b.reasons(NodeEventKind.CONNECTION_REFUSED))
    assert (a.history, b.history) == ([], [])


async def test_all_of_it_can_run_inside_tls(start: Start, tmp_path: Path) -> None:
    peers = addresses("db1", "db2")
    tls = tls_contexts(tmp_path, "db1", "db2")
    a, b = await start("db1", peers, tls=tls["db1"]), await start("db2", peers, tls=tls["db2"])
    await until(lambda: connected(a, b))
    bodies = [os.urandom(100_000) for _ in range(30)]
    for body in bodies:
        assert a.send("db2", body)
        assert b.send("db1", body)
    await until(lambda: len(a.received) == len(b.received) == 30)
    assert [body for _, body in b.received] == bodies
    stranger = socket.create_connection(peers["db1"], timeout=10)
    stranger.sendall(b"no TLS at all\r\n")
    await b.transport.stop()
    await until(lambda: not a.transport.connected)
    assert set(a.transport.hung_up) == {"db2"}
    stranger.close()


async def test_an_idle_connection_inside_tls_is_not_taken_for_stalled(start: Start, tmp_path: Path) -> None:
    """asyncio's TLS tells a protocol to pause on every other write when its limit is 0."""
    peers = addresses("db1", "db2")
    tls = tls_contexts(tmp_path, "db1", "db2")
    a, b = [await start(name, peers, tls=tls[name], dead_after=0.5) for name in ("db1", "db2")]
    await until(lambda: connected(a, b))
    for count in range(1, 5):  # an odd and an even number of writes from each side
        assert a.send("db2", b"x")
        await until(lambda: len(b.received) == count)  # noqa: B023 (awaited within the iteration)
        if count % 2:
            assert b.send("db1", b"y")
        await asyncio.sleep(1.1)  # what must not happen would happen meanwhile
        assert (a.history, b.history) == (["+db2"], ["+db1"])


async def test_members_come_and_go(start: Start) -> None:
    peers = addresses("db1", "db2", "db3")
    a, b = await start("db1", {k: peers[k] for k in ("db1", "db2")}), await start("db2", peers)
    await until(lambda: connected(a, b))
    a.transport.set_peers(peers)
    c = await start("db3", peers)
    await until(lambda: connected(a, c))
    a.transport.set_peers({k: peers[k] for k in ("db1", "db3")})
    await until(lambda: a.transport.connected == {"db3"} and "db1" not in b.transport.connected)
    await until(lambda: "unknown-peer" in b.reasons(NodeEventKind.REFUSED_BY_PEER))
    assert a.history == ["+db2", "+db3", "-db2"]


async def test_an_earlier_host_of_the_same_name_is_not_let_in(start: Start) -> None:
    peers = addresses("db1", "db2", "db3")
    a = await start("db1", peers, uids={"db2": "new"})
    c = await start("db3", peers, uids={"db2": "new"})
    old = await start("db2", peers)
    await until(lambda: connected(a, c))
    new_place = addresses("db2")
    new = await start("db2", peers | new_place, uids={"db2": "new"})
    for node in (a, c):
        node.transport.set_peers(peers | new_place, {"db2": "new"})
    await until(lambda: connected(a, new) and connected(c, new))
    await until(lambda: "unknown-peer" in old.reasons(NodeEventKind.REFUSED_BY_PEER))
    assert [entry for entry in old.history if entry.startswith("+")] == []
    assert (a.transport.connected, c.transport.connected) == ({"db2", "db3"}, {"db1", "db2"})


async def test_a_forced_membership_shuts_out_those_who_missed_it(start: Start) -> None:
    """Rule R10."""
    peers = addresses("db1", "db2", "db3")
    nodes = [await start(name, peers) for name in peers]
    await until(lambda: all(len(n.transport.connected) == 2 for n in nodes))
    for node in nodes[:2]:
        node.transport.set_incarnation(2)
    await until(lambda: [sorted(n.transport.connected) for n in nodes] == [["db2"], ["db1"], []])
    await until(lambda: "stale-incarnation" in nodes[2].reasons(NodeEventKind.REFUSED_BY_PEER))


async def test_a_later_incarnation_is_believed_when_it_is_proven(start: Start) -> None:
    """A hello proves nothing: a stranger could have every controller give up its log."""
    peers = addresses("db1", "db2")
    later: list[tuple[int, str]] = []
    old = await start("db2", peers, on_superseded=lambda *which: later.append(which))
    stranger = await start("db1", peers, key=ClusterKey(b"another-cluster-s"), incarnation=9)
    await until(lambda: "newer-incarnation" in old.reasons(NodeEventKind.CONNECTION_REFUSED))
    await until(
        lambda: "bad-key" in old.reasons(NodeEventKind.REFUSED_BY_PEER) + old.reasons(NodeEventKind.CONNECTION_REFUSED)
    )
    assert later == []
    await stranger.transport.stop()
    await start("db1", peers, incarnation=3, branch="a")
    await until(lambda: later)
    assert set(later) == {(3, "a")}


async def test_two_forced_memberships_of_one_number_refuse_each_other(start: Start) -> None:
    """Neither gives way, and only who belongs to none of them yet goes with the one that it meets."""
    peers = addresses("db1", "db2", "db3")
    later: list[tuple[int, str]] = []

    def note(*which: Any) -> None:
        later.append(which)

    nodes = [
        await start(name, {"db1": peers["db1"], "db2": peers["db2"]}, incarnation=2, branch=branch, on_superseded=note)
        for name, branch in [("db1", "a"), ("db2", "b")]
    ]
    for node in nodes:
        await until(lambda node=node: "other-branch" in [event.detail["reason"] for event in node.events])
    assert (later, nodes[0].history, nodes[1].history) == ([], [], [])
    nodes[1].transport.set_peers(peers)
    await start("db3", {"db2": peers["db2"], "db3": peers["db3"]}, incarnation=2, branch="?", on_superseded=note)
    await until(lambda: later)
    assert set(later) == {(2, "b")}
