"""Who leaves the sync set, and who comes back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftctl.cluster import commands as c
from raftctl.cluster.facts import MySQLState
from raftctl.cluster.state import Phase
from raftctl.planner.leader import decide
from raftctl.planner.sync_set import GRACE_SECONDS
from raftctl.planner.view import ClusterView
from tests.support.leader_views import (
    ADMITTED,
    FOLLOWING,
    LOCKED,
    LONG,
    OUT,
    STEADY,
    STOPPED,
    returning,
)
from tests.support.planner_builders import (
    a_channel,
    a_replica,
    a_report,
    a_semi_sync,
    a_source,
    a_state,
    a_view,
    gtids,
)


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


@pytest.mark.parametrize("told", [{"state": MySQLState.REBUILDING}, {"incomplete": True}])
def test_what_a_clone_replaces_is_not_held(told: dict[str, Any]) -> None:
    """What was seen before stands in the report until the copy has come up."""
    view = shrinking()
    seen = view.members["db2"]
    assert seen.report.mysql is not None
    report = msgspec.structs.replace(seen.report, mysql=msgspec.structs.replace(seen.report.mysql, **told))
    view = msgspec.structs.replace(view, members=view.members | {"db2": msgspec.structs.replace(seen, report=report)})
    assert not isinstance(decide(LOCKED, view).command, c.ShrinkSyncSet)


def test_a_leaver_stays_when_too_few_would_remain() -> None:
    state = a_state(data=2, locked=("db2",))
    assert decide(state, a_view(state, missing=["db2"])).command is None


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
