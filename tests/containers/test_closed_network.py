"""The hosts reach each other in a network of their own; whoever administers them reaches nothing but sshd."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.support.container_hosts import ContainerHosts, container_hosts

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ("db1", "db2", "db3")
CLOSED = "10.213.82"


@contextlib.contextmanager
def unreachable(network: str) -> Iterator[None]:
    """From this machine, at once; no packet leaves it."""
    subprocess.run(["ip", "route", "add", "unreachable", network], check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run(["ip", "route", "del", "unreachable", network], check=True, timeout=30)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerHosts]:
    with (
        container_hosts(tmp_path_factory.mktemp("closed"), subnet="10.213.81") as running,
        unreachable(f"{CLOSED}.0/24"),
    ):
        document = yaml.safe_load(running.inventory.read_text())
        for number, name in enumerate(NAMES, start=1):
            running.wait_for_units(name, "mysql")
            running.give_address(name, f"{CLOSED}.{number}/24")
            document["orders"]["hosts"][name]["raftctl_address"] = f"{CLOSED}.{number}"
        running.inventory.write_text(yaml.safe_dump(document))
        running.raftctl("--timeout", "300s", "bootstrap", "--yes")
        yield running


def test_every_command_finds_the_way_through_ssh(hosts: ContainerHosts) -> None:
    directly = hosts.attempt("--via", "api", "--timeout", "3s", "status")
    assert directly.returncode == 3, "the network is not closed"
    status = json.loads(hosts.raftctl("status", "-o", "json"))
    assert (status["health"], {row["via"] for row in status["members"]}) == ("ok", {"ssh"})
    assert json.loads(hosts.raftctl("-o", "json", "bootstrap", "--yes"))["changed"] == []
    hosts.raftctl("config", "set", "failover.cooldown=5s", "--yes")
    assert "failover_cooldown: 0.0 -> 5.0" in hosts.raftctl("history")
    assert "writes go on" in hosts.raftctl("explain")
    before = status["primary"]
    after = json.loads(hosts.raftctl("-o", "json", "switchover", "--yes"))
    assert (after["before"], after["primary"] != before) == (before, True)
    hosts.raftctl("member", "set", "db3", "priority=5", "--yes")
    hosts.raftctl("pause", "--yes", "--reason", "a test")
    hosts.raftctl("resume", "--yes")
    hosts.raftctl("rotate", "certificates", "--yes")
    assert hosts.attempt("check").returncode == 0
