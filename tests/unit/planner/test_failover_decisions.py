"""Is the primary lost, may it be failed over now, and who is promoted."""

from __future__ import annotations

import msgspec
import pytest

from raftctl.cluster import commands as c
from raftctl.cluster.facts import STALLED_SECONDS, MySQLState
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner.failover import choose, consider_failover, lease_is_over
from raftctl.planner.leader import decide
from raftctl.planner.refusal import Reason
from raftctl.planner.sync_set import receives
from raftctl.planner.view import ClusterView
from tests.support.leader_views import (
    AGAIN,
    ASYNC,
    FAILOVER,
    HEALTHY,
    STEADY,
    down,
    fenced,
    reasons,
    silent_but_heard,
)
from tests.support.planner_builders import (
    a_change,
    a_channel,
    a_member,
    a_replica,
    a_report,
    a_state,
    a_view,
    applied,
    gtids,
)

# --- is the primary lost? ---------------------------------------------------------------------------


def test_all_is_well() -> None:
    assert decide(STEADY, HEALTHY).command is None
    assert decide(STEADY, HEALTHY).refusals == ()


@pytest.mark.parametrize(
    ("view", "cause"),
    [
        (down(STEADY), c.Cause.MYSQLD_DEAD),
        (down(STEADY, word=MySQLState.UNRESPONSIVE), c.Cause.MYSQLD_UNRESPONSIVE),
        (a_view(STEADY, missing=["db1"]), c.Cause.HOST_SILENT),
        (a_view(STEADY, ages={"db1": 2.0}), c.Cause.HOST_SILENT),
    ],
    ids=["down", "unresponsive", "missing", "silent"],
)
def test_a_lost_primary_is_failed_over(view: ClusterView, cause: c.Cause) -> None:
    command = decide(STEADY, view).command
    assert isinstance(command, c.BeginFailover)
    assert (command.cause, command.based_on) == (cause, STEADY.version)


def stalled(state: ClusterState, *members: str, seconds: float = STALLED_SECONDS) -> ClusterView:
    """Their mysqlds answer, their disks complete no write."""
    reports = [a_report(m, state=state) for m in members]
    facts = [msgspec.structs.replace(r.mysql, disk_waits_seconds=seconds) for r in reports if r.mysql]
    return a_view(state, reports=[msgspec.structs.replace(r, mysql=f) for r, f in zip(reports, facts, strict=True)])


def test_a_primary_with_a_stalled_disk_is_failed_over() -> None:
    command = decide(STEADY, stalled(STEADY, "db1")).command
    assert isinstance(command, c.BeginFailover)
    assert command.cause is c.Cause.MYSQLD_UNRESPONSIVE
    assert "disk" in command.why


def test_a_replica_whose_disk_takes_nothing_does_not_receive() -> None:
    reports = {m: stalled(STEADY, m).report(STEADY, m) for m in ("db2", "db3")}
    assert [receives(STEADY, report) for report in reports.values()] == [False, False]
    assert receives(STEADY, a_report("db2", state=STEADY))


def test_a_disk_that_waits_for_a_moment_is_not_stalled() -> None:
    assert consider_failover(STEADY, stalled(STEADY, "db1", seconds=STALLED_SECONDS - 0.1)) is None


def test_replicas_with_stalled_disks_take_nothing_over() -> None:
    assert reasons(consider_failover(STEADY, stalled(STEADY, "db1", "db2", "db3"))) == [Reason.TOO_FEW_REPLICAS]


def test_a_primary_lost_while_promoting_is_failed_over_as_well() -> None:
    state = a_state(phase=Phase.PROMOTING)
    assert isinstance(decide(state, down(state)).command, c.BeginFailover)


@pytest.mark.parametrize("ages", [{"db1": 1.9}, {}], ids=["not for long enough", "heard"])
def test_a_short_silence_is_none(ages: dict[str, float]) -> None:
    assert consider_failover(STEADY, a_view(STEADY, ages=ages)) is None


def test_silence_proves_nothing_to_one_who_was_away_himself() -> None:
    assert consider_failover(STEADY, a_view(STEADY, ages={"db1": 60.0}, listening=1.9)) is None


def test_a_host_that_hung_up_is_lost_before_the_silence_deadline() -> None:
    cut_off = [
        a_report(m, state=STEADY, seen=a_replica(channel=a_channel(receiver="CONNECTING"))) for m in ("db2", "db3")
    ]
    view = a_view(STEADY, reports=cut_off, ages={"db1": 0.4}, hung_up={"db1": 0.4})
    command = consider_failover(STEADY, view)
    assert isinstance(command, c.BeginFailover)
    assert command.cause is c.Cause.HOST_SILENT


