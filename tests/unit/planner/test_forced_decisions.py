"""Forced membership (rule R10): when it is refused, who becomes the primary, and what is said to be lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftctl.cluster.facts import MySQLState
from raftctl.cluster.observation import ReceiverState
from raftctl.cluster.state import ClusterState, MemberRole, Phase
from raftctl.planner.forced import Census, ForcePlan, ForceReason, judge_force
from tests.support.member_facts import cluster_state, facts, gtids, member, primary_mysqld, replica_mysqld

SILENT = Census(facts_error="no answer", mysql_error="no answer", host_error="no route")
MEMBERS = {name: member(name) for name in ("db1", "db2", "db3")}


def alive(name: str, *, executed: int = 100, state: ClusterState | None = None, **changes: Any) -> Census:
    """A survivor whose controller, mysqld and host answer; db1 is the primary of a cluster with k = 1."""
    state = state or cluster_state()
    mysql = primary_mysqld(executed=executed) if name == "db1" else replica_mysqld(name=name, executed=executed)
    seen = msgspec.structs.replace(mysql.observation, channel=None)
    told = facts(name=name, state=state, leader="", mysql=mysql)
    told = msgspec.structs.replace(told, **({"connected": ()} | changes))
    return Census(facts=told, mysql=seen, mysql_answers=True)


def judged(survivors: dict[str, Census], **arguments: Any) -> ForcePlan:
    plan = judge_force(MEMBERS, dict.fromkeys(MEMBERS, SILENT) | survivors, survivors=list(survivors), **arguments)
    assert isinstance(plan, ForcePlan), plan
    return plan


def reasons(census: dict[str, Census], *survivors: str, **arguments: Any) -> set[tuple[ForceReason, str]]:
    refusals = judge_force(MEMBERS, dict.fromkeys(MEMBERS, SILENT) | census, survivors=survivors, **arguments)
    assert isinstance(refusals, list), refusals
    return {(refusal.reason, refusal.member) for refusal in refusals}


# --- what is done -----------------------------------------------------------------------------------


def test_the_primary_goes_on_and_has_lost_nothing_that_it_acknowledged() -> None:
    plan = judged({"db1": alive("db1")})
    assert (plan.target, plan.certificate, plan.known_lost) == ("db1", gtids(100), 0)
    assert (plan.incarnation, plan.epoch, plan.excluded, plan.fence) == (2, 5, ("db2", "db3"), ())
    assert "has all that it acknowledged" in plan.losses[-1]


def test_a_replica_may_lack_what_the_primary_was_last_seen_with() -> None:
    plan = judged({"db2": alive("db2", executed=90, primary_held=gtids(100))})
    assert (plan.target, plan.certificate, plan.known_lost) == ("db2", gtids(90), 10)
    assert "nobody can tell how much" in plan.losses[-1]


def test_the_floor_is_known_to_have_existed() -> None:
    plan = judged({"db2": alive("db2", executed=90, state=cluster_state(floor=gtids(95)))})
    assert plan.known_lost == 5


def test_received_and_not_applied_counts() -> None:
    mysql = replica_mysqld(name="db2", executed=90, received=100, receiver=ReceiverState.OFF).observation
    plan = judged({"db2": msgspec.structs.replace(alive("db2", primary_held=gtids(100)), mysql=mysql)})
    assert (plan.certificate, plan.known_lost) == (gtids(100), 0)


def test_enough_replicas_of_the_sync_set_have_everything() -> None:
    """Rule R3: two of five members, k = 4, so any one of S besides the primary has all that was acknowledged."""
    names = tuple(f"db{n}" for n in range(1, 6))
    state = cluster_state(data=names, required_acks=4)
    census = dict.fromkeys(names, SILENT) | {m: alive(m, state=state) for m in ("db2", "db3")}
    members = {name: member(name) for name in names}
    plan = judge_force(members, census, survivors=["db2", "db3"])
    assert isinstance(plan, ForcePlan)
    assert "all that was acknowledged" in plan.losses[-1]


def test_what_was_acknowledged_before_the_promotion_may_be_lost_with_the_promoted_one() -> None:
    names = tuple(f"db{n}" for n in range(1, 6))
    state = cluster_state(data=names, required_acks=4, floor=gtids(101))
    census = dict.fromkeys(names, SILENT) | {m: alive(m, state=state) for m in ("db2", "db3")}
    plan = judge_force({name: member(name) for name in names}, census, survivors=["db2", "db3"])
    assert isinstance(plan, ForcePlan)
    assert plan.known_lost == 1
    assert not any("all that was acknowledged" in text for text in plan.losses)


FIVE = {name: member(name) for name in ("db1", "db2", "db3", "db4", "db5")}


def judged_of_five(census: dict[str, Census], **arguments: Any) -> ForcePlan:
    plan = judge_force(FIVE, dict.fromkeys(FIVE, SILENT) | census, survivors=list(census), **arguments)
    assert isinstance(plan, ForcePlan), plan
    return plan


def test_the_survivor_that_has_most_is_promoted() -> None:
    assert judged_of_five({"db2": alive("db2", executed=90), "db3": alive("db3", executed=95)}).target == "db3"


def test_the_primary_is_kept_when_others_have_as_much() -> None:
    assert judged_of_five({"db1": alive("db1"), "db2": alive("db2")}).target == "db1"


def test_a_person_may_wish_for_another_and_is_told_what_that_loses() -> None:
    plan = judged_of_five({"db2": alive("db2", executed=90), "db3": alive("db3", executed=95)}, target="db2")
    assert (plan.target, plan.known_lost) == ("db2", 5)
    assert any("db3 is rebuilt" in text for text in plan.losses)


def test_the_newest_survivor_knows_the_incarnation() -> None:
    risen = alive("db3", state=cluster_state(incarnation=3))
    assert judged_of_five({"db2": alive("db2"), "db3": risen}).incarnation == 4


def test_a_change_of_primary_that_the_majority_never_ended_is_no_obstacle() -> None:
    state = cluster_state(primary="", phase=Phase.FAILOVER, previous_primary="db1")
    assert judged({"db2": alive("db2", state=state)}).target == "db2"


# --- data that are damaged or half copied -----------------------------------------------------------


def unsound(name: str, *, executed: int = 100, **told: Any) -> Census:
    found = alive(name, executed=executed)
    assert found.facts is not None
    mysql = msgspec.structs.replace(found.facts.report.mysql, **told)
    report = msgspec.structs.replace(found.facts.report, mysql=mysql)
    return msgspec.structs.replace(found, facts=msgspec.structs.replace(found.facts, report=report))


UNSOUND = [{"incomplete": True}, {"state": MySQLState.REBUILDING}, {"damage": "page 7"}]


@pytest.mark.parametrize("told", UNSOUND)
def test_sound_data_are_preferred_whatever_else_speaks_for_the_others(told: dict[str, Any]) -> None:
    assert judged_of_five({"db1": unsound("db1", **told), "db2": alive("db2")}).target == "db2"


@pytest.mark.parametrize("told", UNSOUND)
def test_without_sound_data_nobody_is_chosen(told: dict[str, Any]) -> None:
    assert reasons({"db1": unsound("db1", **told)}, "db1") == {(ForceReason.UNSOUND_DATA, "db1")}


def test_a_person_may_go_on_with_damaged_data_and_is_told_so() -> None:
    plan = judged({"db1": unsound("db1", damage="page 7")}, target="db1")
    assert plan.target == "db1"
    assert any("page 7" in text for text in plan.losses)


@pytest.mark.parametrize("told", UNSOUND[:2])
def test_nobody_goes_on_with_half_copied_data(told: dict[str, Any]) -> None:
    census = {"db1": unsound("db1", **told), "db2": alive("db2")}
    members = dict.fromkeys(FIVE, SILENT) | census
    refusals = judge_force(FIVE, members, survivors=["db1", "db2"], target="db1")
    assert isinstance(refusals, list)
    assert [(r.reason, r.member) for r in refusals] == [(ForceReason.UNSOUND_DATA, "db1")]


def test_between_sound_data_and_all_of_them_a_person_chooses() -> None:
    census = {"db2": unsound("db2", damage="page 7"), "db3": alive("db3", executed=90)}
    members = dict.fromkeys(FIVE, SILENT) | census
    refusals = judge_force(FIVE, members, survivors=["db2", "db3"])
    assert isinstance(refusals, list)
    assert [(r.reason, r.member) for r in refusals] == [(ForceReason.UNSOUND_DATA, "db2")]
    for target, lost in (("db2", 0), ("db3", 10)):
        plan = judge_force(FIVE, members, survivors=["db2", "db3"], target=target)
        assert isinstance(plan, ForcePlan)
        assert plan.known_lost == lost
        assert any("the survivors have all" in text for text in plan.losses) == (target == "db2")


def test_half_copied_data_prove_nothing() -> None:
    """With db3's word it would be two of three: |S| - k."""
    plan = judged_of_five({"db2": alive("db2"), "db3": unsound("db3", incomplete=True)})
    assert "nobody can tell how much" in plan.losses[-1]


