"""The leader's planners: diagnosis, failover, switchover, the sync set; every reason for a refusal occurs here."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from raftctl.cluster import commands as c
from raftctl.cluster.facts import STALLED_SECONDS, MySQLState
from raftctl.cluster.state import ClusterState, MemberRole, Pause, Phase, Settings
from raftctl.planner.failover import choose, consider_failover, lease_is_over
from raftctl.planner.leader import decide
from raftctl.planner.refusal import Reason, Refusal
from raftctl.planner.switchover import HAND_OVER_SECONDS, request_failover, request_switchover
from raftctl.planner.sync_set import GRACE_SECONDS
from raftctl.planner.view import ClusterView
from tests.support.planner_builders import (
    a_change,
    a_channel,
    a_member,
    a_replica,
    a_report,
    a_semi_sync,
    a_source,
    a_state,
    a_view,
    applied,
    gtids,
)
from tests.unit.planner.test_membership_decisions import REFUSALS as MEMBERSHIP_REFUSALS

STEADY = a_state()
FAILOVER = a_change(Phase.FAILOVER)
SWITCHOVER = a_change(Phase.SWITCHOVER, target="db2")
HEALTHY = a_view(STEADY)
LONG = GRACE_SECONDS + 1


def down(state: ClusterState, member: str = "db1", word: MySQLState = MySQLState.DOWN) -> ClusterView:
    return a_view(state, reports=[a_report(member, state=state, mysql=word)])


def fenced(state: ClusterState, **executed: str) -> ClusterView:
    """These members report fenced and hold that; the others are silent."""
    reports = [a_report(m, state=state, seen=a_replica(executed=e), fenced=True) for m, e in executed.items()]
    return a_view(state, reports=reports, missing=[m for m in state.data_members if m not in executed])


def reasons(result: object) -> list[Reason]:
    found = result if isinstance(result, list) else [result]
    assert all(isinstance(r, Refusal) for r in found), result
    return [r.reason for r in found]


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
    view = a_view(STEADY, reports=cut_off, ages={"db1": 0.4}, hung_up=["db1"])
    command = consider_failover(STEADY, view)
    assert isinstance(command, c.BeginFailover)
    assert command.cause is c.Cause.HOST_SILENT


@pytest.mark.parametrize(
    ("receiver", "hung_up", "age"),
    [("ON", ["db1"], 0.4), ("CONNECTING", [], 0.4), ("CONNECTING", ["db1"], 0.2)],
    ids=["a replica still receives", "its controller is connected", "it may be restarting"],
)
def test_a_host_that_may_be_there_is_waited_for(receiver: str, hung_up: list[str], age: float) -> None:
    replicas = [a_report(m, state=STEADY, seen=a_replica(channel=a_channel(receiver=receiver))) for m in ("db2", "db3")]
    assert consider_failover(STEADY, a_view(STEADY, reports=replicas, ages={"db1": age}, hung_up=hung_up)) is None


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


ASYNC = a_change(Phase.FAILOVER, required_acks=0, settings=Settings(durability="async"))


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


# --- switchover -------------------------------------------------------------------------------------


def test_a_switchover_goes_to_the_highest_priority() -> None:
    state = a_state(members=[a_member("db1"), a_member("db2"), a_member("db3", priority=1)])
    command = request_switchover(state, a_view(state), by="ann")
    assert isinstance(command, c.BeginSwitchover)
    assert (command.target, command.by) == ("db3", "ann")


def quiet(state: ClusterState, *, primary: str = "A:1-100", target: str = "A:1-100") -> ClusterView:
    reports = [
        a_report("db1", state=state, seen=a_replica(executed=primary, channel=None), fenced=True),
        a_report("db2", state=state, seen=a_replica(executed=target)),
    ]
    return a_view(state, reports=reports, version_seconds=1.0)


def test_the_target_is_promoted_once_it_holds_what_the_primary_has() -> None:
    promote = decide(SWITCHOVER, quiet(SWITCHOVER)).command
    assert isinstance(promote, c.Promote)
    assert (promote.target, promote.proof, promote.reporters) == ("db2", c.Proof.PRIMARY_FENCED, ("db1", "db2"))
    assert (promote.sync_set, promote.locked) == (SWITCHOVER.sync_set, ())


@pytest.mark.parametrize(
    "view",
    [
        a_view(SWITCHOVER, version_seconds=1.0, missing=["db2"]),
        a_view(SWITCHOVER, version_seconds=1.0, reports=[a_report("db2", state=SWITCHOVER, mysql=MySQLState.DOWN)]),
        a_view(SWITCHOVER, version_seconds=HAND_OVER_SECONDS + 1),
    ],
    ids=["target silent", "target down", "takes too long"],
)
def test_a_switchover_that_cannot_end_is_given_up(view: ClusterView) -> None:
    assert isinstance(decide(SWITCHOVER, view).command, c.AbortSwitchover)


@pytest.mark.parametrize("view", [down(SWITCHOVER), a_view(SWITCHOVER, missing=["db1"])], ids=["down", "silent"])
def test_a_primary_lost_in_a_switchover_is_failed_over(view: ClusterView) -> None:
    assert isinstance(decide(SWITCHOVER, view).command, c.BeginFailover)


def test_a_person_may_fail_over_a_primary_that_does_not_serve() -> None:
    view = a_view(STEADY, reports=[a_report("db1", state=STEADY, seen=a_source(offline_mode=True))])
    command = request_failover(STEADY, view, target="db3", by="ann")
    assert isinstance(command, c.BeginFailover)
    assert (command.cause, command.target, command.by) == (c.Cause.REQUESTED, "db3", "ann")


def test_a_person_may_fail_over_while_paused() -> None:
    state = a_state(paused=Pause("upgrade", "ann", 0))
    assert isinstance(request_failover(state, down(state), by="ann"), c.BeginFailover)


# --- the sync set -----------------------------------------------------------------------------------


def test_a_writable_primary_completes_its_promotion() -> None:
    state = a_state(phase=Phase.PROMOTING)
    assert decide(state, a_view(state)).command == c.CompletePromotion(based_on=state.version)


def test_a_replica_that_stopped_receiving_is_locked_out() -> None:
    command = decide(STEADY, a_view(STEADY, receiving_ages={"db3": LONG})).command
    assert isinstance(command, c.Lockout)
    assert command.member == "db3"


@pytest.mark.parametrize(
    "view",
    [
        a_view(STEADY, receiving_ages={"db3": GRACE_SECONDS - 1}),
        a_view(STEADY, receiving_ages={"db3": LONG}, version_seconds=1.0),
        a_view(STEADY, receiving_ages={"db3": LONG}, listening=1.0),
        a_view(STEADY, receiving_ages={"db2": LONG, "db3": LONG}, missing=["db2", "db3"]),
    ],
    ids=["not for long", "a decision was just made", "the leader just came", "nobody else acknowledges"],
)
def test_nobody_is_locked_out_too_early(view: ClusterView) -> None:
    assert decide(STEADY, view).command is None


LOCKED = a_state(locked=("db3",))


def shrinking(*, executed: str = "A:1-100", owned: str = "", db2: str = "A:1-100", **primary: object) -> ClusterView:
    reports = [
        a_report("db1", state=LOCKED, seen=a_source(executed=executed, owned=owned), **primary),
        a_report("db2", state=LOCKED, seen=a_replica(executed=db2)),
    ]
    return a_view(LOCKED, reports=reports, missing=["db3"])


def test_a_leaver_leaves_once_the_rest_holds_everything() -> None:
    command = decide(LOCKED, shrinking()).command
    assert isinstance(command, c.ShrinkSyncSet)
    assert (command.members, command.required_acks) == (("db3",), 1)


@pytest.mark.parametrize(
    "view",
    [
        shrinking(db2="A:1-99"),
        shrinking(owned="A:101"),
        shrinking(locked=()),
        shrinking(version=LOCKED.version - 1),
    ],
    ids=["the rest is behind", "a commit still waits", "not locked yet", "the primary acts on an older state"],
)
def test_a_leaver_stays_while_it_may_be_the_only_holder(view: ClusterView) -> None:
    assert decide(LOCKED, view).command is None


def test_a_leaver_stays_when_too_few_would_remain() -> None:
    state = a_state(data=2, locked=("db2",))
    assert decide(state, a_view(state, missing=["db2"])).command is None


OUT = a_state(sync_set=("db1", "db2"), locked=("db3",))
STOPPED = a_replica(channel=a_channel(receiver="OFF"), semi_sync=a_semi_sync(replica_enabled=False))


def returning(state: ClusterState, seen: object = STOPPED, **report: object) -> ClusterView:
    return a_view(state, reports=[a_report("db3", state=state, seen=seen, **report)])


def test_a_returning_member_is_admitted() -> None:
    assert decide(OUT, returning(OUT)).command == c.Admit(based_on=OUT.version, member="db3")


@pytest.mark.parametrize(
    "view",
    [
        returning(OUT, version=9),
        returning(OUT, mysql=MySQLState.DOWN),
        returning(OUT, msgspec.structs.replace(STOPPED, super_read_only=False)),
        returning(OUT, msgspec.structs.replace(STOPPED, semi_sync=a_semi_sync(replica_enabled=True))),
        returning(
            OUT,
            msgspec.structs.replace(STOPPED, semi_sync=a_semi_sync(replica_enabled=False, source_enabled=True)),
        ),
        returning(OUT, msgspec.structs.replace(STOPPED, channel=a_channel(receiver="CONNECTING"))),
    ],
    ids=["older state", "down", "writable", "would acknowledge", "is a source", "tries to connect"],
)
def test_a_member_that_is_not_ready_is_not_admitted(view: ClusterView) -> None:
    assert decide(OUT, view).command is None


def test_a_member_outside_of_the_sync_set_is_admitted_with_errant_transactions_to_be_rebuilt() -> None:
    """CLONE logs in with its replication account, which must not stay locked; it does not receive before that."""
    assert decide(OUT, returning(OUT, errant="B:1")).command == c.Admit(based_on=OUT.version, member="db3")


def test_a_locked_member_of_the_sync_set_with_errant_transactions_leaves_it_first() -> None:
    state = a_state(locked=("db3",))
    seen = msgspec.structs.replace(STOPPED, gtid_executed=gtids("A:1-50"))
    command = decide(state, returning(state, seen, errant="B:1")).command
    assert isinstance(command, c.ShrinkSyncSet)
    assert command.members == ("db3",)


ADMITTED = a_state(sync_set=("db1", "db2"))
FOLLOWING = a_replica(semi_sync=a_semi_sync(replica_enabled=False))


def test_a_member_that_replicates_joins() -> None:
    view = returning(ADMITTED, FOLLOWING)
    assert decide(ADMITTED, view).command == c.GrowSyncSet(based_on=ADMITTED.version, member="db3")


@pytest.mark.parametrize(
    "view",
    [
        returning(ADMITTED, FOLLOWING, errant="B:1"),
        returning(ADMITTED, FOLLOWING, version=9),
        returning(ADMITTED, FOLLOWING, mysql=MySQLState.JOINING),
        returning(ADMITTED, msgspec.structs.replace(FOLLOWING, channel=a_channel(source="db2"))),
        returning(ADMITTED, msgspec.structs.replace(FOLLOWING, gtid_executed=gtids("A:1-49"))),
    ],
    ids=["errant", "older state", "joining", "from another source", "below the floor"],
)
def test_a_member_that_does_not_replicate_stays_out(view: ClusterView) -> None:
    assert decide(ADMITTED, view).command is None


# --- every refusal ----------------------------------------------------------------------------------

WITNESSED = a_state(members=[a_member("db1"), a_member("db2"), a_member("w1", role=MemberRole.WITNESS)])


def ask(state: ClusterState = STEADY, view: ClusterView = HEALTHY, target: str = "db2") -> object:
    return request_switchover(state, view, target=target, by="ann")


def ask_of(member: str, **report: object) -> object:
    return ask(view=a_view(STEADY, reports=[a_report(member, state=STEADY, **report)]), target=member)


AGAIN = a_state(failover_cause=c.Cause.HOST_SILENT.value)


def silent_but_heard(
    state: ClusterState = STEADY, *, age: float, heard: float = 0.5, since: float = LONG, **primary: object
) -> ClusterView:
    """db1's controller has said nothing for `age` seconds; its mysqld was heard by db2 `heard` seconds ago."""
    hearing = a_replica(channel=a_channel(heard_seconds=heard))
    reports = [a_report("db1", state=state, **primary), a_report("db2", state=state, seen=hearing)]
    view = a_view(state, reports=reports, ages={"db1": age})
    return msgspec.structs.replace(view, failover_seconds=since)


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


