"""How k follows the policy (rule R6): what is lowered or raised, when, and in which order."""

from __future__ import annotations

import msgspec
import pytest

from raftctl.cluster import commands as c
from raftctl.cluster.durability import wanted_acks
from raftctl.cluster.facts import MySQLState
from raftctl.cluster.state import ClusterState, Phase, Settings
from raftctl.planner.failover import choose
from raftctl.planner.leader import decide
from raftctl.planner.local import BecomeSource, decide_local, proven_acks
from raftctl.planner.sync_set import GONE_SECONDS
from raftctl.planner.view import ClusterView
from tests.support.planner_builders import (
    a_change,
    a_context,
    a_replica,
    a_report,
    a_source,
    a_state,
    a_view,
    applied,
    gtids,
)

AVAILABLE = Settings(durability_policy="available")
TWO = a_state(data=2, settings=AVAILABLE)
LONG = 60.0


@pytest.mark.parametrize(
    ("durability", "policy", "size", "k"),
    [
        ("majority", "strict", 1, 2),
        ("majority", "available", 5, 2),
        ("majority", "available", 3, 2),
        ("majority", "available", 2, 1),
        ("majority", "available", 1, 0),
        ("all", "strict", 3, 4),
        ("all", "available", 3, 2),
        ("3", "available", 5, 3),
        ("3", "available", 2, 1),
        ("async", "strict", 5, 0),
    ],
)
def test_the_wanted_k_of_five_members(durability: str, policy: str, size: int, k: int) -> None:
    state = a_state(data=5, settings=Settings(durability=durability, durability_policy=policy))
    assert wanted_acks(state, state.data_members[:size]) == k


# --- lowering ---------------------------------------------------------------------------------------


def test_the_last_replica_leaves_and_takes_k_along() -> None:
    lockout = decide(TWO, a_view(TWO, missing=["db2"], receiving_ages={"db2": LONG})).command
    assert isinstance(lockout, c.Lockout)
    locked = applied(TWO, lockout)
    shrink = decide(locked, a_view(locked, missing=["db2"])).command
    assert isinstance(shrink, c.ShrinkSyncSet)
    assert (shrink.members, shrink.required_acks) == (("db2",), 0)
    alone = applied(locked, shrink)
    plan = decide_local(alone, "db1", a_source(acks=1, waiting=3), a_context(locked=("db2",)))
    assert plan.actions == (BecomeSource(0),), "told once it is committed, and only then"
    before = decide_local(locked, "db1", a_source(acks=1, waiting=3), a_context(locked=("db2",)))
    assert before.actions == ()


def after_a_power_cut(state: ClusterState, *, executed: str = "A:1-100", gone: float, **view: float) -> object:
    """What is decided when db1 has started again and db2 has not: db1 stays closed, for nobody could acknowledge."""
    primary = a_source(executed=executed, clients=0, read_only=True, super_read_only=True)
    report = a_report("db1", state=state, seen=primary, mysql=MySQLState.JOINING)
    ages = {"db2": gone}
    return decide(state, a_view(state, reports=[report], ages=ages, receiving_ages=ages, **view)).command


def test_a_primary_that_started_again_without_its_replica_opens_in_the_end() -> None:
    assert isinstance(after_a_power_cut(TWO, gone=GONE_SECONDS), c.Lockout)
    assert after_a_power_cut(TWO, gone=LONG) is None, "db2's host may need as long"
    assert after_a_power_cut(TWO, gone=GONE_SECONDS, listening=LONG) is None, "so this leader would not know"
    assert after_a_power_cut(TWO, gone=GONE_SECONDS, executed="A:1-40") is None, "it has lost what it must have"
    strict = msgspec.structs.replace(TWO, settings=Settings())
    assert after_a_power_cut(strict, gone=GONE_SECONDS) is None


def test_nobody_leaves_while_it_is_the_primary_that_is_lost() -> None:
    joining = a_report("db1", state=TWO, mysql=MySQLState.JOINING)
    assert decide(TWO, a_view(TWO, reports=[joining], receiving_ages={"db2": LONG})).command is None


def test_strict_never_lowers_k() -> None:
    state = a_state(data=2)
    assert decide(state, a_view(state, missing=["db2"], receiving_ages={"db2": LONG})).command is None


def test_all_of_three_shrinks_to_what_two_can_give() -> None:
    state = a_state(
        required_acks=2, settings=Settings(durability="all", durability_policy="available"), locked=("db3",)
    )
    shrink = decide(state, a_view(state, missing=["db3"])).command
    assert isinstance(shrink, c.ShrinkSyncSet)
    assert (shrink.members, shrink.required_acks) == (("db3",), 1)


# --- raising ----------------------------------------------------------------------------------------

BACK = a_state(data=2, settings=AVAILABLE, required_acks=0)
WAITS = a_state(data=2, settings=AVAILABLE, required_acks=0, source_acks=1)


def test_the_primary_waits_first() -> None:
    command = decide(BACK, a_view(BACK)).command
    assert isinstance(command, c.ChangeAcks)
    assert (command.required_acks, command.source_acks) == (0, 1)


@pytest.mark.parametrize(
    "replica",
    [
        {"executed": "A:1-50"},
        {"channel": None},
    ],
    ids=["behind", "not connected"],
)
def test_commits_are_not_made_to_wait_for_long(replica: dict[str, object]) -> None:
    source = a_report("db1", state=BACK, seen=a_source(acks=0, executed="A:1-60"))
    report = a_report("db2", state=BACK, seen=a_replica(**replica))  # type: ignore[arg-type]
    assert decide(BACK, a_view(BACK, reports=[source, report])).command is None


