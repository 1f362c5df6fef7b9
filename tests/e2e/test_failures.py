"""What a primary, a leader or everybody can suffer: each time one primary, nothing acknowledged lost, no human."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from raftctl.cluster.facts import MemberFacts
from raftctl.mysql.client import connect
from raftctl.sandbox.cluster import Target
from tests.support.stage import SideClient, Stage, connect_soon
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("RAFTCTL_KILLS", "4"))


def at_once(*actions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def raftctl(stage: Stage, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raftctl", "-i", str(stage.sandbox.inventory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def test_killed_mysqld_again_and_again(netns_stage: Stage) -> None:
    with netns_stage.writing() as writer:
        for _ in range(KILLS):
            old = netns_stage.wait_healthy().primary
            assert old
            netns_stage.sandbox.kill(old, Target.MYSQLD)
            netns_stage.wait_new_primary(old)
            assert writer.wait_for(20, 60), netns_stage.story()
    netns_stage.verify(writer)


def test_killed_host(netns_stage: Stage) -> None:
    old = netns_stage.wait_healthy().primary
    assert old
    with netns_stage.writing() as writer:
        netns_stage.sandbox.kill(old, Target.HOST)
        netns_stage.wait_new_primary(old)
        assert writer.wait_for(20, 60)
        netns_stage.sandbox.start(old, Target.HOST)
        netns_stage.wait_healthy()
    netns_stage.verify(writer)


def test_frozen_host(netns_stage: Stage) -> None:
    old = netns_stage.wait_healthy().primary
    assert old
    with netns_stage.writing() as writer:
        netns_stage.sandbox.freeze(old, Target.HOST)
        netns_stage.wait_new_primary(old)
        assert writer.wait_for(20, 60)
        netns_stage.sandbox.thaw(old, Target.HOST)
        netns_stage.wait_healthy()
    netns_stage.verify(writer)


def test_frozen_mysqld(netns_stage: Stage) -> None:
    old = netns_stage.wait_healthy().primary
    assert old
    with netns_stage.writing() as writer:
        netns_stage.sandbox.freeze(old, Target.MYSQLD)
        netns_stage.wait_new_primary(old)
        assert writer.wait_for(20, 60)
        netns_stage.wait_healthy()  # its controller killed the frozen process, so that it starts again
    netns_stage.verify(writer)


def test_isolated_primary_acknowledges_nothing_beside_the_new_one(netns_stage: Stage) -> None:
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    with connect_soon(stage) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS side (n BIGINT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB")
    others = [m for m in stage.sandbox.layout.names if m != old]
    with stage.writing() as writer, SideClient(stage.endpoint(old), stage.database, time.monotonic) as at_old:
        stage.sandbox.partition([[old], others], one_way=False)
        new = stage.wait(
            lambda s: (
                s.primary in others and any(m.name == s.primary and m.mysql and m.mysql.writable for m in s.members)
            ),
            "the majority's side has a primary",
        ).primary
        assert new
        writable_from = time.monotonic()  # a little later than it really was: what counts is after it
        with SideClient(stage.endpoint(new), stage.database, time.monotonic) as at_new:
            assert writer.wait_for(20, 60)
            deadline = time.monotonic() + 10
            while len(at_new.acknowledged) < 50 and time.monotonic() < deadline:
                time.sleep(0.05)
        assert len(at_new.acknowledged) >= 50
        assert [t for t in at_old.acknowledged if t > writable_from] == []
        stage.sandbox.heal()
        stage.wait_healthy()
    stage.verify(writer)


def test_leaders_controller_killed_beside_the_primary(netns_stage: Stage) -> None:
    """The Raft leader's controller dies while another host has the primary: writers do not notice."""
    stage = netns_stage
    status = stage.wait_healthy()
    if status.leader == status.primary:
        raftctl(stage, "switchover", "--yes")
        status = stage.wait_healthy()
    leader = status.leader
    assert leader
    assert leader != status.primary
    with stage.writing(patience=30.0) as writer:
        stage.sandbox.kill(leader, Target.CONTROLLER)
        stage.wait(lambda s: s.leader not in (None, leader), "another leader")
        assert writer.wait_for(50, 60)
        stage.sandbox.start(leader, Target.CONTROLLER)
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    assert writer.errors == []
    assert stage.verify(writer).acknowledged > 70


def test_all_controllers_killed_at_once(calm_stage: Stage) -> None:
    stage = calm_stage
    before = stage.wait_healthy()
    names = stage.sandbox.layout.names
    history = stage.history()
    with stage.writing() as writer:
        at_once(*(lambda n=n: stage.sandbox.kill(n, Target.CONTROLLER) for n in names))
        at_once(*(lambda n=n: stage.sandbox.start(n, Target.CONTROLLER) for n in names))
        after = stage.wait_healthy()
        assert writer.wait_for(20, 60)
    assert (after.primary, after.epoch) == (before.primary, before.epoch)
    assert stage.history()[: len(history)] == history
    assert after.term is not None
    assert before.term is not None
    assert after.term > before.term
    stage.verify(writer)


