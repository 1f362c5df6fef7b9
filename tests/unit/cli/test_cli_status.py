"""`raftctl status`: golden tables, JSON and YAML, exit codes, members that are missing."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap

import pytest
import yaml

from raftctl.cluster.facts import MemberFacts, MySQLState
from raftctl.cluster.observation import ReceiverState
from tests.support.fake_controllers import FakeCluster, with_addresses
from tests.support.member_facts import (
    cluster_state,
    healthy,
    leaderless,
    replace,
    replica_mysqld,
    with_mysql,
    with_mysql_state,
)


def serve(orders: FakeCluster, answers: dict[str, MemberFacts]) -> None:
    """Start a controller for each answer; all of them know where the others listen."""
    for name in answers:
        orders.add(name, {})
    for name, answer in answers.items():
        known = replace(answer, state=with_addresses(answer.state, orders))
        orders.controllers[name].replies["GET /v1/member"] = (200, known)


def dedent(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def stripped(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def test_table_of_a_healthy_cluster(orders, raftctl):
    serve(orders, healthy())
    done = raftctl("status")
    assert stripped(done.stdout) == dedent("""
        orders: ok; quorum 3/3, primary db1, can take 1 failure, 0 transactions at risk

        MEMBER  ROLE  STATE    RAFT      TERM   LAG  GTID GAP  SEMI-SYNC    LEASE  VIA
        db1     data  primary  follower     5     -         -  2 (needs 1)   3.8s  api
        db2     data  replica  leader       5  0.0s         0  acks             -  api
        db3     data  replica  follower     5  0.0s         0  acks             -  api
    """)
    assert (done.stderr, done.returncode) == ("", 0)


def test_narrow_table_drops_columns(orders, raftctl):
    serve(orders, healthy(state=cluster_state(data=("db1", "db2"), witnesses=("w1",))))
    assert stripped(raftctl("status", columns=50).stdout) == dedent("""
        orders: ok; quorum 3/3, primary db1, can take 0
        failures, 0 transactions at risk

        MEMBER  STATE     LAG  GTID GAP  SEMI-SYNC
        db1     primary     -         -  1 (needs 1)
        db2     replica  0.0s         0  acks
        w1      -           -         -  -
    """)


def test_table_of_a_cluster_in_trouble(orders, raftctl):
    answers = healthy()
    broken = replica_mysqld(name="db3", executed=70, receiver=ReceiverState.CONNECTING)
    answers["db3"] = with_mysql(answers["db3"], broken)
    answers["db1"] = with_mysql_state(answers["db1"], MySQLState.DOWN, error="no process")
    serve(orders, answers)
    done = raftctl("status")
    assert stripped(done.stdout) == dedent("""
        orders: critical; quorum 3/3, primary db1, can take 0 failures, transactions at risk unknown

        MEMBER  ROLE  STATE    RAFT      TERM   LAG  GTID GAP  SEMI-SYNC  LEASE  VIA
        db1     data  down     follower     5     -         -  -           3.8s  api
        db2     data  replica  leader       5  0.0s         -  acks           -  api
        db3     data  replica  follower     5     -         -  acks           -  api

        db1: the primary is down, not writable (primary-not-writable)
        db1: mysqld is not running: no process (mysqld-down)
        db3: replication is not connected (replica-not-replicating)
    """)
    assert done.returncode == 0


def test_json_and_yaml_say_the_same(orders, raftctl):
    serve(orders, healthy())
    first = raftctl("status", "-o", "json")
    second = raftctl("-o", "yaml", "status")
    document = json.loads(first.stdout)
    assert document["health"] == "ok"
    assert [member["name"] for member in document["members"]] == ["db1", "db2", "db3"]
    assert document == yaml.safe_load(second.stdout)
    assert "\x1b" not in first.stdout + second.stdout


def test_option_after_the_command_wins(orders, raftctl):
    serve(orders, healthy())
    assert json.loads(raftctl("-o", "yaml", "status", "-o", "json").stdout)["cluster"] == "orders"


def test_hanging_and_refusing_members_are_listed(orders, raftctl):
    serve(orders, {name: answer for name, answer in healthy().items() if name == "db2"})
    orders.add_silent("db1")
    orders.add_down("db3")
    done = raftctl("status", "-o", "json", "--via", "api", "--timeout", "9s")
    document = json.loads(done.stdout)
    text = {issue["member"]: issue["text"] for issue in document["issues"] if issue["code"] == "member-unreachable"}
    assert "no answer within 3 s" in text["db1"]
    assert "connection refused" in text["db3"]
    assert [member["via"] for member in document["members"]] == [None, "api", None]
    assert done.returncode == 0, "the leader says that it has a quorum"


def test_nothing_reachable(orders, raftctl):
    for name in ("db1", "db2"):
        orders.add_silent(name)
    orders.add_down("w1")
    done = raftctl("status", "-o", "json", "--timeout", "300ms")
    document = json.loads(done.stdout)
    assert done.returncode == 3
    assert (document["cluster"], document["health"], document["primary"]) == ("orders", "critical", None)
    assert document["quorum"] == {"voters": 3, "required": 2, "reachable": 0, "ok": False}


def test_mysql_is_asked_where_no_controller_answers(orders, raftctl):
    orders.add_down("db1")
    orders.add_down("db2")
    orders.add_down("w1")
    issues = json.loads(raftctl("status", "-o", "json").stdout)["issues"]
    text = {issue["member"]: issue["text"] for issue in issues}
    assert "MySQL: " in text["db1"]
    assert "MySQL: " not in text["w1"]
    assert "pw" not in text["db1"]


def test_no_quorum_exits_3(orders, raftctl):
    serve(orders, leaderless(healthy()))
    done = raftctl("status")
    assert done.returncode == 3
    assert "quorum 3/3 (lost)" in done.stdout


def test_nonsense_is_an_error_of_that_member(orders, raftctl):
    serve(orders, healthy())
    orders.controllers["db3"].replies["GET /v1/member"] = (200, b"<html>")
    orders.controllers["db1"].replies["GET /v1/member"] = (500, b"oops")
    issues = json.loads(raftctl("status", "-o", "json", "--via", "api").stdout)["issues"]
    text = {issue["member"]: issue["text"] for issue in issues}
    assert "not understood" in text["db3"]
    assert "500" in text["db1"]


def test_member_that_only_the_log_knows_is_asked_too(orders, raftctl):
    serve(orders, healthy())
    orders.add_down("w1")  # an inventory with an even number of voters would be refused
    orders.hide("db3")
    found = json.loads(raftctl("status", "-o", "json").stdout)
    assert {member["name"]: member["via"] for member in found["members"]}["db3"] == "api"


def test_impostor_is_not_believed(orders, raftctl):
    """Another member's certificate at db3's address: the CLI must not take its word for db3's."""
    serve(orders, healthy())
    document = yaml.safe_load(orders.inventory.read_text())
    hosts = document["all"]["children"]["orders"]["hosts"]
    hosts["db1"]["raftctl_api_port"], hosts["db3"]["raftctl_api_port"] = (
        hosts["db3"]["raftctl_api_port"],
        hosts["db1"]["raftctl_api_port"],
    )
    orders.inventory.write_text(yaml.safe_dump(document))
    issues = json.loads(raftctl("status", "-o", "json", "--via", "api").stdout)["issues"]
    texts = [issue["text"] for issue in issues if issue["code"] == "member-unreachable"]
    assert len(texts) == 2
    assert all("certificate" in text for text in texts)