def test_what_the_primary_wrote_in_the_last_moment_may_be_missing() -> None:
    """Its report is newer than the replica's: at a thousand commits a second they never agree."""
    source = a_report("db1", state=BACK, seen=a_source(acks=0, executed="A:1-9000"))
    report = a_report("db2", state=BACK, seen=a_replica(executed="A:1-8000"))
    earlier = a_report("db1", state=BACK, seen=a_source(acks=0, executed="A:1-7900"))
    behind = a_view(BACK, reports=[source, report])
    assert decide(BACK, behind).command is None
    seen = msgspec.structs.replace(behind.members["db1"], earlier=earlier)
    view = msgspec.structs.replace(behind, members=behind.members | {"db1": seen})
    assert isinstance(decide(BACK, view).command, c.ChangeAcks)


def raising(*, db2: str, owned: str = "", **primary: object) -> ClusterView:
    source = a_report("db1", state=WAITS, seen=a_source(owned=owned), **primary)
    return a_view(WAITS, reports=[source, a_report("db2", state=WAITS, seen=a_replica(executed=db2))])


def test_k_counts_once_the_replica_holds_what_the_primary_had() -> None:
    command = decide(WAITS, raising(db2="A:1-100")).command
    assert isinstance(command, c.ChangeAcks)
    assert (command.required_acks, command.source_acks) == (1, 1)


@pytest.mark.parametrize(
    "view",
    [
        raising(db2="A:1-99"),
        raising(db2="A:1-100", owned="A:101"),
        raising(db2="A:1-100", source_acks=None),
        raising(db2="A:1-100", source_acks=0),
        raising(db2="A:1-100", version=9),
    ],
    ids=["behind", "a commit is under way", "not proven", "does not wait yet", "acts on an older state"],
)
def test_k_does_not_count_too_early(view: ClusterView) -> None:
    assert decide(WAITS, view).command is None


def test_the_first_report_that_proves_it_sets_the_mark() -> None:
    """What the primary logged since has its acknowledgements: under load nobody ever holds the very last."""
    view = raising(db2="A:1-100")
    first = view.members["db1"]
    later = a_report("db1", state=WAITS, seen=a_source(executed="A:1-200"))
    members = {**view.members, "db1": msgspec.structs.replace(first, report=later, first=first.report)}
    assert isinstance(decide(WAITS, msgspec.structs.replace(view, members=members)).command, c.ChangeAcks)


@pytest.mark.parametrize(("known", "proven"), [(1, 1), (None, None), (2, None), (0, None)])
def test_only_what_was_so_before_the_look_is_proven(known: int | None, proven: int | None) -> None:
    assert proven_acks(WAITS, "db1", a_source(acks=1), a_context(source_acks=known)) == proven
    assert proven_acks(WAITS, "db2", a_source(acks=1), a_context(source_acks=known)) is None


# --- promotions -------------------------------------------------------------------------------------


def fenced(state: ClusterState, *members: str, **view: object) -> ClusterView:
    reports = [a_report(m, state=state, fenced=True) for m in members]
    return a_view(state, reports=reports, missing=["db1"], **view)  # type: ignore[arg-type]


def test_the_survivor_of_two_takes_writes_alone() -> None:
    state = a_change(Phase.FAILOVER, data=2, settings=AVAILABLE)
    promote = choose(state, fenced(state, "db2"))
    assert isinstance(promote, c.Promote)
    assert (promote.sync_set, promote.required_acks, promote.locked) == (("db2",), 0, ("db1",))


def test_strict_keeps_k_and_writes_wait() -> None:
    state = a_change(Phase.FAILOVER, data=2)
    promote = choose(state, fenced(state, "db2"))
    assert isinstance(promote, c.Promote)
    assert (promote.sync_set, promote.required_acks) == (("db2",), 1)


def test_a_promotion_that_lowers_k_waits_a_moment_for_those_who_answer() -> None:
    settings = Settings(durability="all", durability_policy="available")
    state = a_change(Phase.FAILOVER, required_acks=2, settings=settings)
    assert not isinstance(choose(state, fenced(state, "db2", version_seconds=0.2)), c.Promote)
    both = choose(state, fenced(state, "db2", "db3", version_seconds=0.2))
    assert isinstance(both, c.Promote)
    assert both.required_acks == 1
    late = choose(state, fenced(state, "db2"))
    assert isinstance(late, c.Promote)
    assert late.required_acks == 0


def test_nobody_takes_over_from_a_lone_primary_in_the_middle_of_a_switchover() -> None:
    """db2 is in S and may lack what db1 took alone: only db1's own word makes it eligible."""
    state = a_change(Phase.FAILOVER, data=2, settings=AVAILABLE, required_acks=0)
    assert not isinstance(choose(state, fenced(state, "db2")), c.Promote)
    back = a_report("db1", state=state, seen=a_replica(executed="A:1-120"), fenced=True)
    view = a_view(state, reports=[back, a_report("db2", state=state, seen=a_replica(executed="A:1-110"), fenced=True)])
    promote = choose(state, view)
    assert isinstance(promote, c.Promote)
    assert (promote.target, promote.certificate) == ("db1", gtids("A:1-120"))
