"""Hosts as a DBA has them, reached over SSH by a user with sudo: systemd, MySQL's own unit, a reboot, a cut network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest

from raftctl.bootstrap.application import create_application
from raftctl.cli.cluster import open_cluster
from raftctl.cli.options import Options
from raftctl.mysql.client import Endpoint
from raftctl.sandbox.cluster import Sandbox
from raftctl.secret import Secret
from tests.support.container_hosts import ContainerHosts, container_hosts
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(3600)]

BOOTSTRAP_SECONDS = 1200.0
PASSWORD = "app-Pass.1"


def raftctl(hosts: ContainerHosts, *arguments: str, timeout: float = BOOTSTRAP_SECONDS) -> str:
    command = [sys.executable, "-m", "raftctl", "-i", str(hosts.inventory), *arguments]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    assert done.returncode == 0, f"raftctl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerHosts]:
    with container_hosts(tmp_path_factory.mktemp("hosts")) as running:
        raftctl(running, "--timeout", "300s", "bootstrap", "--yes")
        yield running


@pytest.fixture(scope="module")
def orders(hosts: ContainerHosts) -> Stage:
    """The bootstrapped cluster with an application's account."""
    cluster = open_cluster(Options(inventory=hosts.inventory))
    create_application(cluster.inventory, database="app", user="app", password=Secret(PASSWORD))
    login = Endpoint(user="app", password=Secret(PASSWORD))
    return Stage(cast(Sandbox, None), cluster, "app", login)  # the hosts are no sandbox's


def primary_of(stage: Stage) -> str:
    primary = stage.wait_healthy().primary
    assert primary is not None
    return primary


def main_pid(hosts: ContainerHosts, name: str, unit: str) -> str:
    return hosts.sh(name, f"systemctl show --property=MainPID --value {unit}")


def test_a_second_bootstrap_changes_nothing(hosts: ContainerHosts) -> None:
    report: dict[str, Any] = json.loads(raftctl(hosts, "-o", "json", "bootstrap", "--yes"))
    assert report["changed"] == []


def test_a_host_listens_where_the_documentation_says_and_nowhere_else(hosts: ContainerHosts, orders: Stage) -> None:
    orders.wait_healthy()
    listening = [line.split()[3].rpartition(":") for line in hosts.sh("db1", "ss -ltnH").splitlines()]
    reachable = {int(port) for address, _, port in listening if not address.startswith("127.")}
    assert reachable == {22, 3306, 8007, 8008}


def test_status_through_ssh_alone(hosts: ContainerHosts, orders: Stage) -> None:
    orders.wait_healthy()
    status = json.loads(raftctl(hosts, "--via", "ssh", "status", "-o", "json"))
    assert {member["via"] for member in status["members"]} == {"ssh"}


def test_a_stop_of_mysqld_by_systemctl_acknowledges_nothing_falsely(hosts: ContainerHosts, orders: Stage) -> None:
    old = primary_of(orders)
    with orders.writing() as writer:
        hosts.sh(old, "systemctl stop mysql", timeout=300)
        orders.wait_new_primary(old)
        assert writer.wait_for(20, 120), orders.story()
    hosts.sh(old, "systemctl start mysql", timeout=300)
    orders.verify(writer)


def test_a_restart_of_mysqld_by_systemctl_acknowledges_nothing_falsely(hosts: ContainerHosts, orders: Stage) -> None:
    old = primary_of(orders)
    with orders.writing() as writer:
        hosts.sh(old, "systemctl restart mysql", timeout=300)
        orders.wait_new_primary(old)
        assert writer.wait_for(20, 120), orders.story()
    assert not [entry for entry in orders.history() if entry.kind == "tail-cut"], "it was stopped cleanly"
    orders.verify(writer)


def test_controller_and_guard_of_the_primary_that_are_killed_come_back(hosts: ContainerHosts, orders: Stage) -> None:
    primary = primary_of(orders)
    with orders.writing() as writer:
        for unit in ("raftctl-controller", "raftctl-guard"):
            before = main_pid(hosts, primary, unit)
            hosts.sh(primary, f"kill -KILL {before}")
            wait_until(
                lambda u=unit, pid=before: main_pid(hosts, primary, u) not in ("0", pid),
                what=f"{unit} was started again",
                timeout=60,
            )
        assert writer.wait_for(20, 120), orders.story()
    orders.verify(writer)


def test_a_host_whose_network_is_cut_is_failed_over_and_comes_back(hosts: ContainerHosts, orders: Stage) -> None:
    old = primary_of(orders)
    with orders.writing() as writer:
        hosts.disconnect(old)
        try:
            orders.wait_new_primary(old)
            assert writer.wait_for(20, 120), orders.story()
        finally:
            hosts.connect(old)
    orders.verify(writer)


def test_a_host_that_reboots_hands_over_and_comes_back(hosts: ContainerHosts, orders: Stage) -> None:
    old = primary_of(orders)
    with orders.writing() as writer:
        hosts.reboot(old)
        orders.wait_new_primary(old)
        assert writer.wait_for(20, 120), orders.story()
    orders.verify(writer)


def test_a_controller_that_hangs_is_restarted(hosts: ContainerHosts, orders: Stage) -> None:
    replica = next(row.name for row in orders.wait_healthy().members if row.name != orders.status().primary)
    pid = main_pid(hosts, replica, "raftctl-controller")
    hosts.sh(replica, f"kill -STOP {pid}")
    orders.wait(
        lambda _: main_pid(hosts, replica, "raftctl-controller") not in ("0", pid),
        "the controller was replaced",
    )
    orders.wait_healthy()
