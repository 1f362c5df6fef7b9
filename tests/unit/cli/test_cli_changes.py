"""`switchover`, `failover`, `pause` and `resume`: plan, question, progress, outcome and exit code."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from raftctl.cluster.state import HistoryEntry, Pause, Phase
from tests.support.fake_controllers import FakeCluster, Reply
from tests.support.member_facts import healthy, leaderless, replace, with_state

PLAN = ["stop writes on db1", "promote db2"]


@pytest.fixture
def ready(orders: FakeCluster) -> FakeCluster:
    """A healthy cluster whose leader, db2, has a plan for every change."""
    for name, answer in healthy().items():
        orders.add(name, {"GET /v1/member": (200, answer)})
    orders.everyone("POST /v1/switchover?dry_run=1", (200, {"plan": PLAN, "target": "db2"}))
    orders.everyone("POST /v1/failover?dry_run=1", (200, {"plan": PLAN, "target": "db2"}))
    return orders


def promotes(orders: FakeCluster, target: str, *, index: int = 60, looks_until_done: int = 2) -> Callable[[Any], Reply]:
    """Answers a POST, after which the members report a change under way for some looks, then `target` as primary."""

    def accept(_: Any) -> Reply:
        for name, answer in healthy().items():
            looks = iter(range(looks_until_done))

            def report(_: Any, answer=answer, looks=looks) -> Reply:
                if next(looks, None) is not None:
                    changes = {"primary": "", "phase": Phase.SWITCHOVER, "epoch": 5}
                else:
                    changes = {"primary": target, "phase": Phase.STEADY, "epoch": 5}
                raft = replace(answer.raft, applied_index=index)
                return 200, replace(answer, raft=raft, state=replace(answer.state, **changes))

            orders.controllers[name].replies["GET /v1/member"] = report
        return 200, {"applied": True, "index": index}

    return accept


# --- switchover and failover ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["switchover", "failover"])
def test_dry_run_prints_the_plan_and_asks_for_nothing(ready, raftctl, kind):
    done = raftctl(kind, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1. stop writes on db1\n2. promote db2\n"
    assert [key for key, _ in ready.posts()] == [f"POST /v1/{kind}?dry_run=1"]


def test_plan_as_json(ready, raftctl):
    assert json.loads(raftctl("switchover", "--dry-run", "-o", "json").stdout) == {"plan": PLAN}


@pytest.mark.parametrize("kind", ["switchover", "failover"])
def test_change_is_watched_to_its_end(ready, raftctl, kind):
    ready.everyone(f"POST /v1/{kind}", promotes(ready, "db2"))
    done = raftctl(kind, "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("db2 is the primary of orders now, epoch 5; it took ")
    (_, body), (key, final) = ready.posts()
    assert key == f"POST /v1/{kind}"
    assert body == {"target": None, "by": f"eve@{socket.gethostname()}"}
    assert final["target"] == ("db2" if kind == "switchover" else None), (
        "a planned change names whom it was planned for"
    )


def test_result_as_json(ready, raftctl):
    ready.everyone("POST /v1/switchover", promotes(ready, "db3"))
    result = json.loads(raftctl("switchover", "--to", "db3", "--yes", "-o", "json").stdout)
    assert result.pop("seconds") > 0
    assert result == {"primary": "db3", "before": "db1", "epoch": 5}
    assert ready.posts()[0][1]["target"] == "db3"


def test_leader_is_asked_first(ready, raftctl):
    ready.everyone("POST /v1/switchover", promotes(ready, "db2"))
    raftctl("switchover", "--yes")
    asked = {
        name for name, found in ready.controllers.items() if any(key.startswith("POST") for key, _ in found.requests)
    }
    assert asked == {"db2"}


def test_nobody_to_ask_is_refused(ready, raftctl):
    done = raftctl("switchover")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert [key for key, _ in ready.posts()] == ["POST /v1/switchover?dry_run=1"], "only the plan was asked for"


@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"n\n", 1)])
def test_question_on_a_terminal(ready, typed, code):
    ready.everyone("POST /v1/switchover", promotes(ready, "db2"))
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed)
        done = subprocess.run(
            [sys.executable, "-m", "raftctl", "-i", str(ready.inventory), "--timeout", "30s", "switchover"],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert "promote db2" in done.stdout
    assert "Carry out this switchover of orders?" in done.stderr
    assert ("POST /v1/switchover" in [key for key, _ in ready.posts()]) is (code == 0)


def test_what_a_program_reads_is_not_mixed_with_the_question(ready):
    ready.everyone("POST /v1/switchover", promotes(ready, "db2"))
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"y\n")
        command = [sys.executable, "-m", "raftctl", "-i", str(ready.inventory), "--timeout", "30s"]
        done = subprocess.run(
            [*command, "switchover", "-o", "json"], stdin=theirs, capture_output=True, text=True, timeout=60
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert json.loads(done.stdout)["primary"] == "db2"
    assert "promote db2" in done.stderr


@pytest.mark.parametrize("kind", ["switchover", "failover"])
def test_an_empty_target_is_nobody_and_not_anybody(ready, raftctl, kind):
    done = raftctl(kind, "--to", "", "--yes")
    assert (done.returncode, "--to names nobody" in done.stderr) == (2, True)
    assert ready.posts() == []


def test_a_refused_explanation_says_why(ready, raftctl):
    refusal = {"reason": "wrong-phase", "text": "a failover is under way", "hint": "wait for its end"}
    ready.everyone("GET /v1/explain?member=", (409, refusal))
    done = raftctl("explain")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: a failover is under way (wrong-phase)", "hint: wait for its end"]


def test_refusal_says_why_and_what_to_do(ready, raftctl):
    refusal = {"reason": "lagging", "text": "db3 is 40 s behind", "hint": "wait for it"}
    ready.everyone("POST /v1/switchover", (409, refusal))
    done = raftctl("switchover", "--to", "db3", "--yes")
    assert done.returncode == 1
    assert done.stderr == "error: db3 is 40 s behind (lagging)\nhint: wait for it\n"
    assert done.stdout == ""


def test_refused_dry_run_exits_1(ready, raftctl):
    ready.everyone("POST /v1/failover?dry_run=1", (409, {"reason": "primary-healthy", "text": "db1 is healthy"}))
    done = raftctl("failover", "--dry-run")
    assert (done.returncode, done.stderr) == (1, "error: db1 is healthy (primary-healthy)\n")


def test_switchover_that_was_given_up_is_a_failure(ready, raftctl):
    ready.everyone("POST /v1/switchover", promotes(ready, "db1", index=60))
    aborted = HistoryEntry(index=61, at_ms=1, kind="abort-switchover", epoch=5, by="raftctl", why="db2 lags")
    old = replace(aborted, index=20, why="long ago")
    ready.everyone("GET /v1/history", (200, [old, aborted]))
    done = raftctl("switchover", "--yes")
    assert done.returncode == 1
    assert "with db1 as primary: db2 lags (not-achieved)" in done.stderr
    assert "raftctl history" in done.stderr


def test_another_target_than_asked_for_is_a_failure(ready, raftctl):
    ready.everyone("POST /v1/switchover", promotes(ready, "db2"))
    assert raftctl("switchover", "--to", "db3", "--yes").returncode == 1


def test_change_that_does_not_end_in_time(ready, raftctl):
    ready.everyone("POST /v1/switchover", promotes(ready, "db2", looks_until_done=10**9))
    done = raftctl("switchover", "--yes", "--timeout", "2s")
    assert done.returncode == 1
    assert "has not ended after 2 s" in done.stderr
    assert "raftctl status --watch" in done.stderr


def test_old_state_is_not_taken_for_the_result(ready, raftctl):
    """A member that has not applied the change yet still reports the old primary, steady."""
    ready.everyone("POST /v1/switchover", (200, {"applied": True, "index": 10**6}))
    done = raftctl("switchover", "--yes", "--timeout", "2s")
    assert "has not ended" in done.stderr


def test_no_quorum_exits_3_and_asks_for_nothing(orders, raftctl):
    for name, answer in leaderless(healthy()).items():
        orders.add(name, {"GET /v1/member": (200, answer)})
    done = raftctl("switchover", "--yes")
    assert done.returncode == 3
    assert orders.posts() == []


def test_quorum_lost_in_between_exits_3(ready, raftctl):
    ready.everyone("POST /v1/switchover", (503, {"reason": "no-quorum", "text": "no leader is known"}))
    done = raftctl("switchover", "--yes")
    assert done.returncode == 3
    assert "no leader is known" in done.stderr
    assert len(ready.posts()) == 1 + 3, "every member was tried"


def test_outcome_unknown_is_not_tried_again(ready, raftctl):
    """A request that was sent and not answered may have been carried out: a second one could undo it."""
    ready.everyone("POST /v1/switchover", (200, b"not json"))
    done = raftctl("switchover", "--yes")
    assert done.returncode == 1
    assert "raftctl history" in done.stderr
    assert len(ready.posts()) == 1 + 1


# --- pause and resume -------------------------------------------------------------------------------


def test_pause(ready, raftctl):
    ready.everyone("POST /v1/pause", (200, {"applied": True, "index": 60}))
    done = raftctl("pause", "--reason", "disk swap", "--yes")
    assert (done.returncode, done.stdout) == (0, "automatic failover of orders is paused\n")
    assert ready.posts() == [("POST /v1/pause", {"by": f"eve@{socket.gethostname()}", "reason": "disk swap"})]


def test_resume(orders, raftctl):
    paused = with_state(healthy(), paused=Pause(reason="disk swap", by="bob@x", at_ms=1))
    for name, answer in paused.items():
        orders.add(name, {"GET /v1/member": (200, answer), "POST /v1/resume": (200, {"applied": True})})
    done = raftctl("resume", "--yes", "-o", "json")
    assert json.loads(done.stdout) == {"paused": False, "changed": True}
    assert [key for key, _ in orders.posts()] == ["POST /v1/resume"]
    assert raftctl("pause", "--yes").stdout == "automatic failover of orders is paused already, by bob@x: disk swap\n"


def test_resume_when_nothing_is_paused_changes_nothing(ready, raftctl):
    done = raftctl("resume", "--yes")
    assert (done.returncode, done.stdout) == (0, "automatic failover of orders is on already\n")
    assert ready.posts() == []


def test_pause_dry_run(ready, raftctl):
    done = raftctl("pause", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "1. pause automatic failover of orders\n")
    assert ready.posts() == []


def test_pause_without_yes_is_refused(ready, raftctl):
    assert raftctl("pause").returncode == 2


def test_settings_are_not_edited_without_a_terminal_or_an_editor(ready, raftctl, monkeypatch):
    for name in ("EDITOR", "VISUAL"):
        monkeypatch.delenv(name, raising=False)
    done = raftctl("config", "edit")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: there is no terminal to edit in",
        "hint: use `raftctl config set`, or set EDITOR",
    ]


def test_a_setting_without_a_value_is_named_as_what_was_typed(ready, raftctl):
    done = raftctl("config", "set", "failover.cooldown", "--yes")
    assert done.returncode == 2
    assert "a setting is given as key=value, not 'failover.cooldown'" in done.stderr
