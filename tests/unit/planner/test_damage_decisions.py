"""What is done about a member whose InnoDB reports damaged data."""

from __future__ import annotations

import msgspec

from raftctl.cluster.commands import BeginRebuild, BeginSwitchover, Promote
from raftctl.cluster.facts import MemberReport
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import ClusterState, Pause, Phase, Settings
from raftctl.planner.leader import decide
from raftctl.planner.refusal import Reason
from raftctl.planner.switchover import unfit
from tests.support.planner_builders import UUIDS, a_change, a_replica, a_report, a_state, a_view

SAID = "MY-011971: Page log sequence number is in the future"


def damaged(
    member: str, *, state: ClusterState, seen: MySQLObservation | None = None, fenced: bool = False
) -> MemberReport:
    report = a_report(member, state=state, seen=seen, fenced=fenced)
    assert report.mysql is not None
    return msgspec.structs.replace(report, mysql=msgspec.structs.replace(report.mysql, damage=SAID))


def test_a_damaged_replica_is_rebuilt_without_being_asked_for() -> None:
    state = a_state()
    command = decide(state, a_view(state, reports=[damaged("db2", state=state)])).command
    assert isinstance(command, BeginRebuild)
    assert (command.member, command.server_uuid) == ("db2", UUIDS["B"])
    assert SAID in command.why


def test_a_rebuild_under_way_is_not_begun_again() -> None:
    state = a_state(rebuilds={"db2": UUIDS["B"]}, sync_set=("db1", "db3"))
    assert decide(state, a_view(state, reports=[damaged("db2", state=state)])).command is None


def test_strict_keeps_a_damaged_replica_that_nobody_can_replace() -> None:
    state = a_state(data=2)
    verdict = decide(state, a_view(state, reports=[damaged("db2", state=state)]))
    assert verdict.command is None
    assert [r.reason for r in verdict.refusals] == [Reason.WOULD_LOSE_DURABILITY]


def test_available_rebuilds_it_all_the_same() -> None:
    state = a_state(data=2, settings=Settings(durability_policy="available"))
    command = decide(state, a_view(state, reports=[damaged("db2", state=state)])).command
    assert isinstance(command, BeginRebuild)


def test_a_damaged_member_does_not_join_the_sync_set() -> None:
    state = a_state(sync_set=("db1", "db3"), rebuilds={"db2": UUIDS["B"]})
    assert decide(state, a_view(state, reports=[damaged("db2", state=state)])).command is None


def test_a_damaged_primary_hands_over() -> None:
    state = a_state()
    command = decide(state, a_view(state, reports=[damaged("db1", state=state)])).command
    assert isinstance(command, BeginSwitchover)
    assert SAID in command.why


def test_it_hands_over_to_a_sound_replica_only() -> None:
    state = a_state()
    reports = [damaged(m, state=state) for m in ("db1", "db2")]
    assert unfit(state, a_view(state, reports=reports), "db2").reason is Reason.DAMAGED_DATA
    command = decide(state, a_view(state, reports=reports)).command
    assert isinstance(command, BeginSwitchover)
    assert command.target == "db3"


def test_nobody_is_rebuilt_from_a_damaged_primary() -> None:
    state = a_state()
    verdict = decide(state, a_view(state, reports=[damaged(m, state=state) for m in ("db1", "db2", "db3")]))
    assert verdict.command is None
    assert verdict.refusals[0].reason is Reason.DAMAGED_DATA


def test_a_hand_over_that_failed_is_not_tried_again_at_once() -> None:
    state = a_state()
    verdict = decide(state, a_view(state, reports=[damaged("db1", state=state)], version_seconds=1.0))
    assert verdict.command is None
    assert [r.reason for r in verdict.refusals] == [Reason.COOLDOWN]


def test_the_hand_over_is_only_recommended_when_people_decide() -> None:
    by_people = a_state(settings=Settings(failover_automatic=False))
    paused = a_state(paused=Pause(reason="upgrade", by="dba", at_ms=0))
    for state, reason in ((by_people, Reason.AUTOMATIC_OFF), (paused, Reason.PAUSED)):
        verdict = decide(state, a_view(state, reports=[damaged("db1", state=state)]))
        assert verdict.command is None
        assert [r.reason for r in verdict.refusals] == [reason]


def test_a_sound_member_is_promoted_before_a_damaged_one() -> None:
    state = a_change(Phase.FAILOVER)
    reports = [damaged("db2", state=state, fenced=True), a_report("db3", state=state, fenced=True)]
    command = decide(state, a_view(state, reports=reports, missing=["db1"])).command
    assert isinstance(command, Promote)
    assert command.target == "db3"


def test_a_damaged_member_is_promoted_when_it_alone_holds_what_was_acknowledged() -> None:
    state = a_change(Phase.FAILOVER)
    reports = [
        damaged("db2", state=state, fenced=True),
        a_report("db3", state=state, seen=a_replica(executed="A:1-99"), fenced=True),
    ]
    command = decide(state, a_view(state, reports=reports, missing=["db1"])).command
    assert isinstance(command, Promote)
    assert command.target == "db2"
