"""States and views that the tests of the leader's decisions share."""

from __future__ import annotations

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster.facts import MySQLState
from raftctl.cluster.state import ClusterState, MemberRole, Phase, Settings
from raftctl.planner.refusal import Reason, Refusal
from raftctl.planner.switchover import request_switchover
from raftctl.planner.sync_set import GRACE_SECONDS
from raftctl.planner.view import ClusterView
from tests.support.planner_builders import (
    a_change,
    a_channel,
    a_member,
    a_replica,
    a_report,
    a_semi_sync,
    a_state,
    a_view,
)

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


ASYNC = a_change(Phase.FAILOVER, required_acks=0, settings=Settings(durability="async"))


def quiet(state: ClusterState, *, primary: str = "A:1-100", target: str = "A:1-100") -> ClusterView:
    reports = [
        a_report("db1", state=state, seen=a_replica(executed=primary, channel=None), fenced=True),
        a_report("db2", state=state, seen=a_replica(executed=target)),
    ]
    return a_view(state, reports=reports, version_seconds=1.0)


LOCKED = a_state(locked=("db3",))


OUT = a_state(sync_set=("db1", "db2"), locked=("db3",))
STOPPED = a_replica(channel=a_channel(receiver="OFF"), semi_sync=a_semi_sync(replica_enabled=False))


def returning(state: ClusterState, seen: object = STOPPED, **report: object) -> ClusterView:
    return a_view(state, reports=[a_report("db3", state=state, seen=seen, **report)])


ADMITTED = a_state(sync_set=("db1", "db2"))
FOLLOWING = a_replica(semi_sync=a_semi_sync(replica_enabled=False))


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
