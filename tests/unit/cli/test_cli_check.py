"""`raftctl check`: one line, perfdata, and the exit code that monitoring acts on."""

from __future__ import annotations

import json

import pytest

from raftctl.cli.nagios import Level, Topic, judge
from raftctl.cluster.facts import MemberFacts, MySQLState
from raftctl.cluster.state import Pause, Phase
from raftctl.cluster.status import build_status
from tests.support.member_facts import (
    cluster_state,
    cut_off,
    healthy,
    leaderless,
    member,
    primary_mysqld,
    replica_mysqld,
    with_mysql,
    with_mysql_state,
    with_state,
)

REFUSED = "connection refused"


def line(answers: dict[str, MemberFacts | str], topic: Topic, **thresholds: float) -> str:
    members = {name: member(name) for name in answers}
    status = build_status(members=members, answers=answers, cluster="orders")
    return judge(status, topic, **thresholds).line()


def lagging(seconds: float | None) -> dict[str, MemberFacts]:
    answers = healthy()
    answers["db3"] = with_mysql(answers["db3"], replica_mysqld(name="db3", lag=seconds))
    return answers


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (
            Topic.QUORUM,
            "RAFTCTL OK - orders: quorum 3/3, leader db2, term 5|voters=3;;2:;0;3 failures_tolerated=1;;;0",
        ),
        (
            Topic.PRIMARY,
            "RAFTCTL OK - orders: primary db1 is writable, epoch 4|waiting_commits=0;;;0 epoch=4;;;0",
        ),
        (
            Topic.REPLICATION,
            "RAFTCTL OK - orders: 2 of 2 replicas replicate|replicas=2;;;0;2 transactions_at_risk=0;;;0",
        ),
        (
            Topic.LAG,
            "RAFTCTL OK - orders: largest lag 0.0 s|db2_lag=0.000s;10;60;0 db3_lag=0.000s;10;60;0",
        ),
        (Topic.CONTROLLERS, "RAFTCTL OK - orders: 3 of 3 controllers answer|controllers=3;;;0;3"),
    ],
)
def test_healthy_cluster(topic: Topic, expected: str):
    assert line(healthy(), topic) == expected


def test_healthy_cluster_as_a_whole():
    assert line(healthy(), Topic.ALL).startswith("RAFTCTL OK - orders: primary db1, quorum 3/3, can lose 1|voters=3;")


@pytest.mark.parametrize("topic", list(Topic))
def test_everything_is_critical_without_a_quorum(topic: Topic):
    assert line(leaderless(healthy()), topic).startswith(
        "RAFTCTL CRITICAL - orders: 3 of 3 voters answer, but no leader"
    )


@pytest.mark.parametrize("topic", list(Topic))
def test_everything_is_critical_when_nothing_answers(topic: Topic):
    answers = dict.fromkeys(("db1", "db2", "db3"), REFUSED)
    assert line(answers, topic).startswith("RAFTCTL CRITICAL - orders: 0 of 3 voters answer, 2 are required")


@pytest.mark.parametrize(
    ("lag", "level"), [(9.9, Level.OK), (10.0, Level.WARNING), (60.0, Level.CRITICAL), (None, Level.WARNING)]
)
def test_lag_thresholds(lag: float | None, level: Level):
    assert line(lagging(lag), Topic.LAG).startswith(f"RAFTCTL {level.name} - ")


def test_own_lag_thresholds():
    assert line(lagging(3.0), Topic.LAG, warning=1.0, critical=2.0).startswith("RAFTCTL CRITICAL - orders: db3: 3.0 s")
    assert line(lagging(30.0), Topic.ALL, warning=100.0, critical=200.0).startswith("RAFTCTL OK")


def test_topics_keep_to_their_subject():
    answers = healthy()
    answers["db3"] = with_mysql_state(answers["db3"], MySQLState.DOWN)
    assert line(answers, Topic.REPLICATION).startswith("RAFTCTL WARNING - orders: db3: mysqld is not running")
    assert line(answers, Topic.PRIMARY).startswith("RAFTCTL OK")
    assert line(answers, Topic.CONTROLLERS).startswith("RAFTCTL OK")
    assert line(answers, Topic.ALL).startswith("RAFTCTL WARNING")


def test_dead_primary():
    answers = healthy()
    answers["db1"] = with_mysql_state(answers["db1"], MySQLState.DOWN)
    assert line(answers, Topic.PRIMARY).startswith("RAFTCTL CRITICAL - orders: db1: the primary is down")


def test_change_of_primary_under_way_is_critical():
    answers = with_state(healthy(), primary="", previous_primary="db1", phase=Phase.FAILOVER)
    assert line(answers, Topic.PRIMARY).startswith("RAFTCTL CRITICAL - orders: no primary: failover")