def test_everything_killed_at_once(netns_stage: Stage) -> None:
    stage = netns_stage
    stage.wait_healthy()
    names = stage.sandbox.layout.names
    with stage.writing() as writer:
        at_once(*(lambda n=n: stage.sandbox.kill(n, Target.HOST) for n in names))
        at_once(*(lambda n=n: stage.sandbox.start(n, Target.HOST) for n in names))
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_two_of_three_hosts_down(netns_stage: Stage) -> None:
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    others = [m for m in stage.sandbox.layout.names if m != primary]
    with stage.writing() as writer:
        at_once(*(lambda n=n: stage.sandbox.kill(n, Target.HOST) for n in others))
        count = len(writer.acknowledged)
        began = time.monotonic()
        status = raftctl(stage, "-o", "json", "status")
        check = raftctl(stage, "check")
        assert time.monotonic() - began < 2 * 3 + 2  # each answers within 3 s; the rest is Python's start
        assert status.returncode == 3, status
        assert check.returncode == 2, check
        assert "CRITICAL" in check.stdout
        stage.wait(lambda s: not any(m.mysql and m.mysql.writable for m in s.members), "the primary is fenced")
        assert len(writer.acknowledged) <= count + 1
        at_once(*(lambda n=n: stage.sandbox.start(n, Target.HOST) for n in others))
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_switchover_under_load(netns_stage: Stage) -> None:
    stage = netns_stage
    with stage.writing() as writer:
        for _ in range(3):
            old = stage.wait_healthy().primary
            done = raftctl(stage, "switchover", "--yes")
            assert done.returncode == 0, done
            assert stage.status().primary != old
            assert writer.wait_for(20, 60)
    tally = stage.verify(writer)
    assert tally.unsure_present == 0


def is_running(stage: Stage, member: str, statement: str) -> bool:
    with connect(stage.own_endpoint(member), timeout=10.0) as conn:
        query = "SELECT COUNT(*) FROM performance_schema.processlist WHERE INFO LIKE %s AND ID <> CONNECTION_ID()"
        return bool(conn.scalar(query, (f"{statement}%",)))


def test_a_switchover_does_not_wait_for_a_long_query(netns_stage: Stage) -> None:
    """A report on the primary would keep it from proving that it is quiet, and writes away meanwhile."""
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    with (
        stage.writing() as writer,
        connect(stage.endpoint(old), timeout=120.0) as reader,
        ThreadPoolExecutor(1) as thread,
    ):
        report = thread.submit(reader.scalar, f"SELECT SUM(SLEEP(60)) FROM {stage.database}.raftctl_written")
        wait_until(lambda: is_running(stage, old, "SELECT SUM(SLEEP"), what="the report runs")
        done = raftctl(stage, "switchover", "--yes")
        assert done.returncode == 0, done
        assert writer.wait_for(20, 60)
        assert report.exception(timeout=60)
        assert reader.scalar("SELECT 1") == 1, "its session stays"
    assert old in [e.member for e in stage.history() if e.kind == "queries-ended"], stage.story()
    stage.verify(writer)


def test_garbage_on_the_raft_port(netns_stage: Stage) -> None:
    import socket

    from raftctl.api_client import split_address

    stage = netns_stage
    before = stage.wait_healthy()
    with stage.writing(patience=30.0) as writer:
        for member in stage.cluster.inventory.members().values():
            for payload in (os.urandom(4096), (1 << 30).to_bytes(4, "big") + b"x" * 100, b"\x00" * 3, b""):
                with socket.create_connection(split_address(member.raft), 2) as connection:
                    connection.sendall(payload)
        assert writer.wait_for(100, 60)
    after = stage.wait_healthy()
    assert (after.term, after.leader, after.epoch) == (before.term, before.leader, before.epoch)
    assert writer.errors == []
    stage.verify(writer)


def facts(stage: Stage, member: str) -> MemberFacts:
    return stage.cluster.ask(stage.cluster.inventory.members()[member], 5.0)


def test_idle_members_agree(netns_stage: Stage) -> None:
    stage = netns_stage
    stage.wait_healthy()
    states = [facts(stage, m).state for m in stage.sandbox.layout.names]
    assert all(s == states[0] for s in states)
    with connect(stage.endpoint(states[0].primary)) as conn:
        assert conn.scalar("SELECT 1") == 1