@pytest.mark.parametrize(
    ("receiver", "hung_up", "told", "listening"),
    [
        ("ON", {"db1": 0.4}, 0.1, 60.0),
        ("CONNECTING", {}, 0.1, 60.0),
        ("CONNECTING", {"db1": 0.2}, 0.1, 60.0),
        ("CONNECTING", {"db1": 0.4}, 0.5, 60.0),
        ("CONNECTING", {"db1": 0.4}, 0.1, 1.9),
    ],
    ids=[
        "a replica still receives",
        "its connection stands, or was given up here",
        "it may be restarting",
        "the replicas said so before",
        "the leader itself was away",
    ],
)
def test_a_host_that_may_be_there_is_waited_for(
    receiver: str, hung_up: dict[str, float], told: float, listening: float
) -> None:
    replicas = [a_report(m, state=STEADY, seen=a_replica(channel=a_channel(receiver=receiver))) for m in ("db2", "db3")]
    ages = {"db1": 0.6, "db2": told, "db3": told}
    view = a_view(STEADY, reports=replicas, ages=ages, hung_up=hung_up, listening=listening)
    assert consider_failover(STEADY, view) is None


# --- choosing ---------------------------------------------------------------------------------------


def test_the_most_advanced_is_promoted() -> None:
    promote = choose(FAILOVER, fenced(FAILOVER, db2="A:1-99", db3="A:1-100"))
    assert isinstance(promote, c.Promote)
    assert (promote.target, promote.certificate) == ("db3", gtids("A:1-100"))
    assert (promote.sync_set, promote.locked) == (("db2", "db3"), ("db1",))
    assert (promote.proof, promote.reporters) == (c.Proof.REPLICAS_FENCED, ("db2", "db3"))


def test_received_transactions_count() -> None:
    reports = [
        a_report("db2", state=FAILOVER, seen=a_replica(executed="A:1-60", received="A:1-100"), fenced=True),
        a_report("db3", state=FAILOVER, seen=a_replica(executed="A:1-99"), fenced=True),
    ]
    promote = choose(FAILOVER, a_view(FAILOVER, reports=reports, missing=["db1"]))
    assert isinstance(promote, c.Promote)
    assert promote.target == "db2"


@pytest.mark.parametrize(
    ("priorities", "target", "expected"),
    [((0, 0, 0), "", "db2"), ((0, 0, 5), "", "db3"), ((0, 9, 0), "db3", "db3")],
    ids=["name", "priority", "a person's wish"],
)
def test_ties(priorities: tuple[int, ...], target: str, expected: str) -> None:
    members = [a_member(f"db{i + 1}", priority=p) for i, p in enumerate(priorities)]
    state = a_change(Phase.FAILOVER, members=members, target=target)
    promote = choose(state, fenced(state, db2="A:1-100", db3="A:1-100"))
    assert isinstance(promote, c.Promote)
    assert promote.target == expected


def test_a_wish_does_not_make_up_for_missing_transactions() -> None:
    state = a_change(Phase.FAILOVER, target="db3")
    promote = choose(state, fenced(state, db2="A:1-100", db3="A:1-99"))
    assert isinstance(promote, c.Promote)
    assert promote.target == "db2"


def test_what_only_the_previous_primary_has_was_never_acknowledged() -> None:
    promote = choose(FAILOVER, fenced(FAILOVER, db1="A:1-105", db2="A:1-100", db3="A:1-100"))
    assert isinstance(promote, c.Promote)
    assert (promote.target, promote.locked) == ("db2", ("db1",))


def test_the_previous_primary_itself_may_be_the_proof() -> None:
    promote = choose(FAILOVER, fenced(FAILOVER, db1="A:1-105", db2="A:1-100"))
    assert isinstance(promote, c.Promote)
    assert (promote.target, promote.proof) == ("db1", c.Proof.PRIMARY_FENCED)
    assert promote.sync_set == ("db1", "db2")


def test_the_previous_primary_is_promoted_when_the_replicas_are_below_the_floor() -> None:
    state = a_change(Phase.FAILOVER, floor=gtids("A:1-100"), sync_set=("db1", "db2"))
    promote = choose(state, fenced(state, db1="A:1-105", db2="A:1-99"))
    assert isinstance(promote, c.Promote)
    assert (promote.target, promote.proof) == ("db1", c.Proof.PRIMARY_FENCED)


def test_a_member_with_errant_transactions_leaves_the_sync_set() -> None:
    reports = [
        a_report("db2", state=FAILOVER, seen=a_replica(executed="A:1-100,B:1"), errant="B:1", fenced=True),
        a_report("db3", state=FAILOVER, seen=a_replica(executed="A:1-100"), fenced=True),
    ]
    promote = choose(FAILOVER, a_view(FAILOVER, reports=reports, missing=["db1"]))
    assert isinstance(promote, c.Promote)
    assert (promote.target, promote.sync_set, promote.locked) == ("db3", ("db3",), ("db1", "db2"))


def test_a_promise_of_another_epoch_does_not_count() -> None:
    stale = [a_report(m, state=FAILOVER, fenced_epoch=1) for m in ("db2", "db3")]
    assert Reason.TOO_FEW_FENCED in reasons(choose(FAILOVER, a_view(FAILOVER, reports=stale)))