def test_waiting_writes():
    answers = healthy()
    answers["db1"] = with_mysql(answers["db1"], primary_mysqld(clients=0, waiting=7))
    assert line(answers, Topic.REPLICATION).startswith("RAFTCTL CRITICAL - orders: db1: writes wait")
    assert "waiting_commits=7" in line(answers, Topic.ALL)


def test_pause_is_a_warning():
    answers = with_state(healthy(), paused=Pause(reason="a | b", by="eve@h", at_ms=1))
    text, _, perfdata = line(answers, Topic.ALL).partition("|")
    assert text == "RAFTCTL WARNING - orders: automatic failover is paused by eve@h: a / b"
    assert perfdata.startswith("voters=3"), "a | in the text must not begin the perfdata"


def test_quorum_that_may_not_lose_another_voter():
    answers = cut_off(healthy(), "db3") | {"db3": REFUSED}
    text = "RAFTCTL WARNING - orders: quorum 2/3: no further voter may be lost|voters=2;;2:;0;3"
    assert line(answers, Topic.QUORUM).startswith(text)


def test_missing_controller_and_single_voter():
    answers: dict[str, MemberFacts | str] = dict(healthy())
    answers["db3"] = REFUSED
    assert line(answers, Topic.CONTROLLERS).startswith("RAFTCTL WARNING - orders: db3: controller: connection refused")
    alone: dict[str, MemberFacts | str] = dict(
        healthy(state=cluster_state(data=("db1",), required_acks=0), leader="db1")
    )
    assert line(alone, Topic.QUORUM).startswith("RAFTCTL OK"), "a single voter is not a thin quorum, it is all there is"


def test_long_lists_are_cut():
    answers: dict[str, MemberFacts | str] = dict(healthy(state=cluster_state(data=("db1", "db2", "db3", "db4", "db5"))))
    for name in ("db3", "db4", "db5"):
        found = answers[name]
        assert isinstance(found, MemberFacts)
        answers[name] = with_mysql_state(found, MySQLState.DOWN)
    answers["db1"] = REFUSED
    assert "and 1 more|" in line(answers, Topic.ALL)


# --- the program ------------------------------------------------------------------------------------


def serve(orders, answers: dict[str, MemberFacts]) -> None:
    for name, answer in answers.items():
        orders.add(name, {"GET /v1/member": (200, answer)})


def test_exit_codes_and_one_line(orders, raftctl):
    serve(orders, lagging(30.0))
    assert raftctl("check", "quorum").returncode == 0
    warning = raftctl("check", "lag")
    assert (warning.returncode, warning.stdout.count("\n"), warning.stderr) == (1, 1, "")
    assert raftctl("check", "lag", "-w", "1s", "-C", "20s").returncode == 2
    assert raftctl("check", "lag", "--warning", "1m", "--critical", "2m").returncode == 0


def test_nothing_reachable_is_critical(orders, raftctl):
    orders.add_silent("db1")
    orders.add_silent("db2")
    orders.add_down("w1")
    done = raftctl("check", "--timeout", "300ms")
    assert done.returncode == 2
    assert done.stdout.startswith("RAFTCTL CRITICAL - orders: 0 of 3 voters answer")
    assert done.stdout.count("\n") == 1


def test_no_inventory_is_unknown(orders, raftctl):
    done = raftctl("check", inventory=False)
    assert (done.returncode, done.stdout.count("\n")) == (3, 1)
    assert done.stdout.startswith("RAFTCTL UNKNOWN - there is no inventory")


def test_unknown_topic_and_crossed_thresholds_are_unknown(orders, raftctl):
    serve(orders, healthy())
    for arguments in (["latency"], ["lag", "-w", "10s", "-C", "5s"]):
        done = raftctl("check", *arguments)
        assert (done.returncode, done.stdout[:18]) == (3, "RAFTCTL UNKNOWN - ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--wraning", "5s"],
        ["check", "--warning", "soon"],
        ["check", "lag", "quorum"],
        ["check", "--via", "pigeon"],
        ["--via", "pigeon", "check"],
        ["-i", "/nowhere/inventory.yaml", "check", "quorum"],
    ],
)
def test_a_wrong_command_line_is_unknown_and_no_alarm(orders, raftctl, arguments):
    serve(orders, healthy())
    done = raftctl(*arguments)
    assert (done.returncode, done.stdout.count("\n")) == (3, 1), done
    assert done.stdout.startswith("RAFTCTL UNKNOWN - ")


def test_json(orders, raftctl):
    serve(orders, healthy())
    found = json.loads(raftctl("check", "controllers", "-o", "json").stdout)
    assert found == {
        "state": "OK",
        "text": "orders: 3 of 3 controllers answer",
        "perfdata": ["controllers=3;;;0;3"],
    }
