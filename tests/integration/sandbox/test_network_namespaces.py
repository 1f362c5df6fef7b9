"""Partitions between network namespaces lose packets of real TCP connections, one way or both, until healed."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.sandbox.network import NamespaceNetwork, free_subnet
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

# One end of a TCP connection: what comes on standard input is sent, what is received is printed.
END = """
import socket, sys, threading
address, port, listens = sys.argv[1], 7000, sys.argv[2] == "listen"
if listens:
    with socket.create_server((address, port)) as listener:
        print("ready", flush=True)
        connection, _ = listener.accept()
else:
    connection = socket.create_connection((address, port), timeout=20)
    connection.settimeout(None)
print("connected", flush=True)
def receive():
    for line in connection.makefile():
        print(line, end="", flush=True)
threading.Thread(target=receive, daemon=True).start()
for line in sys.stdin:
    connection.sendall(line.encode())
"""


class End:
    def __init__(self, network: NamespaceNetwork, member: str, address: str, role: str) -> None:
        enter = ["nsenter", f"--net=/run/netns/{network.namespace(member)}"] if member else []
        self.process = subprocess.Popen(
            [*enter, sys.executable, "-I", "-S", "-c", END, address, role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._received = b""

    def send(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n".encode())

    def has(self, word: str, *, within: float = 30.0) -> bool:
        """Whether `word` arrives within so many seconds."""
        assert self.process.stdout
        descriptor = self.process.stdout.fileno()
        while f"{word}\n".encode() not in self._received:
            readable, _, _ = select.select([descriptor], [], [], within)
            data = os.read(descriptor, 4096) if readable else b""
            if not data:
                return False
            self._received += data
        return True

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def network() -> Iterator[NamespaceNetwork]:
    tag = f"t{os.getpid() % 0x100000:05x}"
    network = NamespaceNetwork(tag, free_subnet(os.getpid()), ["db1", "db2", "db3"])
    network.ensure()
    yield network
    network.remove()


@pytest.fixture
def ends(network: NamespaceNetwork) -> Iterator[tuple[End, End]]:
    """An open connection from db1 to db2."""
    server = End(network, "db2", network.address("db2"), "listen")
    assert server.has("ready")
    client = End(network, "db1", network.address("db2"), "connect")
    assert client.has("connected")
    assert server.has("connected")
    yield client, server
    client.close()
    server.close()


def test_a_partition_loses_packets_both_ways_until_healed(network: NamespaceNetwork, ends: tuple[End, End]) -> None:
    client, server = ends
    client.send("before")
    assert server.has("before")
    network.drop({("db1", "db2"), ("db2", "db1")})
    client.send("during")
    server.send("answer")
    assert not server.has("during", within=0.5)
    assert not client.has("answer", within=0.5)
    network.heal()
    assert server.has("during")
    assert client.has("answer")


def test_one_way_loses_only_that_way(network: NamespaceNetwork, ends: tuple[End, End]) -> None:
    client, server = ends
    network.drop({("db1", "db2")})
    client.send("lost")
    server.send("arrives")
    assert client.has("arrives")
    assert not server.has("lost", within=0.5)
    network.heal()
    assert server.has("lost")


def test_new_connections_fail_one_way_as_well_but_others_pass(network: NamespaceNetwork) -> None:
    network.drop({("db1", "db2")})
    for member, meets in (("db1", False), ("db3", True), ("", True)):
        server = End(network, "db2", network.address("db2"), "listen")
        assert server.has("ready")
        client = End(network, member, network.address("db2"), "connect")
        assert client.has("connected", within=30 if meets else 0.5) == meets
        client.close()
        server.close()


def test_it_is_built_once_and_leaves_nothing(network: NamespaceNetwork) -> None:
    def spaces() -> set[str]:
        mine = network.namespace("")[:-1]
        found = {path.name for path in Path("/run/netns").glob(f"{mine}*")}
        return found | {path.name for path in Path("/sys/class/net").glob(f"{mine}*")}

    before = {name: Path("/run/netns", name).stat().st_ino for name in spaces() if Path("/run/netns", name).exists()}
    assert len(before) == 4
    network.ensure()
    assert before == {name: Path("/run/netns", name).stat().st_ino for name in before}
    subprocess.run(["ip", "netns", "del", network.namespace("db2")], check=True)
    network.ensure()
    assert Path("/run/netns", network.namespace("db2")).exists()
    network.remove()
    wait_until(lambda: not spaces(), what="everything is gone")
