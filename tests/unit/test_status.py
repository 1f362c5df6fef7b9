"""The status of a cluster from its members' answers: one situation a test."""

from __future__ import annotations

import io
from collections.abc import Mapping

import msgspec
import pytest
from rich.console import Console

from raftctl.cli.status_view import draw
from raftctl.cluster.codec import to_json
from raftctl.cluster.facts import CertificateFacts, MemberFacts, MySQLState
from raftctl.cluster.observation import ReceiverState
from raftctl.cluster.state import Pause, Phase
from raftctl.cluster.status import Answer, DirectAnswer, build_status
from raftctl.cluster.status_model import ClusterStatus, Health, IssueCode
from tests.support.member_facts import (
    cluster_state,
    cut_off,
    facts,
    gtids,
    healthy,
    leaderless,
    member,
    primary_mysqld,
    replace,
    replica_mysqld,
    with_mysql,
    with_mysql_state,
    with_state,
)

REFUSED = "connection refused"


def status(answers: Mapping[str, Answer], **more: object) -> ClusterStatus:
    members = {name: member(name) for name in answers}
    return build_status(members=members, answers=answers, **more)  # type: ignore[arg-type]


def codes(found: ClusterStatus) -> set[tuple[str | None, str]]:
    return {(issue.member, issue.code.value) for issue in found.issues}


def row(found: ClusterStatus, name: str):
    return next(row for row in found.members if row.name == name)


# --- the shape --------------------------------------------------------------------------------------


def test_json_has_the_documented_fields():
    document = msgspec.json.decode(to_json(status(healthy())))
    assert set(document) >= {
        *("cluster", "engine", "incarnation", "epoch", "term", "leader", "primary", "paused", "phase"),
        *("quorum", "durability", "health", "issues", "members"),
    }
    assert document["quorum"] == {"voters": 3, "required": 2, "reachable": 3, "ok": True}
    assert document["durability"] == {
        "mode": "majority",
        "policy": "strict",
        "required_acks": 1,
        "sync_set": ["db1", "db2", "db3"],
    }
    db2 = document["members"][1]
    assert set(db2) >= {"name", "role", "address", "api", "via", "raft", "mysql"}
    assert set(db2["raft"]) == {"state", "term", "commit_index", "applied_index", "log_index"}
    assert set(db2["mysql"]) >= {
        *("address", "version", "state", "writable", "gtid_executed", "gtid_received", "errant"),
        *("lag_seconds", "semi_sync", "replicating_from", "error"),
    }


def test_unreachable_members_have_the_same_fields_with_nulls():
    document = msgspec.json.decode(to_json(status(dict.fromkeys(("db1", "db2", "db3"), REFUSED), cluster="orders")))
    assert document["cluster"] == "orders"
    for name in ("engine", "incarnation", "epoch", "term", "leader", "primary", "paused", "phase"):
        assert document[name] is None
    for found in document["members"]:
        assert found["via"] is None
        assert set(found["raft"].values()) == {None}
        assert {value for key, value in found["mysql"].items() if key != "address"} == {None}


def test_issues_carry_code_member_and_text():
    found = msgspec.json.decode(to_json(status(healthy() | {"db3": REFUSED})))
    assert {"code": "member-unreachable", "member": "db3"}.items() <= found["issues"][0].items()
    assert REFUSED in found["issues"][0]["text"]


# --- health -----------------------------------------------------------------------------------------


def test_healthy_cluster():
    found = status(healthy())
    assert (found.health, found.issues) == (Health.OK, ())
    assert (found.primary, found.leader, found.term, found.epoch) == ("db1", "db2", 5, 4)
    assert (found.paused, found.pause, found.failures_tolerated) == (False, None, 1)
    assert (found.at_risk.transactions, found.at_risk.waiting_commits) == (0, 0)
    assert row(found, "db1").mysql.writable is True
    assert row(found, "db1").lease_seconds == 3.8
    assert row(found, "db3").mysql.replicating_from == "db1"
    assert {found.name: found.via for found in found.members} == {"db1": "api", "db2": "api", "db3": "api"}


def test_two_data_members_and_a_witness():
    found = status(healthy(state=cluster_state(data=("db1", "db2"), witnesses=("w1",))))
    assert (found.health, found.failures_tolerated) == (Health.OK, 0)
    assert row(found, "w1").mysql is None
    assert row(found, "w1").role == "witness"


