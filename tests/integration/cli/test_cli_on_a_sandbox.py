"""The commands on a real cluster: three mysqlds, three controllers, on loopback."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(distribution: MySQLDistribution) -> Iterator[Stage]:
    with stage(namespaces=False) as made:
        yield made


def raftctl(cluster: Stage, *arguments: str) -> subprocess.CompletedProcess[str]:
    inventory = str(cluster.sandbox.inventory)
    return subprocess.run(
        [sys.executable, "-m", "raftctl", "-i", inventory, "--timeout", "60s", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def status(cluster: Stage, *arguments: str) -> dict[str, Any]:
    return json.loads(raftctl(cluster, *arguments, "status", "-o", "json").stdout)


def test_healthy_cluster(cluster: Stage):
    cluster.wait_healthy()
    found = status(cluster)
    assert (found["health"], found["issues"], found["failures_tolerated"]) == ("ok", [], 1)
    assert found["quorum"] == {"voters": 3, "required": 2, "reachable": 3, "ok": True}
    by_state = sorted(member["mysql"]["state"] for member in found["members"])
    assert by_state == ["primary", "replica", "replica"]
    replicas = [member["mysql"] for member in found["members"] if member["mysql"]["state"] == "replica"]
    assert [replica["replicating_from"] for replica in replicas] == [found["primary"]] * 2
    assert raftctl(cluster, "check").returncode == 0


def test_mysql_directly_says_the_same(cluster: Stage):
    cluster.wait_healthy()
    by_api, direct = status(cluster), status(cluster, "--via", "direct")
    assert {member["via"] for member in direct["members"]} == {"direct"}
    for one, other in zip(by_api["members"], direct["members"], strict=True):
        for field in ("state", "writable", "version", "replicating_from", "semi_sync"):
            assert one["mysql"][field] == other["mysql"][field], (one["name"], field)


def test_mysql_is_asked_through_ssh_where_the_controller_is_down(cluster: Stage):
    """From where only SSH leads to the hosts: here each is this machine."""
    primary = cluster.wait_healthy().primary
    lost = next(name for name in ("db1", "db2", "db3") if name != primary)
    cluster.sandbox.kill(lost, Target.CONTROLLER)
    try:
        found = status(cluster, "--via", "ssh")
    finally:
        cluster.sandbox.start(lost, Target.CONTROLLER)
    (row,) = [member for member in found["members"] if member["name"] == lost]
    assert (row["via"], row["raft"]["state"], row["mysql"]["state"]) == ("ssh", None, "replica")
    cluster.wait_healthy()


def test_switchover_there_and_back(cluster: Stage):
    before = cluster.wait_healthy().primary
    target = next(name for name in ("db1", "db2", "db3") if name != before)
    plan = raftctl(cluster, "switchover", "--to", target, "--dry-run")
    assert plan.returncode == 0
    assert target in plan.stdout
    assert status(cluster)["primary"] == before, "a plan changes nothing"
    done = raftctl(cluster, "switchover", "--to", target, "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["primary"], result["before"]) == (target, before)
    cluster.wait_healthy()
    history = json.loads(raftctl(cluster, "history", "-o", "json", "-n", "0").stdout)
    steps = [entry for entry in history if entry["epoch"] == result["epoch"]]
    assert [entry["kind"] for entry in steps][:2] == ["begin-switchover", "promote"]
    assert steps[1]["seconds"] >= 0
    back = raftctl(cluster, "switchover", "--to", str(before), "--yes")
    assert back.returncode == 0, back.stderr
    cluster.wait_healthy()


def test_refusals_name_their_reason(cluster: Stage):
    primary = cluster.wait_healthy().primary
    same = raftctl(cluster, "switchover", "--to", str(primary), "--yes")
    assert (same.returncode, "already-primary" in same.stderr) == (1, True)
    healthy = raftctl(cluster, "failover", "--yes")
    assert (healthy.returncode, "primary-healthy" in healthy.stderr) == (1, True)
    stranger = raftctl(cluster, "switchover", "--to", "db9", "--yes")
    assert (stranger.returncode, "db9 is not a member" in stranger.stderr) == (2, True), stranger


def test_pause_and_resume(cluster: Stage):
    cluster.wait_healthy()
    assert raftctl(cluster, "pause", "--reason", "disk swap", "--yes").returncode == 0
    wait_until(lambda: status(cluster)["paused"], what="everybody knows of the pause")
    warning = raftctl(cluster, "check")
    assert (warning.returncode, "disk swap" in warning.stdout) == (1, True)
    assert raftctl(cluster, "resume", "--yes").returncode == 0
    cluster.wait_healthy()


def test_explain_tells_what_a_loss_would_do(cluster: Stage):
    primary = cluster.wait_healthy().primary
    found = json.loads(raftctl(cluster, "explain", "-o", "json").stdout)
    assert (found["member"], found["role"], found["serving"]) == (primary, "primary", True)
    assert found["promoted"] in {one["name"] for one in found["candidates"] if one["eligible"]}
    replica = next(name for name in ("db1", "db2", "db3") if name != primary)
    table = raftctl(cluster, "explain", replica)
    assert (table.returncode, "writes go on" in table.stdout) == (0, True), table
    assert raftctl(cluster, "explain", "db9").returncode == 2


def test_logs_of_all_hosts_in_the_order_of_time(cluster: Stage):
    cluster.wait_healthy()
    lines = json.loads(raftctl(cluster, "logs", "-n", "500", "-o", "json").stdout)
    assert {line["host"] for line in lines} == {"db1", "db2", "db3"}
    assert {"controller", "supervisor"} <= {line["unit"] for line in lines}
    times = [dt.datetime.fromisoformat(line["at"]) for line in lines]
    assert times == sorted(times)
    some = raftctl(cluster, "logs", "db1", "--since", "1h", "-n", "3").stdout.splitlines()
    assert len(some) == 3
    assert all(" db1 " in line for line in some)


def test_logs_go_on_with_what_comes(cluster: Stage):
    primary = cluster.wait_healthy().primary
    replica = next(name for name in ("db1", "db2", "db3") if name != primary)
    command = [sys.executable, "-m", "raftctl", "-i", str(cluster.sandbox.inventory), "logs", replica, "-f", "-n", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        deadline = threading.Timer(60, process.kill)
        deadline.start()
        assert process.stdout is not None
        assert process.stdout.readline()
        cluster.sandbox.kill(replica, Target.CONTROLLER)
        cluster.sandbox.start(replica, Target.CONTROLLER)
        assert any("state confirmed" in line for line in process.stdout)
        deadline.cancel()
        process.kill()
    cluster.wait_healthy()


def test_settings_are_changed_while_the_cluster_runs(cluster: Stage):
    cluster.wait_healthy()
    before = json.loads(raftctl(cluster, "config", "show", "-o", "json").stdout)
    assert (before["settings"]["durability"], before["differs"]) == ("majority", [])
    plan = raftctl(cluster, "config", "set", "durability=all", "--dry-run")
    assert (plan.returncode, "majority -> all" in plan.stdout) == (0, True), plan
    assert raftctl(cluster, "config", "set", "durability=all", "failover.cooldown=5s", "--yes").returncode == 0
    cluster.wait(lambda s: s.durability.required_acks == 2 and s.health == "ok", "two replicas acknowledge")
    after = json.loads(raftctl(cluster, "config", "show", "-o", "json").stdout)
    assert (after["differs"], after["number"]) == (["durability", "failover.cooldown"], before["number"] + 1)
    assert raftctl(cluster, "config", "undo", "--yes").returncode == 0
    cluster.wait(lambda s: s.durability.required_acks == 1 and s.health == "ok", "one replica acknowledges")
    assert json.loads(raftctl(cluster, "config", "show", "-o", "json").stdout)["settings"] == before["settings"]
    refused = raftctl(cluster, "config", "set", "durability=7", "--yes")
    assert (refused.returncode, "at most 2 replicas" in refused.stderr) == (2, True), refused


def test_member_whose_controller_is_dead_is_asked_directly(cluster: Stage):
    primary = cluster.wait_healthy().primary
    replica = next(name for name in ("db1", "db2", "db3") if name != primary)
    cluster.sandbox.kill(replica, Target.CONTROLLER)
    try:
        found = status(cluster)
        row = next(member for member in found["members"] if member["name"] == replica)
        assert (row["via"], row["mysql"]["writable"]) == ("direct", False)
        assert row["mysql"]["gtid_executed"]
        assert ("member-unreachable", replica) in [(issue["code"], issue["member"]) for issue in found["issues"]]
        assert raftctl(cluster, "check", "controllers").returncode == 1
    finally:
        cluster.sandbox.start(replica, Target.CONTROLLER)
    cluster.wait_healthy()


def test_without_any_controller(cluster: Stage):
    cluster.wait_healthy()
    names = cluster.sandbox.layout.names
    for name in names:
        cluster.sandbox.kill(name, Target.GUARD, restart=False)  # or it fences, and what it had to kill waits to start
        cluster.sandbox.kill(name, Target.CONTROLLER)
    try:
        assert raftctl(cluster, "status").returncode == 3
        assert raftctl(cluster, "check").returncode == 2
        assert raftctl(cluster, "switchover", "--yes").returncode == 3
        assert raftctl(cluster, "history").returncode == 3
        members = status(cluster)["members"]
        assert {member["via"] for member in members} == {"direct"}, members
    finally:
        for name in names:
            cluster.sandbox.start(name, Target.CONTROLLER)
            cluster.sandbox.start(name, Target.GUARD)
    cluster.wait_healthy()