ALONE = a_state(required_acks=0, settings=Settings(durability_policy="available"))

REFUSALS: dict[str, tuple[Reason, Callable[[], object]]] = {
    "no cluster": (Reason.NOT_INITIALIZED, lambda: ask(state=ClusterState())),
    "a change is under way": (Reason.CHANGE_UNDER_WAY, lambda: ask(state=FAILOVER)),
    "a failover in a switchover": (
        Reason.CHANGE_UNDER_WAY,
        lambda: request_failover(SWITCHOVER, a_view(SWITCHOVER), by="ann"),
    ),
    "stranger": (Reason.UNKNOWN_MEMBER, lambda: ask(target="db9")),
    "witness": (Reason.NOT_A_DATA_MEMBER, lambda: ask(state=WITNESSED, view=a_view(WITNESSED), target="w1")),
    "primary": (Reason.ALREADY_PRIMARY, lambda: ask(target="db1")),
    "outsider": (Reason.NOT_IN_SYNC_SET, lambda: ask(state=ADMITTED, view=a_view(ADMITTED), target="db3")),
    "failover to an outsider": (
        Reason.NOT_IN_SYNC_SET,
        lambda: request_failover(ADMITTED, down(ADMITTED), target="db3", by="ann"),
    ),
    "locked": (Reason.LOCKED_OUT, lambda: ask(state=LOCKED, view=a_view(LOCKED), target="db3")),
    "silent target": (Reason.NOT_REPORTING, lambda: ask(view=a_view(STEADY, missing=["db2"]))),
    "dead target": (Reason.MYSQLD_DOWN, lambda: ask(view=down(STEADY, "db2"))),
    "target without a source": (Reason.NOT_REPLICATING, lambda: ask_of("db2", seen=a_replica(channel=None))),
    "target with a stopped applier": (
        Reason.APPLIER_STOPPED,
        lambda: ask_of("db2", seen=a_replica(channel=a_channel(applier_running=False))),
    ),
    "target behind": (
        Reason.LAGGING,
        lambda: ask_of("db2", seen=a_replica(channel=a_channel(apply_lag_seconds=30.0))),
    ),
    "errant target": (Reason.ERRANT_TRANSACTIONS, lambda: ask_of("db2", errant="B:1")),
    "lost primary": (Reason.PRIMARY_UNHEALTHY, lambda: ask(view=down(STEADY))),
    "healthy primary": (Reason.PRIMARY_HEALTHY, lambda: request_failover(STEADY, HEALTHY, by="ann")),
    "alone": (
        Reason.NO_TARGET,
        lambda: ask(state=a_state(data=1), view=a_view(a_state(data=1)), target=""),
    ),
    "paused": (
        Reason.PAUSED,
        lambda: consider_failover(a_state(paused=Pause("upgrade", "ann", 0)), down(STEADY)),
    ),
    "not automatic": (
        Reason.AUTOMATIC_OFF,
        lambda: consider_failover(a_state(settings=Settings(failover_automatic=False)), down(STEADY)),
    ),
    "two of three lost": (
        Reason.TOO_FEW_REPLICAS,
        lambda: consider_failover(STEADY, a_view(STEADY, missing=["db1", "db2"])),
    ),
    "everybody reachable is below the floor": (
        Reason.BELOW_FLOOR,
        lambda: consider_failover(a_state(floor=gtids("A:1-101")), down(STEADY)),
    ),
    "only the primary has everything": (
        Reason.PRIMARY_ALONE,
        lambda: consider_failover(ALONE, down(ALONE)),
    ),
    "replicas still hear the primary": (Reason.STILL_HEARD, lambda: consider_failover(STEADY, silent_but_heard(age=3))),
    "the same cause again": (
        Reason.COOLDOWN,
        lambda: consider_failover(AGAIN, silent_but_heard(AGAIN, age=30, since=40)),
    ),
    "too few are fenced": (Reason.TOO_FEW_FENCED, lambda: choose(FAILOVER, fenced(FAILOVER, db2="A:1-100"))),
    "one is not fenced yet": (Reason.NOT_FENCED, lambda: choose(FAILOVER, a_view(FAILOVER))),
    "the primary still writes": (
        Reason.NOT_FENCED,
        lambda: list(decide(SWITCHOVER, a_view(SWITCHOVER, version_seconds=1.0)).refusals),
    ),
    "the target still receives": (
        Reason.MISSING_TRANSACTIONS,
        lambda: list(decide(SWITCHOVER, quiet(SWITCHOVER, target="A:1-99")).refusals),
    ),
    "two have what the other lacks": (
        Reason.MISSING_TRANSACTIONS,
        lambda: choose(FAILOVER, fenced(FAILOVER, db2="A:1-99,B:1", db3="A:1-100")),
    ),
    "a fenced reporter with errant transactions": (
        Reason.ERRANT_TRANSACTIONS,
        lambda: choose(
            FAILOVER,
            a_view(FAILOVER, reports=[a_report(m, state=FAILOVER, errant="B:1", fenced=True) for m in ("db2", "db3")]),
        ),
    ),
    "fenced below the floor": (
        Reason.BELOW_FLOOR,
        lambda: choose(
            a_change(Phase.FAILOVER, floor=gtids("A:1-101")), fenced(FAILOVER, db2="A:1-100", db3="A:1-100")
        ),
    ),
    "the lease has not run out": (
        Reason.LEASE_NOT_EXPIRED,
        lambda: choose(ASYNC, msgspec.structs.replace(fenced(ASYNC, db2="A:1", db3="A:1"), version_seconds=1.0)),
    ),
}