def test_mysqld_of_a_replica_is_down():
    answers = healthy()
    answers["db3"] = with_mysql_state(answers["db3"], MySQLState.DOWN, error="no process")
    found = status(answers)
    assert found.health is Health.DEGRADED
    assert ("db3", "mysqld-down") in codes(found)
    dead = row(found, "db3").mysql
    assert (dead.state, dead.writable, dead.lag_seconds, dead.semi_sync) == ("down", False, None, None)
    assert dead.gtid_executed == str(gtids(100)), "what is on its disk is still known"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (MySQLState.UNRESPONSIVE, IssueCode.MYSQLD_UNRESPONSIVE),
        (MySQLState.UNKNOWN, IssueCode.MYSQLD_UNKNOWN),
        (MySQLState.FENCED, IssueCode.FENCED),
        (MySQLState.JOINING, IssueCode.JOINING),
        (MySQLState.REBUILDING, IssueCode.REBUILDING),
    ],
)
def test_other_states_of_a_replica(state: MySQLState, code: IssueCode):
    answers = healthy()
    answers["db3"] = with_mysql_state(answers["db3"], state)
    found = status(answers)
    assert found.health is Health.DEGRADED
    assert ("db3", code) in codes(found)


def test_primary_that_is_down_is_critical():
    answers = healthy()
    answers["db1"] = with_mysql_state(answers["db1"], MySQLState.DOWN)
    found = status(answers)
    assert found.health is Health.CRITICAL
    assert ("db1", "primary-not-writable") in codes(found)
    assert found.failures_tolerated == 0


def test_read_only_primary_is_critical():
    answers = healthy()
    answers["db1"] = with_mysql(answers["db1"], replica_mysqld(name="db1", source="db2"))
    assert ("db1", "primary-not-writable") in codes(status(answers))


def test_two_writable_mysqlds_are_critical():
    answers = healthy()
    answers["db3"] = with_mysql(answers["db3"], replica_mysqld(name="db3", writable=True))
    found = status(answers)
    assert found.health is Health.CRITICAL
    assert (None, "two-writable") in codes(found)


def test_writable_mysqld_that_no_controller_answers_for_counts():
    answers: dict[str, Answer] = dict(healthy())
    answers["db3"] = DirectAnswer(mysql=primary_mysqld(name="db3"), error=REFUSED)
    assert {(None, "two-writable"), ("db3", "member-unreachable")} <= codes(status(answers))


def test_mysqlds_without_any_controller():
    answers: dict[str, Answer] = {"db1": DirectAnswer(mysql=primary_mysqld(clients=1), error=REFUSED)}
    answers["db2"] = DirectAnswer(mysql=replica_mysqld(name="db2"), error=REFUSED)
    answers["db3"] = REFUSED
    found = status(answers)
    assert (found.health, found.primary, found.quorum.reachable) == (Health.CRITICAL, None, 0)
    assert row(found, "db1").mysql.semi_sync is True
    assert row(found, "db1").mysql.acknowledging_replicas == 1
    assert row(found, "db2").mysql.replicating_from == "db1"
    drawn = io.StringIO()
    Console(file=drawn, width=200).print(draw(found, 200))
    assert "None" not in drawn.getvalue()
    answers["db3"] = DirectAnswer(mysql=primary_mysqld(name="db3"), error=REFUSED)
    assert (None, "two-writable") in codes(status(answers))


def test_change_of_primary_under_way():
    state = cluster_state(primary="", previous_primary="db1", phase=Phase.FAILOVER)
    found = status(healthy(state=state))
    assert (found.health, found.primary, found.phase) == (Health.CRITICAL, None, "failover")
    assert (None, "no-primary") in codes(found)


def test_promotion_under_way():
    answers = with_state(healthy(), phase=Phase.PROMOTING)
    assert ("db1", "change-under-way") in codes(status(answers))


def test_cluster_that_was_never_initialised():
    state = cluster_state(primary="", phase=Phase.UNINITIALIZED, sync_set=(), epoch=0)
    found = status(healthy(state=state))
    assert found.health is Health.CRITICAL
    assert codes(found) == {(None, "not-initialized")}