def test_an_old_report_of_this_epoch_counts_but_its_member_must_answer_to_be_promoted() -> None:
    view = fenced(FAILOVER, db2="A:1-99", db3="A:1-100")
    aged = msgspec.structs.replace(view.members["db2"], age=60.0)
    promote = choose(FAILOVER, msgspec.structs.replace(view, members=view.members | {"db2": aged}))
    assert isinstance(promote, c.Promote)
    assert promote.target == "db3"
    aged = msgspec.structs.replace(view.members["db3"], age=60.0)
    refused = choose(FAILOVER, msgspec.structs.replace(view, members=view.members | {"db3": aged}))
    assert reasons(refused) == [Reason.MISSING_TRANSACTIONS, Reason.NOT_REPORTING]


@pytest.mark.parametrize("data", [2, 3, 4, 5, 7])
def test_the_fence_quorum_is_the_size_of_s_minus_k(data: int) -> None:
    state = a_change(Phase.FAILOVER, data=data)
    needed = data - data // 2
    replicas = [f"db{i}" for i in range(2, data + 1)]
    enough = fenced(state, **dict.fromkeys(replicas[:needed], "A:1-100"))
    too_few = fenced(state, **dict.fromkeys(replicas[: needed - 1], "A:1-100"))
    assert isinstance(choose(state, enough), c.Promote)
    assert Reason.TOO_FEW_FENCED in reasons(choose(state, too_few))


def test_without_acknowledgements_the_lease_is_waited_out() -> None:
    view = fenced(ASYNC, db2="A:1-100", db3="A:1-99")
    promote = choose(ASYNC, view)
    assert isinstance(promote, c.Promote)
    assert (promote.target, promote.proof) == ("db2", c.Proof.ASYNC_MAJORITY)
    early = msgspec.structs.replace(view, version_seconds=11.2)
    assert not lease_is_over(ASYNC, early)
    assert reasons(choose(ASYNC, early)) == [Reason.LEASE_NOT_EXPIRED]


def test_a_dead_mysqld_has_no_lease() -> None:
    reports = [a_report(m, state=ASYNC, fenced=True) for m in ("db2", "db3")]
    reports.append(a_report("db1", state=ASYNC, mysql=MySQLState.DOWN))
    assert isinstance(choose(ASYNC, a_view(ASYNC, reports=reports, version_seconds=0.0)), c.Promote)


# --- held back, and begun anew ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "view"),
    [
        (STEADY, silent_but_heard(age=3, heard=2.5)),
        (STEADY, silent_but_heard(age=30)),
        (AGAIN, silent_but_heard(AGAIN, age=30, since=61)),
        (AGAIN, silent_but_heard(AGAIN, age=3, heard=2.5, since=1)),
        (AGAIN, silent_but_heard(AGAIN, age=0.1, since=1, mysql=MySQLState.DOWN)),
        (AGAIN, silent_but_heard(AGAIN, age=0.1, since=1, mysql=MySQLState.UNRESPONSIVE)),
    ],
    ids=[
        "nobody hears it",
        "its lease is over",
        "the cooldown is over",
        "nobody hears it, in the cooldown",
        "it is dead, in the cooldown",
        "another cause, in the cooldown",
    ],
)
def test_a_failover_is_not_held_back_for_nothing(state: ClusterState, view: ClusterView) -> None:
    assert isinstance(consider_failover(state, view), c.BeginFailover)


APPLYING = a_state(
    phase=Phase.PROMOTING, epoch=2, primary="db2", sync_set=("db2", "db3"), locked=("db1",), floor=gtids("A:1-100")
)


def promoting(*, left: str = "A:1-90", db3: str = "A:1-100", seconds: float = 6.0) -> ClusterView:
    target = a_replica(executed=left, received="A:1-100", channel=a_channel(receiver="OFF"))
    reports = [
        a_report("db2", state=APPLYING, seen=target, mysql=MySQLState.JOINING),
        a_report("db3", state=APPLYING, seen=a_replica(executed=db3), mysql=MySQLState.JOINING),
    ]
    return a_view(APPLYING, reports=reports, version_seconds=seconds)


def test_another_target_takes_over_when_it_has_applied_everything() -> None:
    command = decide(APPLYING, promoting()).command
    assert isinstance(command, c.BeginFailover)
    assert command.cause is c.Cause.PROMOTION_STUCK
    failover = applied(APPLYING, command)
    reports = [a_report(m, state=failover, fenced=True) for m in ("db2", "db3")]
    chosen = decide(failover, a_view(failover, reports=reports, missing=["db1"])).command
    assert isinstance(chosen, c.Promote)
    assert chosen.target == "db3"


@pytest.mark.parametrize(
    "view",
    [promoting(seconds=1.0), promoting(left="A:1-100"), promoting(db3="A:1-99")],
    ids=["not for long", "it has applied everything", "nobody else has"],
)
def test_a_target_is_left_to_apply(view: ClusterView) -> None:
    command = decide(APPLYING, view).command
    assert not isinstance(command, c.BeginFailover)