@pytest.mark.parametrize(("reason", "result"), REFUSALS.values(), ids=REFUSALS)
def test_refusal(reason: Reason, result: Callable[[], object]) -> None:
    assert reason in reasons(result())


def test_every_reason_is_tested() -> None:
    tested = {reason for reason, _ in (*REFUSALS.values(), *MEMBERSHIP_REFUSALS.values())}
    assert tested == set(Reason) - {Reason.RAFT_REFUSED}  # that one is Raft's own word, not the planner's


# --- interrupted: whoever leads next finds the next step ---------------------------------------------


def test_a_failover_goes_on_from_every_step() -> None:
    """Each step is decided by a leader that knows nothing but the committed state and a fresh view."""
    state = STEADY
    state = applied(state, _decided(state, down(state), c.BeginFailover))
    assert reasons(list(decide(state, a_view(state)).refusals))
    state = applied(state, _decided(state, fenced(state, db2="A:1-100", db3="A:1-99"), c.Promote))
    assert (
        decide(state, a_view(state, reports=[a_report("db2", state=state, mysql=MySQLState.JOINING)])).command is None
    )
    state = applied(state, _decided(state, _reign_of_db2(state), c.CompletePromotion))
    back = a_report("db1", state=state, seen=STOPPED)
    state = applied(state, _decided(state, _reign_of_db2(state, back), c.Admit))
    back = a_report("db1", state=state, seen=msgspec.structs.replace(FOLLOWING, channel=a_channel(source="db2")))
    state = applied(state, _decided(state, _reign_of_db2(state, back), c.GrowSyncSet))
    assert (state.primary, state.sync_set, state.locked) == ("db2", ("db1", "db2", "db3"), ())
    assert decide(state, _reign_of_db2(state)).command is None


