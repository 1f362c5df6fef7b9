"""`raftctl explain`: the loss of each kind of member, told from the leader's own decisions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from raftctl.cluster.facts import MemberReport, MySQLState
from raftctl.cluster.state import ClusterState, MemberRole, Pause, Phase, Settings
from raftctl.planner.explain import Explanation, explain_loss
from raftctl.planner.refusal import Reason
from tests.support.planner_builders import a_change, a_member, a_replica, a_report, a_state, a_view


def explained(state: ClusterState, lost: str, *, leader: str = "db2", **view: Any) -> Explanation:
    found = explain_loss(state, a_view(state, **view), lost, leader=leader)
    assert isinstance(found, Explanation), found
    return found


def reasons(found: Explanation) -> dict[str, str]:
    return {one.name: one.reason for one in found.candidates}


def refused(state: ClusterState, lost: str) -> Collection[Reason]:
    found = explain_loss(state, a_view(state), lost, leader="db2")
    assert isinstance(found, list)
    return [refusal.reason for refusal in found]


def test_the_primary_is_replaced_by_a_replica_that_has_everything() -> None:
    found = explained(a_state(), "db1")
    assert (found.role, found.promoted, found.serving) == ("primary", "db2", True)
    assert reasons(found) == {"db2": "", "db3": ""}


def test_the_most_advanced_is_promoted_and_the_other_told_why_not() -> None:
    state = a_state()
    behind = a_report("db2", state=state, seen=a_replica(executed="A:1-90"))
    found = explained(state, "db1", reports=[behind])
    assert found.promoted == "db3"
    assert reasons(found) == {"db2": "missing-transactions", "db3": ""}


def test_every_candidate_has_its_reason() -> None:
    state = a_state(data=5, sync_set=("db1", "db2", "db3", "db4"), locked=("db5",))
    errant = a_report("db3", state=state, seen=a_replica(executed="A:1-100,B:1"), errant="B:1")
    down = a_report("db4", state=state, mysql=MySQLState.DOWN)
    found = explained(state, "db1", reports=[errant, down])
    assert reasons(found) == {
        "db2": "",
        "db3": "errant-transactions",
        "db4": "mysqld-down",
        "db5": "not-in-sync-set",
    }


def test_a_replica_is_not_missed_when_another_acknowledges() -> None:
    found = explained(a_state(), "db3")
    assert (found.role, found.promoted, found.serving, found.candidates) == ("data", "", True, ())
    assert "acknowledgements from db2" in found.outcome[-1]


def test_the_last_acknowledging_replica() -> None:
    members = [a_member("db1"), a_member("db2"), a_member("w1", role=MemberRole.WITNESS)]
    for policy, serving in (("strict", False), ("available", True)):
        state = a_state(members=members, settings=Settings(durability_policy=policy))
        witness = MemberReport(member="w1", seq=1, version=10, epoch=1)
        found = explained(state, "db2", reports=[witness], leader="db1")
        assert found.serving is serving, policy


def test_a_witness() -> None:
    members = [*(a_member(f"db{n}") for n in (1, 2, 3)), a_member("w1", role=MemberRole.WITNESS)]
    found = explained(a_state(members=members), "w1")
    assert (found.role, found.serving) == ("witness", True)


def test_the_leader_costs_an_election() -> None:
    assert "leads the controllers" in explained(a_state(), "db3", leader="db3").outcome[0]


def test_without_a_majority_nothing_is_decided() -> None:
    found = explained(a_state(), "db1", missing=["db3"])
    assert (found.serving, found.promoted) == (False, "")
    assert "1 of 3 voters" in found.outcome[0]


def test_learners_do_not_count_for_the_majority() -> None:
    state = a_state(data=4)
    view = msgspec.structs.replace(a_view(state, missing=["db3"]), voters=("db1", "db2", "db3"), learners=("db4",))
    lost_voter, lost_learner = (explain_loss(state, view, member, leader="db1") for member in ("db2", "db4"))
    assert isinstance(lost_voter, Explanation)
    assert isinstance(lost_learner, Explanation)
    assert "1 of 3 voters" in lost_voter.outcome[0]
    assert "voters" not in lost_learner.outcome[0]


def test_a_failover_that_would_be_held_back_says_why() -> None:
    paused = explained(a_state(paused=Pause("disk swap", "dba", 0)), "db1")
    assert ([r.reason for r in paused.refusals], paused.serving) == ([Reason.PAUSED], False)
    assert reasons(paused) == {"db2": "", "db3": ""}, "who could be promoted by hand"
    by_hand = explained(a_state(settings=Settings(failover_automatic=False)), "db1")
    assert [r.reason for r in by_hand.refusals] == [Reason.AUTOMATIC_OFF]


def test_the_primary_alone_in_the_sync_set() -> None:
    state = a_state(sync_set=("db1",), required_acks=0, settings=Settings(durability_policy="available"))
    found = explained(state, "db1")
    assert [r.reason for r in found.refusals] == [Reason.PRIMARY_ALONE]
    assert reasons(found) == {"db2": "not-in-sync-set", "db3": "not-in-sync-set"}


def test_replicas_that_still_hear_it_do_not_count() -> None:
    """Its mysqld would be gone as well: nothing is held back for it."""
    assert explained(a_state(), "db1", ages={"db1": 0.0}).promoted == "db2"


def test_what_cannot_be_asked_now() -> None:
    assert refused(a_state(), "db9") == [Reason.UNKNOWN_MEMBER]
    assert refused(a_change(Phase.FAILOVER), "db2") == [Reason.CHANGE_UNDER_WAY]
    assert refused(ClusterState(), "db1") == [Reason.NOT_INITIALIZED]