def test_paused():
    found = status(with_state(healthy(), paused=Pause(reason="disk swap", by="eve@h", at_ms=1)))
    assert (found.health, found.paused) == (Health.DEGRADED, True)
    assert found.pause is not None
    assert found.pause.reason == "disk swap"
    assert codes(found) == {(None, "paused")}


# --- replication ------------------------------------------------------------------------------------


def with_replica(**changes: object) -> dict[str, MemberFacts]:
    answers = healthy()
    answers["db3"] = with_mysql(answers["db3"], replica_mysqld(name="db3", **changes))  # type: ignore[arg-type]
    return answers


def test_lag_and_gtid_gap():
    found = status(with_replica(executed=70, received=90, lag=12.0))
    assert codes(found) == {("db3", "replica-lagging")}
    mysql = row(found, "db3").mysql
    assert (mysql.gtid_gap, mysql.receive_gap, mysql.lag_seconds) == (30, 10, 12.0)


def test_receiver_that_does_not_connect():
    found = status(with_replica(receiver=ReceiverState.CONNECTING))
    assert codes(found) == {("db3", "replica-not-replicating")}
    mysql = row(found, "db3").mysql
    assert (mysql.replicating_from, mysql.lag_seconds) == (None, None), "the lag of a cut-off replica is not known"


def test_receivers_error_is_cut_to_its_message():
    long = "Error reconnecting to source 'u@h:1'. This was attempt 1/9, with a delay of 1 seconds between attempts."
    found = status(
        with_replica(receiver=ReceiverState.CONNECTING, receiver_error=f"{long} Message: Account is locked.")
    )
    assert row(found, "db3").mysql.error == "receiver: Account is locked."


def test_applier_with_an_error():
    found = status(with_replica(applier_error="Duplicate entry '1'"))
    assert codes(found) == {("db3", "replica-not-replicating")}
    assert "Duplicate entry '1'" in (row(found, "db3").mysql.error or "")


def test_applier_that_is_stopped():
    assert codes(status(with_replica(applier_running=False))) == {("db3", "replica-not-replicating")}


def test_replica_of_the_wrong_source():
    found = status(with_replica(source="db2"))
    assert codes(found) == {("db3", "replica-not-replicating")}
    assert row(found, "db3").mysql.replicating_from == "db2"


def test_replica_of_a_stranger_is_shown_with_its_address():
    answers = healthy()
    stranger = replica_mysqld(name="db3")
    channel = replace(stranger.observation.channel, source_host="198.51.100.9", source_uuid="?")
    answers["db3"] = with_mysql(
        answers["db3"], replace(stranger, observation=replace(stranger.observation, channel=channel))
    )
    assert row(status(answers), "db3").mysql.replicating_from == "198.51.100.9:3306"


def test_replica_that_does_not_acknowledge():
    assert codes(status(with_replica(acknowledges=False))) == {("db3", "not-acknowledging")}


def test_errant_transactions():
    answers = healthy()
    errant = replace(answers["db3"].report.mysql, errant=gtids(2, server="db3"))
    answers["db3"] = with_mysql(answers["db3"], errant)
    found = status(answers)
    assert codes(found) == {("db3", "errant-transactions")}
    assert row(found, "db3").mysql.errant == str(gtids(2, server="db3"))


def test_connections_that_are_used_up():
    answers = healthy()
    primary = answers["db1"].report.mysql
    seen = replace(primary.observation, connections=500, connections_max=500)
    answers["db1"] = with_mysql(answers["db1"], replace(primary, observation=seen))
    found = status(answers)
    assert (found.health, codes(found)) == (Health.DEGRADED, {("db1", "connections-used-up")})
    assert (row(found, "db1").mysql.connections, row(found, "db1").mysql.connections_max) == (500, 500)


@pytest.mark.parametrize("waits", [0.0, 60.0])
def test_a_full_disk_is_told_from_a_stalled_one(waits: float):
    answers = healthy()
    full = replace(answers["db1"].report.mysql, disk_full="/var/lib/mysql", disk_waits_seconds=waits)
    answers["db1"] = with_mysql(answers["db1"], full)
    assert codes(status(answers)) == {("db1", "disk-full")}


def test_a_mysqld_that_is_down_for_want_of_space():
    answers = healthy()
    down = replace(answers["db3"].report.mysql, state=MySQLState.DOWN, disk_full="/var/lib/mysql")
    answers["db3"] = with_mysql(answers["db3"], down)
    assert {("db3", "mysqld-down"), ("db3", "disk-full")} <= codes(status(answers))


