"""`failures_tolerated` against a brute-force model: lose every combination of members and see whether writes go on."""

from __future__ import annotations

import itertools

import pytest

from raftctl.cluster.facts import MySQLState
from raftctl.cluster.state import ClusterState, MemberRole
from raftctl.cluster.status import build_status
from tests.support.member_facts import cluster_state, cut_off, healthy, with_mysql_state


def writes_go_on(state: ClusterState, working: frozenset[str], lost: frozenset[str]) -> bool:
    """After losing `lost` at once, can a primary be found (rule R3) that gets its acknowledgements?"""
    alive = set(state.members) - lost
    if len(alive) < len(state.members) // 2 + 1:
        return False
    replicas = {name for name in state.sync_set if name in working and name != state.primary} - lost
    if state.primary in lost:
        if len(replicas) < (1 if state.is_async else len(state.sync_set) - state.required_acks):
            return False
        replicas = set(sorted(replicas)[1:])
    if state.settings.durability_policy == "available":
        return True
    return len(replicas) >= state.required_acks


def brute_force(state: ClusterState, working: frozenset[str]) -> int:
    best = -1
    for size in range(len(state.members) + 1):
        if all(writes_go_on(state, working, frozenset(lost)) for lost in itertools.combinations(state.members, size)):
            best = size
        else:
            break
    return max(0, best)


@pytest.mark.parametrize("policy", ["strict", "available"])
@pytest.mark.parametrize(("data", "witnesses"), [(2, 1), (3, 0), (3, 2), (4, 1), (5, 0)])
def test_agrees_with_brute_force(data: int, witnesses: int, policy: str):
    names = tuple(f"db{number}" for number in range(1, data + 1))
    watchers = tuple(f"w{number}" for number in range(1, witnesses + 1))
    for required_acks in range(1, data):
        for broken in range(data):
            state = cluster_state(data=names, witnesses=watchers, required_acks=required_acks, policy=policy)
            answers = healthy(state=state, leader="db1")
            for name in names[data - broken :]:
                answers[name] = with_mysql_state(answers[name], MySQLState.DOWN)
            working = frozenset(names[: data - broken])
            found = build_status(members=state.members, answers=answers)
            expected = brute_force(state, working)
            assert found.failures_tolerated == expected, (required_acks, broken)


def test_three_data_members_take_one_failure():
    state = cluster_state()
    assert build_status(members=state.members, answers=healthy(state=state)).failures_tolerated == 1


def test_five_data_members_take_two():
    state = cluster_state(data=("db1", "db2", "db3", "db4", "db5"), required_acks=2)
    assert build_status(members=state.members, answers=healthy(state=state)).failures_tolerated == 2


def test_lost_voter_counts():
    state = cluster_state(data=("db1", "db2"), witnesses=("w1",), policy="available")
    assert all(found.role is not MemberRole.ASYNC for found in state.members.values())
    answers = healthy(state=state)
    assert build_status(members=state.members, answers=answers).failures_tolerated == 1
    without_witness = cut_off(answers, "w1") | {"w1": "connection refused"}
    assert build_status(members=state.members, answers=without_witness).failures_tolerated == 0
