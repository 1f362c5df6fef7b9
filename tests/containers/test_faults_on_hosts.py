"""Hosts as a DBA has them, reached over SSH by a user with sudo: systemd, MySQL's own unit, a reboot, a cut network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.container_hosts import ContainerHosts
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]


def primary_of(stage: Stage) -> str:
    primary = stage.wait_healthy().primary
    assert primary is not None
    return primary


def test_a_second_bootstrap_changes_nothing(hosts: ContainerHosts) -> None:
    report: dict[str, Any] = json.loads(hosts.raftctl("-o", "json", "bootstrap", "--yes"))
    assert report["changed"] == []


def test_status_through_ssh_alone(hosts: ContainerHosts, orders: Stage) -> None:
    status = json.loads(hosts.raftctl("--via", "ssh", "status", "-o", "json"))
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


def test_the_sandbox_of_the_units_lets_them_hold_mysqlds_process(hosts: ContainerHosts, orders: Stage) -> None:
    """With it fencing kills mysqld without systemd."""
    primary = primary_of(orders)
    for unit in ("raftctl-controller", "raftctl-guard"):
        held = f"grep -h ^Pid: /proc/{hosts.main_pid(primary, unit)}/fdinfo/* || true"
        wait_until(
            lambda held=held: hosts.main_pid(primary, "mysql") in hosts.sh(primary, held).split(),
            what=f"{unit} holds mysqld's process",
        )


def test_controller_and_guard_of_the_primary_that_are_killed_come_back(hosts: ContainerHosts, orders: Stage) -> None:
    primary = primary_of(orders)
    with orders.writing() as writer:
        for unit in ("raftctl-controller", "raftctl-guard"):
            before = hosts.main_pid(primary, unit)
            hosts.sh(primary, f"kill -KILL {before}")
            wait_until(
                lambda u=unit, pid=before: hosts.main_pid(primary, u) not in ("0", pid),
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
    pid = hosts.main_pid(replica, "raftctl-controller")
    hosts.sh(replica, f"kill -STOP {pid}")
    orders.wait(
        lambda _: hosts.main_pid(replica, "raftctl-controller") not in ("0", pid),
        "the controller was replaced",
    )
    orders.wait_healthy()