def test_member_outside_the_sync_set():
    found = status(with_state(healthy(), sync_set=("db1", "db2")))
    assert (found.health, codes(found)) == (Health.DEGRADED, {("db3", "not-in-sync-set")})


def test_too_few_replicas_to_acknowledge():
    answers = healthy()
    answers["db1"] = with_mysql(answers["db1"], primary_mysqld(clients=0, waiting=7))
    found = status(answers)
    assert found.health is Health.CRITICAL
    assert codes(found) == {("db1", "acks-short")}
    assert found.at_risk.waiting_commits == 7


def test_semi_sync_that_is_not_in_force():
    answers = healthy()
    answers["db1"] = with_mysql(answers["db1"], primary_mysqld(required_acks=0))
    found = status(answers)
    assert codes(found) == {("db1", "semi-sync-off")}


def test_asynchronous_durability_counts_what_no_replica_has():
    answers = healthy(state=cluster_state(required_acks=0))
    answers["db1"] = with_mysql(answers["db1"], primary_mysqld(executed=120, required_acks=0))
    answers["db2"] = with_mysql(answers["db2"], replica_mysqld(name="db2", executed=90, received=110))
    found = status(answers)
    assert found.health is Health.OK
    assert found.at_risk.transactions == 10


# --- who is heard -----------------------------------------------------------------------------------


def test_unreachable_replica_that_the_leader_hears():
    found = status(healthy() | {"db3": REFUSED})
    assert found.quorum.reachable == 3
    assert found.health is Health.DEGRADED
    assert codes(found) == {("db3", "member-unreachable")}


def test_unreachable_primary_that_the_leader_hears_is_not_critical():
    found = status(healthy() | {"db1": REFUSED})
    assert codes(found) == {("db1", "member-unreachable")}
    assert found.at_risk.transactions is None


def test_primary_that_nobody_hears_is_critical():
    answers: dict[str, Answer] = dict(cut_off(healthy(), "db1"))
    answers["db1"] = "no answer within 1 s"
    found = status(answers)
    assert found.health is Health.CRITICAL
    assert {("db1", "member-unreachable"), ("db1", "primary-unreachable")} <= codes(found)
    assert (found.quorum.reachable, found.quorum.ok) == (2, True)


def test_unreachable_leader_is_vouched_for_by_its_followers():
    found = status(healthy() | {"db2": REFUSED})
    assert (found.leader, found.quorum.ok, found.quorum.reachable) == ("db2", True, 3)


def test_single_follower_cannot_vouch_for_a_leader_of_five():
    answers = healthy(state=cluster_state(data=("db1", "db2", "db3", "db4", "db5"), required_acks=2))
    found = status({name: answers[name] if name == "db1" else REFUSED for name in answers})
    assert found.quorum.ok is False


def test_member_without_contact_to_the_leader():
    found = status(cut_off(healthy(), "db3"))
    assert codes(found) == {("db3", "no-leader-contact")}


def test_leader_that_lost_the_majority():
    answers: dict[str, Answer] = {"db1": REFUSED, "db3": REFUSED}
    answers["db2"] = replace(healthy()["db2"], quorum_contact_seconds=5.0, connected=())
    found = status(answers)
    assert (found.quorum.reachable, found.quorum.ok, found.health) == (1, False, Health.CRITICAL)
    assert (None, "no-quorum") in codes(found)


def test_election_under_way_is_no_quorum_although_all_answer():
    found = status(leaderless(healthy()))
    assert (found.leader, found.quorum.reachable, found.quorum.ok) == (None, 3, False)
    assert (None, "no-quorum") in codes(found)


def test_deposed_leader_is_not_believed():
    old = replace(healthy(leader="db1", term=4)["db1"], state=cluster_state(epoch=3, version=6))
    answers = healthy(state=cluster_state(primary="db2"), leader="db2", term=5) | {"db1": old}
    found = status(answers)
    assert (found.leader, found.term, found.primary, found.epoch) == ("db2", 5, "db2", 4)
    assert row(found, "db1").raft.state == "leader", "its own word stands in its own row"


def test_newest_state_wins_within_a_term():
    answers = healthy()
    late = answers["db1"]
    answers["db1"] = replace(late, raft=replace(late.raft, applied_index=40), state=cluster_state(primary="db3"))
    assert status(answers).primary == "db1"


