"""`raftctl member`: the table, refusals, and that a change is asked for once and watched to its end."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.support.fake_controllers import FakeCluster, Reply
from tests.support.member_facts import healthy

PLAN = ["db3 leaves the sync set", "db3's data is replaced"]


@pytest.fixture
def ready(orders: FakeCluster) -> FakeCluster:
    """A healthy cluster that has a plan for every change."""
    for name, answer in healthy().items():
        raft = msgspec.structs.replace(answer.raft, voters=("db1", "db2", "db3"), learners=())
        orders.add(name, {"GET /v1/member": (200, msgspec.structs.replace(answer, raft=raft))})
    for change in ("remove", "rebuild", "rejoin"):
        orders.everyone(f"POST /v1/members/{change}?dry_run=1", (200, {"plan": PLAN, "target": "db3"}))
    return orders


def test_the_list(ready, raftctl):
    done = raftctl("member", "list", "-o", "json")
    listed = {row["name"]: row for row in json.loads(done.stdout)["members"]}
    assert done.returncode == 0
    assert (listed["db1"]["raft"], listed["db1"]["role"], listed["db1"]["sync_set"]) == ("voter", "data", True)
    assert listed["db3"]["mysql"] == "replica"
    assert "SYNC SET" in raftctl("member", "list").stdout


@pytest.mark.parametrize("change", ["remove", "rebuild", "rejoin"])
def test_dry_run_prints_the_plan(ready, raftctl, change):
    done = raftctl("member", change, "db3", "--dry-run")
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"{n}. {text}" for n, text in enumerate(PLAN, start=1)])


def test_a_refusal_is_one_line_and_a_hint(ready, raftctl):
    refusal = {"reason": "already-primary", "text": "db1 is the primary", "hint": "`raftctl switchover` first"}
    ready.everyone("POST /v1/members/rebuild?dry_run=1", (409, refusal))
    done = raftctl("member", "rebuild", "db1", "--yes")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: db1 is the primary (already-primary)",
        "hint: `raftctl switchover` first",
    ]


def test_nothing_to_do_has_the_form_of_a_result(ready, raftctl):
    ready.everyone("POST /v1/members/rejoin?dry_run=1", (200, {"plan": ["nothing: it is a member"]}))
    told = json.loads(raftctl("member", "rejoin", "db3", "--yes", "-o", "json").stdout)
    assert (told["member"], told["change"], told["done"]) == ("db3", "rejoin", True)


@pytest.mark.parametrize(
    "changes", [["priority=9999999"], ["priority=1_0"], ["priority="], ["zone=a", "zone=b"], ["role=boss"], ["zone"]]
)
def test_a_value_that_no_member_can_have_is_bad_usage(ready, raftctl, changes):
    done = raftctl("member", "set", "db3", *changes, "--yes")
    assert done.returncode == 2, done
    assert ready.posts() == []


def test_a_host_that_the_inventory_does_not_know_exits_2(ready, raftctl):
    assert raftctl("member", "add", "db9", "--yes").returncode == 2


def test_a_rebuild_is_watched_to_its_end(ready, raftctl):
    def accept(_: Any) -> Reply:
        for name, answer in healthy().items():
            looks = iter(({"rebuilds": {"db3": "u"}}, {"rebuilds": {"db3": "u"}}))
            raft = msgspec.structs.replace(answer.raft, applied_index=60)

            def report(_: Any, answer=answer, looks=looks, raft=raft) -> Reply:
                state = msgspec.structs.replace(answer.state, **next(looks, {}))
                return 200, msgspec.structs.replace(answer, state=state, raft=raft)

            ready.controllers[name].replies["GET /v1/member"] = report
        return 200, {"applied": True, "index": 60}

    ready.everyone("POST /v1/members/rebuild", accept)
    done = raftctl("member", "rebuild", "db3", "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {"member": "db3", "change": "rebuild", "done": True, "text": told["text"], "notes": []}


def test_a_change_of_a_member_that_is_removed_meanwhile_is_given_up(ready, raftctl):
    def accept(_: Any) -> Reply:
        for name, answer in healthy().items():
            raft = msgspec.structs.replace(answer.raft, applied_index=60)
            members = {m: member for m, member in answer.state.members.items() if m != "db3"}
            state = msgspec.structs.replace(answer.state, members=members, sync_set=("db1", "db2"))
            told = msgspec.structs.replace(answer, state=state, raft=raft)
            ready.controllers[name].replies["GET /v1/member"] = (200, told)
        return 200, {"applied": True, "index": 60}

    ready.everyone("POST /v1/members/set?dry_run=1", (200, {"plan": PLAN, "target": "db3"}))
    ready.everyone("POST /v1/members/set", accept)
    ready.everyone("GET /v1/history", (200, []))
    done = raftctl("member", "set", "db3", "role=async", "--yes")
    assert done.returncode == 1
    assert "the set of db3 was given up" in done.stderr


def test_a_rebuild_that_a_failover_called_off_is_not_said_to_be_done(ready, raftctl):
    def accept(_: Any) -> Reply:
        for name, answer in healthy().items():
            raft = msgspec.structs.replace(answer.raft, applied_index=60)
            state = msgspec.structs.replace(answer.state, primary="db3")
            told = msgspec.structs.replace(answer, state=state, raft=raft)
            ready.controllers[name].replies["GET /v1/member"] = (200, told)
        return 200, {"applied": True, "index": 60}

    ready.everyone("POST /v1/members/rebuild", accept)
    ready.everyone("GET /v1/history", (200, []))
    done = raftctl("member", "rebuild", "db3", "--yes")
    assert done.returncode == 1
    assert "the rebuild of db3 was given up: it is the primary now" in done.stderr