# --- what is refused --------------------------------------------------------------------------------


def test_nobody_is_excluded_who_answers_in_any_way() -> None:
    for found in (
        msgspec.structs.replace(SILENT, facts=alive("db2").facts),
        msgspec.structs.replace(SILENT, mysql_answers=True),  # its login was refused
        msgspec.structs.replace(SILENT, host_error=""),
    ):
        assert reasons({"db1": alive("db1"), "db2": found}, "db1") == {(ForceReason.EXCLUDED_ANSWERS, "db2")}


def test_what_answers_and_can_be_reached_is_fenced_when_a_person_says_so() -> None:
    plan = judged_of_five({"db1": alive("db1")}, may_fence=True)
    assert plan.fence == ()
    census = dict.fromkeys(MEMBERS, SILENT) | {"db1": alive("db1"), "db2": Census(facts_error="refused")}
    plan = judge_force(MEMBERS, census, survivors=["db1"], may_fence=True)
    assert isinstance(plan, ForcePlan)
    assert plan.fence == ("db2",)


def test_what_answers_and_cannot_be_fenced_is_refused_all_the_same() -> None:
    answers = msgspec.structs.replace(SILENT, mysql_answers=True)
    found = reasons({"db1": alive("db1"), "db2": answers}, "db1", may_fence=True)
    assert found == {(ForceReason.EXCLUDED_ANSWERS, "db2")}