def _reign_of_db2(state: ClusterState, *reports: object) -> ClusterView:
    replica = a_replica(channel=a_channel(source="db2"))
    others = [a_report(m, state=state, seen=replica) for m in ("db1", "db3")]
    return a_view(state, reports=[*others, *reports])


def _decided(state: ClusterState, view: ClusterView, kind: type[c.Decision]) -> c.Decision:
    command = decide(state, view).command
    assert isinstance(command, kind), command
    return command


def test_a_switchover_goes_on_from_every_step() -> None:
    begin = ask()
    assert isinstance(begin, c.BeginSwitchover)
    state = applied(STEADY, begin)
    assert decide(state, a_view(state, version_seconds=0.1)).command is None
    state = applied(state, _decided(state, quiet(state), c.Promote))
    state = applied(state, _decided(state, _reign_of_db2(state), c.CompletePromotion))
    assert (state.primary, state.phase) == ("db2", Phase.STEADY)


def test_a_switchover_whose_primary_dies_ends_as_a_failover() -> None:
    begin = ask()
    assert isinstance(begin, c.BeginSwitchover)
    state = applied(STEADY, begin)
    state = applied(state, _decided(state, down(state), c.BeginFailover))
    assert isinstance(decide(state, fenced(state, db2="A:1-100", db3="A:1-100")).command, c.Promote)


def test_a_shrink_goes_on_from_every_step() -> None:
    state = applied(STEADY, _decided(STEADY, a_view(STEADY, receiving_ages={"db3": LONG}), c.Lockout))
    state = applied(state, _decided(state, a_view(state, missing=["db3"]), c.ShrinkSyncSet))
    state = applied(state, _decided(state, returning(state), c.Admit))
    state = applied(state, _decided(state, returning(state, FOLLOWING), c.GrowSyncSet))
    assert (state.sync_set, state.locked) == (STEADY.sync_set, ())


def test_before_the_cluster_is_bootstrapped_nothing_is_decided() -> None:
    assert decide(ClusterState(), HEALTHY).command is None
