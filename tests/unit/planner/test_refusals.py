"""Every reason for a refusal occurs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from raftctl.cluster.state import ClusterState, Pause, Phase, Settings
from raftctl.planner.failover import choose, consider_failover
from raftctl.planner.leader import decide
from raftctl.planner.refusal import Reason
from raftctl.planner.switchover import request_failover
from tests.support.leader_views import (
    ADMITTED,
    AGAIN,
    ASYNC,
    FAILOVER,
    HEALTHY,
    LOCKED,
    STEADY,
    SWITCHOVER,
    WITNESSED,
    ask,
    ask_of,
    down,
    fenced,
    quiet,
    reasons,
    silent_but_heard,
)
from tests.support.planner_builders import (
    a_change,
    a_channel,
    a_replica,
    a_report,
    a_state,
    a_view,
    gtids,
)
from tests.unit.planner.test_damage_decisions import damaged
from tests.unit.planner.test_membership_decisions import REFUSALS as MEMBERSHIP_REFUSALS

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
    "damaged target": (
        Reason.DAMAGED_DATA,
        lambda: ask(view=a_view(STEADY, reports=[damaged("db2", state=STEADY)])),
    ),
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