def test_a_survivor_that_hears_an_excluded_one_disproves_its_loss() -> None:
    assert reasons({"db1": alive("db1", connected=("db3",))}, "db1") == {(ForceReason.EXCLUDED_ANSWERS, "db3")}
    receives = msgspec.structs.replace(alive("db2"), mysql=replica_mysqld(name="db2").observation)
    assert reasons({"db2": receives}, "db2") == {(ForceReason.EXCLUDED_ANSWERS, "db1")}


@pytest.mark.parametrize("lacking", [{"facts": None}, {"mysql": None}, {"host_error": "no route"}])
def test_a_survivor_must_answer_in_every_way(lacking: dict[str, Any]) -> None:
    census = {"db1": msgspec.structs.replace(alive("db1"), **lacking)}
    assert (ForceReason.SURVIVOR_SILENT, "db1") in reasons(census, "db1")


def test_a_majority_needs_no_force() -> None:
    assert reasons({"db1": alive("db1"), "db2": alive("db2")}, "db1", "db2") == {(ForceReason.MAJORITY_LEFT, "")}


def test_new_members_without_a_vote_are_no_majority() -> None:
    """Two were being added to three, and two of the three are lost: three of five are left, who can elect nobody."""
    census = {name: alive(name, state=cluster_state(data=tuple(FIVE))) for name in ("db1", "db4", "db5")}
    for name, found in census.items():
        assert found.facts is not None
        raft = msgspec.structs.replace(found.facts.raft, voters=("db1", "db2", "db3"), learners=("db4", "db5"))
        facts_ = msgspec.structs.replace(found.facts, raft=raft)
        census[name] = msgspec.structs.replace(found, facts=facts_)
    assert judged_of_five(census).target == "db1"


def test_only_members_survive() -> None:
    """A host of the inventory that was removed, and whose controller nobody stopped."""
    state = cluster_state(data=("db1", "db2"))
    census = {name: alive(name, state=state) for name in ("db1", "db3")}
    assert (ForceReason.UNKNOWN_MEMBER, "db3") in reasons(census, "db1", "db3")


def test_a_member_that_only_the_log_knows_is_excluded_too() -> None:
    """It is not in the inventory, so it cannot be asked: the majority may well be there."""
    state = cluster_state(data=("db1", "db2", "db3", "db4", "db5"))
    plan = judged({"db1": alive("db1", state=state)})
    assert plan.excluded == ("db2", "db3", "db4", "db5")


def test_there_must_be_somebody_with_data() -> None:
    members = {"w1": member("w1", role=MemberRole.WITNESS), **MEMBERS}
    told = facts(name="w1", state=cluster_state(witnesses=("w1",)), leader="")
    census = dict.fromkeys(members, SILENT) | {"w1": Census(facts=msgspec.structs.replace(told, connected=()))}
    refusals = judge_force(members, census, survivors=["w1"])
    assert isinstance(refusals, list)
    assert [refusal.reason for refusal in refusals] == [ForceReason.NO_TARGET]


def test_an_async_member_is_chosen_only_by_a_person() -> None:
    """The other site is gone. What it lacks of what the primary was last seen with is said."""
    far = member("db4", role=MemberRole.ASYNC)
    members = {**MEMBERS, "db4": far}
    state = cluster_state()
    state = msgspec.structs.replace(state, members={**state.members, "db4": far})
    survivor = alive("db4", executed=90, state=state, primary_held=gtids(100))
    census = dict.fromkeys(members, SILENT) | {"db4": survivor}
    (refusal,) = refusals = judge_force(members, census, survivors=["db4"])
    assert isinstance(refusals, list)
    assert (refusal.reason, "`--to db4`" in refusal.text) == (ForceReason.NO_TARGET, True)
    plan = judge_force(members, census, survivors=["db4"], target="db4")
    assert isinstance(plan, ForcePlan)
    assert (plan.target, plan.certificate, plan.known_lost) == ("db4", gtids(90), 10)
    assert "nobody can tell how much" in plan.losses[-1]
    census |= {"db2": alive("db2", executed=80, state=state)}
    members |= {"db5": member("db5")}
    census["db5"] = SILENT
    beside_data = judge_force(members, census, survivors=["db2", "db4"])
    assert isinstance(beside_data, ForcePlan)
    assert beside_data.target == "db2"
    assert "transactions that are known to have existed" in beside_data.losses[0]


def test_a_wish_must_be_a_survivor() -> None:
    assert reasons({"db1": alive("db1")}, "db1", target="db2") == {(ForceReason.NO_TARGET, "db2")}


def test_without_a_cluster_there_is_nothing_to_force() -> None:
    assert (ForceReason.NOT_INITIALIZED, "") in reasons({"db1": alive("db1", state=ClusterState())}, "db1")
