"""Members come and go, and two of three hosts are lost, on hosts that are reached over SSH and run systemd."""

from __future__ import annotations

import pytest

from raftctl.errors import MySQLError
from raftctl.mysql.client import connect
from tests.support.container_hosts import ContainerHosts
from tests.support.stage import Stage

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]

MEMBERS = ("db1", "db2", "db3")


def test_add_replace_and_remove_under_load(hosts: ContainerHosts, orders: Stage) -> None:
    hosts.write_inventory([*MEMBERS, "db4"])
    stage = hosts.stage()
    with stage.writing() as writer:
        hosts.add("db4")
        hosts.wait_for_units("db4", "mysql")
        hosts.raftctl("member", "add", "db4", "--yes")
        status = stage.wait_healthy()
        assert status.quorum.voters == 4
        assert writer.wait_for(20, 60), stage.story()

        # A host is lost for good; a new one takes its name and its address.
        lost = next(name for name in MEMBERS if name not in (status.primary, status.leader))
        hosts.remove(lost)
        hosts.raftctl("member", "remove", lost, "--yes")
        assert stage.status().quorum.voters == 3
        hosts.add(lost)
        hosts.wait_for_units(lost, "mysql")
        hosts.raftctl("member", "add", lost, "--yes")
        assert stage.wait_healthy().quorum.voters == 4
        assert writer.wait_for(20, 60), stage.story()

        # The primary is removed: it hands over first.
        hosts.raftctl("switchover", "--to", "db4", "--yes")
        stage.wait_healthy()
        hosts.raftctl("member", "remove", "db4", "--yes")
        assert hosts.sql("db4", "SELECT @@GLOBAL.super_read_only") == "1"
        assert hosts.main_pid("db4", "raftctl-controller") == "0"
        hosts.remove("db4")
        hosts.write_inventory(MEMBERS)
        stage = hosts.stage()
        assert stage.wait_healthy().quorum.voters == 3
        assert writer.wait_for(20, 60), stage.story()
    stage.verify(writer)


def takes_a_write(stage: Stage, member: str) -> bool:
    try:
        with connect(stage.endpoint(member), connect_timeout=2.0, timeout=2.0) as conn:
            conn.execute(f"CREATE TABLE IF NOT EXISTS `{stage.database}`.stray (id INT PRIMARY KEY)")
    except MySQLError:
        return False
    return True


def wait_for_all_votes(stage: Stage) -> None:
    stage.wait(lambda s: s.health == "ok" and s.quorum.voters == 3, "healthy, with three votes", timeout=180)


def survivor_and_lost(stage: Stage) -> tuple[str, list[str]]:
    primary = stage.wait_healthy().primary
    assert primary
    return primary, [name for name in MEMBERS if name != primary]


def test_one_host_goes_on_when_two_are_lost(hosts: ContainerHosts, orders: Stage) -> None:
    survivor, lost = survivor_and_lost(orders)
    before = orders.status().incarnation
    assert before
    with orders.writing() as writer:
        for name in lost:
            hosts.cut_power(name)
        orders.wait(lambda s: not s.quorum.ok, "the quorum is lost")
        hosts.raftctl("force-members", survivor, "--confirm", "orders")
        assert writer.wait_for(20, 60), orders.story()
        for name in lost:  # together, with the old log and the old votes
            hosts.power_on(name)
        wait_for_all_votes(orders)
        assert writer.wait_for(20, 60), orders.story()
    status = orders.status()
    assert (status.primary, status.incarnation) == (survivor, before + 1)
    orders.verify(writer)


def test_a_host_that_still_answers_is_fenced_first(hosts: ContainerHosts, orders: Stage) -> None:
    """One of the two is dark. On the other the controller is gone, while mysqld and sshd answer."""
    survivor, (dark, answers) = survivor_and_lost(orders)
    with orders.writing() as writer:
        hosts.cut_power(dark)
        hosts.sh(answers, "systemctl stop raftctl-controller")
        orders.wait(lambda s: not s.quorum.ok, "the quorum is lost")
        mysqld = hosts.main_pid(answers, "mysql")
        refused = hosts.attempt("force-members", survivor, "--confirm", "orders")
        assert (refused.returncode, "excluded-answers" in refused.stderr) == (1, True), refused
        assert hosts.main_pid(answers, "mysql") == mysqld, "a refusal changes nothing"
        hosts.raftctl("force-members", survivor, "--fence", "--confirm", "orders")
        assert hosts.main_pid(answers, "mysql") != mysqld
        assert writer.wait_for(20, 60), orders.story()
        hosts.power_on(dark)
        wait_for_all_votes(orders)
        assert not any(takes_a_write(orders, name) for name in (dark, answers))
    assert orders.status().primary == survivor
    orders.verify(writer)
