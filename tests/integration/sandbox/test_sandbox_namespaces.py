"""A sandbox in network namespaces: servers with addresses of their own, partitions between them, nothing left over."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.sandbox.cluster import Sandbox, Target, open_or_plan, open_sandbox
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.sandboxes import wait_for_mysqld

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
pytestmark = [pytest.mark.mysql, pytest.mark.netns]

GREETING = "import socket,sys; print(len(socket.create_connection((sys.argv[1], 3306), 20).recv(64)) > 4)"


@pytest.fixture(scope="module")
def separated(distribution: MySQLDistribution) -> Iterator[Sandbox]:
    """db1, db2 and w1, each in a namespace of its own."""
    with tempfile.TemporaryDirectory(prefix="ns-") as name:
        sandbox = open_or_plan(Path(name), nodes=2, witnesses=1, namespaces=True, settings=[])
        try:
            sandbox.start_all()
            yield sandbox
        finally:
            sandbox.down(purge=False)


def greets_from(sandbox: Sandbox, member: str, other: str, *, within: float) -> bool:
    """Whether `other`'s mysqld greets a client in the namespace of `member` ("": outside of all)."""
    network = sandbox.layout.network()
    assert network
    enter = ["nsenter", f"--net=/run/netns/{network.namespace(member)}"] if member else []
    try:
        result = subprocess.run(
            [*enter, sys.executable, "-I", "-S", "-c", GREETING, network.address(other)],
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return result.stdout.strip() == "True"


@needs_root
def test_partitions_add_up_until_healed_and_never_cut_the_outside(separated: Sandbox) -> None:
    assert greets_from(separated, "db1", "db2", within=20)
    separated.partition([["db1"], ["db2"]], one_way=True)
    assert not greets_from(separated, "db1", "db2", within=1)
    assert greets_from(separated, "w1", "db2", within=20)
    separated.partition([["w1"]], one_way=False)
    assert not greets_from(separated, "w1", "db2", within=1)
    assert not greets_from(separated, "db1", "db2", within=1)
    assert greets_from(separated, "", "db2", within=20)
    separated.heal()
    separated.heal()
    assert greets_from(separated, "db1", "db2", within=20)
    assert greets_from(separated, "w1", "db2", within=20)


@needs_root
def test_a_host_comes_back_at_its_address_even_if_the_network_was_lost(separated: Sandbox) -> None:
    address = separated.layout.member("db1").address
    pid = wait_for_mysqld(separated, "db1")
    for name in separated.layout.names:
        separated.kill(name, Target.HOST)
    network = separated.layout.network()
    assert network
    network.remove()  # as a reboot of the machine does
    reopened = open_sandbox(separated.directory)
    reopened.start("db1", Target.HOST)
    wait_for_mysqld(reopened, "db1", other_than=pid)
    assert reopened.layout.member("db1").address == address
    assert greets_from(reopened, "w1", "db1", within=20)
    reopened.start_all()


@needs_root
def test_down_leaves_no_namespace(separated: Sandbox) -> None:
    separated.down(purge=False)
    network = separated.layout.network()
    assert network
    assert not [name for name in separated.layout.names if Path("/run/netns", network.namespace(name)).exists()]
    separated.start_all()


def test_without_root_it_says_so() -> None:
    code = (
        "import os; from raftctl.sandbox.network import require_namespaces\n"
        "os.geteuid() or os.seteuid(65534)\n"
        "require_namespaces()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "HostError: network namespaces need root" in result.stderr