def test_via_ssh_says_why_a_host_cannot_be_reached(orders, raftctl):
    """Nobody listens for SSH there; the direct way, which would work, is not taken."""
    serve(orders, healthy())
    document = yaml.safe_load(orders.inventory.read_text())
    for variables in document["all"]["children"]["orders"]["hosts"].values():
        variables |= {"ansible_connection": "ssh", "ansible_port": 1}
    orders.inventory.write_text(yaml.safe_dump(document))
    done = raftctl("status", "--via", "ssh", "-o", "json")
    assert done.returncode == 3, done.stderr
    texts = {i["text"] for i in json.loads(done.stdout)["issues"] if i["code"] == "member-unreachable"}
    assert texts
    assert all("no SSH connection to 127.0.0.1:1: Connection refused" in text for text in texts)


@pytest.fixture
def interruptible():
    """A shell starts what runs in the background with SIGINT ignored, and all its children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_watch_goes_on_until_interrupted(orders):
    serve(orders, healthy())
    command = [sys.executable, "-m", "raftctl", "-i", str(orders.inventory), "--timeout", "30s", "status"]
    with subprocess.Popen(
        [*command, "--watch", "--interval", "10ms", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        documents = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert [document["health"] for document in documents] == ["ok"] * 3
    assert "Traceback" not in errors
    assert process.returncode == 130


def test_colours_on_a_terminal_only(orders, raftctl):
    serve(orders, healthy())
    assert "\x1b[" not in raftctl("status").stdout
    ours, theirs = pty.openpty()
    try:
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {
            "TERM": "xterm-256color"
        }
        command = [sys.executable, "-m", "raftctl", "-i", str(orders.inventory), "--timeout", "30s", "status"]
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, env=environment, timeout=60)
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert "\x1b[1;32mok\x1b[0m" in shown