def test_higher_incarnation_outranks_a_higher_term():
    excluded = facts(name="db3", state=cluster_state(), leader="db3", term=99, mysql=replica_mysqld(name="db3"))
    answers = healthy(state=cluster_state(incarnation=2), leader="db2", term=5) | {"db3": excluded}
    found = status(answers)
    assert (found.incarnation, found.leader, found.term) == (2, "db2", 5)


def test_a_certificate_that_expires_soon_is_an_issue():
    answers = healthy()
    answers["db1"] = replace(answers["db1"], certificate=CertificateFacts("0A", 12.0, ("0B",)))
    answers["db2"] = replace(answers["db2"], certificate=CertificateFacts("0A", 912.0, ("0B",)))
    found = status(answers)
    assert [(i.code, i.member) for i in found.issues] == [("certificate-expires", "db1")]
    assert "expires in 12 days" in found.issues[0].text
    assert found.health == "degraded"


def test_an_authority_that_expires_soon_is_one_issue_for_all():
    answers = healthy()
    for name, left in (("db1", 80.0), ("db2", 80.0), ("db3", None)):
        certificate = CertificateFacts("0A", 912.0, ("0B",), authority_days_left=left)
        answers[name] = replace(answers[name], certificate=certificate)
    found = status(answers)
    assert [(i.code, i.member) for i in found.issues] == [("certificate-expires", None)]
    assert "authority expires in 80 days: `raftctl rotate certificates --authority`" in found.issues[0].text


def test_two_forced_memberships_of_one_number_are_critical():
    """The one that is shown is the newer by its log; those of the other have no say in it."""
    other = facts(name="db3", state=cluster_state(incarnation=2, branch="b"), leader="db3", mysql=None)
    answers = healthy(state=cluster_state(incarnation=2, branch="a"), leader="db2", term=5) | {"db3": other}
    found = status(answers)
    assert found.health == "critical"
    issue = next(issue for issue in found.issues if issue.code == "two-branches")
    assert "db1, db2 in branch a; db3 in branch b" in issue.text
    assert found.leader == "db2"


def test_members_are_the_logs_and_the_inventorys():
    """A member that is only in the inventory does not count; one that is only in the log does."""
    found = build_status(members={"db1": member("db1"), "db9": member("db9")}, answers=dict(healthy()))
    assert [row.name for row in found.members] == ["db1", "db2", "db3", "db9"]
    assert found.quorum.voters == 3
    assert ("db9", "not-a-member") in codes(found)


def test_ways_are_named():
    answers: dict[str, Answer] = dict(healthy())
    answers["db2"] = DirectAnswer(mysql=replica_mysqld(name="db2"), error=REFUSED)
    found = status(answers, now_via={"db3": "ssh"})
    assert {row.name: row.via for row in found.members} == {"db1": "api", "db2": "direct", "db3": "ssh"}
    assert row(found, "db2").mysql.replicating_from == "db1"
    assert row(found, "db2").raft.term is None


def test_controllers_observation_before_its_first_look():
    answers = healthy()
    answers["db3"] = with_mysql(answers["db3"], None)
    assert ("db3", "mysqld-unknown") in codes(status(answers))


def test_votes_are_those_of_raft_and_a_learner_is_said() -> None:
    answers = healthy()
    for name, answer in answers.items():
        raft = msgspec.structs.replace(answer.raft, voters=("db1", "db2"), learners=("db3",))
        answers[name] = msgspec.structs.replace(answer, raft=raft)
    found = status(answers)
    votes = {row.name: row.vote for row in found.members}
    assert (votes["db1"], votes["db2"], votes["db3"]) == ("voter", "voter", "learner")
    assert (found.quorum.voters, found.quorum.required) == (2, 2)
    assert ("db3", "not-a-voter") in codes(found)


def test_a_member_that_leaves_is_said() -> None:
    assert ("db3", "leaving") in codes(status(with_state(healthy(), leaving="db3")))


def test_the_leader_says_what_it_holds_back() -> None:
    answers = healthy()
    answers["db2"] = msgspec.structs.replace(answers["db2"], held_back=("db1 is lost; failover.automatic is false",))
    (issue,) = status(answers).issues
    assert issue.code == IssueCode.HELD_BACK
    assert "failover.automatic is false" in issue.text
