"""A controller that dies, hangs or is told to stop leaves no writable orphan behind, and no planned stop lies."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.bootstrap.layout import Layout
from raftctl.cluster.state import HistoryEntry
from raftctl.cluster.status_model import ClusterStatus
from raftctl.errors import MySQLError
from raftctl.hosts.services import Unit
from raftctl.mysql.client import connect
from raftctl.mysql.errors import ConnectionLost, OfflineMode, ServerGone
from raftctl.sandbox.cluster import Target
from tests.support.own_disk import own_disk
from tests.support.stage import SideClient, Stage, connect_soon
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]

GUARD_MB_MAX = 25
CONTROLLER_MB_MAX = 70
CALL_SECONDS = 10.0


@pytest.fixture(autouse=True)
def _leaves_everything_running(netns_stage: Stage) -> Iterator[None]:
    """One failure is not to look like many."""
    yield
    netns_stage.sandbox.heal()
    for name in netns_stage.sandbox.layout.names:
        netns_stage.sandbox.start(name, Target.HOST)


def services(stage: Stage, member: str):
    return stage.sandbox.host(member).services


def pid_of(stage: Stage, member: str, unit: Unit) -> int:
    pid = wait_until(
        lambda: services(stage, member).main_pid(unit, timeout=CALL_SECONDS), what=f"{unit} of {member} runs"
    )
    assert pid is not None
    return pid


def megabytes(pid: int, kind: str = "VmRSS") -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields[kind].split()[0]) / 1024


def kinds_since(stage: Stage, count: int, member: str) -> list[str]:
    return [entry.kind for entry in stage.history()[count:] if entry.member == member]


def other_is_primary(status: ClusterStatus, old: str) -> bool:
    return any(m.name == status.primary != old and m.mysql and m.mysql.writable for m in status.members)


@contextlib.contextmanager
def clients_of(stage: Stage, member: str) -> Iterator[SideClient]:
    """A client that knows nothing but this member, as one behind a stale load balancer."""
    with connect_soon(stage) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS side (n BIGINT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB")
    with SideClient(stage.endpoint(member), stage.database, time.monotonic) as client:
        wait_until(lambda: len(client.acknowledged) >= 5, what=f"a client writes to {member}")
        yield client


def wait_until_closed(stage: Stage, member: str) -> None:
    """The member takes no writes: seen by asking it, not its controller."""

    def closed() -> bool:
        try:
            with connect(stage.endpoint(member), timeout=CALL_SECONDS) as conn:
                return bool(conn.scalar("SELECT @@GLOBAL.super_read_only"))
        except (OfflineMode, ServerGone):
            return True
        except MySQLError:  # it is being killed, perhaps
            return False

    wait_until(closed, what=f"{member} is fenced", timeout=60)


def newest_of(stage: Stage, kind: str) -> HistoryEntry | None:
    return next((entry for entry in reversed(stage.history()) if entry.kind == kind), None)


def test_controller_killed_for_good(netns_stage: Stage) -> None:
    """Nobody restarts it: the guard fences at the end of the lease, and the others have another primary."""
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    with stage.writing() as writer, clients_of(stage, old):
        stage.sandbox.kill(old, Target.CONTROLLER)
        stage.wait(lambda s: other_is_primary(s, old), "another primary")
        wait_until_closed(stage, old)
        assert writer.wait_for(20, 60), stage.story()
        tried = wait_until(lambda: newest_of(stage, "fence-from-outside"), what="the leader's attempt", timeout=60)
        assert (tried.member, tried.epoch) == (old, stage.status().epoch), stage.story()
        assert "its mysqld" in tried.why, tried  # the guard may have killed it in the middle
        stage.sandbox.start(old, Target.CONTROLLER)
        stage.wait_healthy()
    stage.verify(writer)


def test_controller_killed_and_restarted_by_its_service_manager(netns_stage: Stage) -> None:
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    before = pid_of(stage, old, Unit.CONTROLLER)
    with stage.writing() as writer:
        services(stage, old).kill(Unit.CONTROLLER, timeout=CALL_SECONDS)
        assert pid_of(stage, old, Unit.CONTROLLER) != before
        stage.wait_healthy()
        assert writer.wait_for(20, 60), stage.story()
    stage.verify(writer)


def test_frozen_controller_is_replaced(netns_stage: Stage) -> None:
    """SIGSTOP, as a deadlock looks from outside: the guard has it killed and started again, or fences in time."""
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    before = pid_of(stage, old, Unit.CONTROLLER)
    with stage.writing() as writer, clients_of(stage, old):
        stage.sandbox.freeze(old, Target.CONTROLLER)
        wait_until(
            lambda: services(stage, old).main_pid(Unit.CONTROLLER, timeout=CALL_SECONDS) not in (before, None),
            what="another controller runs",
            timeout=60,
        )
        stage.wait_healthy()
        assert writer.wait_for(20, 60), stage.story()
    stage.verify(writer)


def test_controller_told_to_stop_is_not_restarted_by_the_guard(netns_stage: Stage) -> None:
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    count = len(stage.history())
    with stage.writing() as writer, clients_of(stage, old):
        stage.sandbox.stop(old, Target.CONTROLLER)
        stage.wait(lambda s: other_is_primary(s, old), "another primary")
        wait_until_closed(stage, old)
        assert not services(stage, old).is_active(Unit.CONTROLLER, timeout=CALL_SECONDS)
        stage.sandbox.start(old, Target.CONTROLLER)
        stage.wait_healthy()
        assert writer.wait_for(20, 60), stage.story()
    assert {"begin-failover", "fenced"} & {entry.kind for entry in stage.history()[count:]}
    stage.verify(writer)


def test_fencing_by_the_guard_is_in_the_history_with_every_rung(netns_stage: Stage) -> None:
    """All controllers are gone, so nobody but the guard can fence."""
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    count = len(stage.history())
    names = stage.sandbox.layout.names
    with clients_of(stage, old) as client:
        for name in names:
            stage.sandbox.kill(name, Target.CONTROLLER)
        wait_until_closed(stage, old)
        acknowledged = len(client.acknowledged)
        for name in names:
            stage.sandbox.start(name, Target.CONTROLLER)
        stage.wait_healthy()
    assert acknowledged
    fenced = wait_until(
        lambda: [e for e in stage.history()[count:] if e.kind == "fenced" and "guard" in e.why],
        what="the guard's fencing in the history",
        timeout=60,
    )
    assert fenced
    assert {"connect", "offline-mode", "end-sessions", "super-read-only", "killed"} <= fenced[0].detail.keys()
    assert fenced[0].member == old


@pytest.mark.parametrize("answers", [True, False], ids=["mysqld-answers", "mysqld-hangs"])
def test_fencing_waits_for_no_log_and_no_service_manager(netns_stage: Stage, answers: bool) -> None:
    """The disk of the logs stalls, the controller is gone, and nobody else reaches this mysqld."""
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    with own_disk(stage, old, stage.sandbox.directory / old / "log") as disk:
        stage.make_primary(old)
        controller = pid_of(stage, old, Unit.CONTROLLER)
        with stage.writing() as writer, disk.stalled():
            stage.sandbox.partition(
                [[old], [name for name in stage.sandbox.layout.names if name != old]], one_way=False
            )
            if not answers:
                os.kill(pid_of(stage, old, Unit.MYSQLD), signal.SIGSTOP)
            os.kill(controller, signal.SIGKILL)  # the supervisor waits for its own log, too, and does nothing any more
            stage.wait(lambda s: other_is_primary(s, old), "another primary")
            wait_until_closed(stage, old)
            assert writer.wait_for(20, 60), stage.story()
        stage.sandbox.heal()
        stage.wait_healthy()
        stage.verify(writer)
    stage.wait_healthy()


def test_killed_guard_is_back_and_in_the_history(netns_stage: Stage) -> None:
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    before, count = pid_of(stage, primary, Unit.GUARD), len(stage.history())
    stage.sandbox.kill(primary, Target.GUARD)
    wait_until(lambda: "guard-restarted" in kinds_since(stage, count, primary), what="the history says it", timeout=60)
    assert pid_of(stage, primary, Unit.GUARD) != before
    assert stage.wait_healthy().primary == primary


def test_frozen_guard_is_replaced(netns_stage: Stage) -> None:
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    before, count = pid_of(stage, primary, Unit.GUARD), len(stage.history())
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: "guard-restarted" in kinds_since(stage, count, primary), what="the history says it", timeout=60)
    assert pid_of(stage, primary, Unit.GUARD) != before


def test_missing_guard_is_said(netns_stage: Stage) -> None:
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    count = len(stage.history())
    stage.sandbox.kill(primary, Target.GUARD, restart=False)
    wait_until(lambda: "guard-down" in kinds_since(stage, count, primary), what="the history says it", timeout=60)
    stage.sandbox.start(primary, Target.GUARD)
    wait_until(
        lambda: {"guard-back", "guard-restarted"} & set(kinds_since(stage, count, primary)),
        what="the history says that it is back",
        timeout=60,
    )


def test_both_killed_at_once(netns_stage: Stage) -> None:
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    before = {unit: pid_of(stage, old, unit) for unit in (Unit.CONTROLLER, Unit.GUARD)}
    with stage.writing() as writer:
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        stage.wait_healthy()
        assert writer.wait_for(20, 60), stage.story()
        for unit, pid in before.items():
            assert pid_of(stage, old, unit) != pid
    stage.verify(writer)


def test_both_killed_and_the_controller_stays_away(netns_stage: Stage) -> None:
    """A guard that starts anew remembers that there is something to guard."""
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    with stage.writing() as writer, clients_of(stage, old):
        stage.sandbox.kill(old, Target.CONTROLLER)
        stage.sandbox.kill(old, Target.GUARD)
        wait_until_closed(stage, old)
        stage.wait(lambda s: other_is_primary(s, old), "another primary")
        stage.sandbox.start(old, Target.CONTROLLER)
        stage.wait_healthy()
        assert writer.wait_for(20, 60), stage.story()
    stage.verify(writer)


def test_a_guard_without_its_secrets_fences_all_the_same(netns_stage: Stage) -> None:
    """By SIGKILL, since it cannot log in. The controllers are gone, so nobody else does it."""
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    names, count = stage.sandbox.layout.names, len(stage.history())
    secrets = Path(Layout(str(stage.sandbox.directory / old)).secrets)
    whole = secrets.read_bytes()
    mysqld = pid_of(stage, old, Unit.MYSQLD)
    with clients_of(stage, old):
        for name in names:
            stage.sandbox.kill(name, Target.CONTROLLER)
        secrets.write_bytes(whole[: len(whole) // 2])
        stage.sandbox.kill(old, Target.GUARD)
        wait_until(
            lambda: services(stage, old).main_pid(Unit.MYSQLD, timeout=CALL_SECONDS) not in (mysqld, None),
            what="mysqld is killed, and comes back",
            timeout=60,
        )
    secrets.write_bytes(whole)
    for name in names:
        stage.sandbox.start(name, Target.CONTROLLER)
    stage.wait_healthy()
    fenced = wait_until(
        lambda: [e for e in stage.history()[count:] if e.kind == "fenced" and "guard" in e.why],
        what="the guard's fencing in the history",
        timeout=60,
    )
    assert [entry.detail["killed"] for entry in fenced] == [True], fenced


def test_memory(netns_stage: Stage) -> None:
    stage = netns_stage
    stage.wait_healthy()
    for member in stage.sandbox.layout.names:
        guard = pid_of(stage, member, Unit.GUARD)
        assert megabytes(guard) <= GUARD_MB_MAX
        # one that a test before this one had restarted may be on its way up
        wait_until(lambda guard=guard: megabytes(guard, "VmLck") > 0, what="it cannot be swapped out")
        assert megabytes(pid_of(stage, member, Unit.CONTROLLER)) <= CONTROLLER_MB_MAX


def test_planned_stop_of_the_primarys_mysqld_hands_over(netns_stage: Stage) -> None:
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    count = len(stage.history())
    with stage.writing() as writer:
        stage.sandbox.stop(old, Target.MYSQLD)
        status = stage.status()
        assert status.primary != old
        assert writer.wait_for(20, 60), stage.story()
        stage.sandbox.start(old, Target.MYSQLD)
        stage.wait_healthy()
    kinds = [entry.kind for entry in stage.history()[count:]]
    assert "begin-switchover" in kinds
    assert "begin-failover" not in kinds
    assert stage.verify(writer).unsure_present == 0


def test_planned_stop_of_the_primarys_host_hands_over(netns_stage: Stage) -> None:
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    with stage.writing() as writer:
        stage.sandbox.stop(old, Target.HOST)
        assert not stage.sandbox.host(old).is_on()
        assert writer.wait_for(20, 60), stage.story()
        stage.sandbox.start(old, Target.HOST)
        stage.wait_healthy()
    stage.verify(writer)


def test_planned_stop_of_a_replica_changes_no_primary(netns_stage: Stage) -> None:
    stage = netns_stage
    before = stage.wait_healthy()
    replica = next(name for name in stage.sandbox.layout.names if name != before.primary)
    with stage.writing() as writer:
        stage.sandbox.stop(replica, Target.MYSQLD)
        assert stage.status().epoch == before.epoch
        stage.sandbox.start(replica, Target.MYSQLD)
        stage.wait_healthy()
    assert writer.errors == []
    stage.verify(writer)


def test_planned_stop_while_commits_wait_acknowledges_nothing(netns_stage: Stage) -> None:
    """Nobody can take over: the waiting client gets an error, and never the OK that SIGTERM would give it."""
    stage = netns_stage
    old = stage.wait_healthy().primary
    assert old
    others = [name for name in stage.sandbox.layout.names if name != old]
    outcome: list[str] = []

    def write() -> None:
        with connect(stage.endpoint(old), timeout=120.0) as conn:
            conn.execute(f"USE `{stage.database}`")
            ready.set()
            cut.wait()
            try:
                conn.execute("INSERT INTO side VALUES ()")
                outcome.append("OK")
            except ConnectionLost:
                outcome.append("lost")

    with connect_soon(stage) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS side (n BIGINT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB")
    ready, cut = threading.Event(), threading.Event()
    client = threading.Thread(target=write, daemon=True)
    client.start()
    assert ready.wait(60)
    stage.sandbox.partition([[old], others], one_way=False)
    cut.set()
    stage.sandbox.stop(old, Target.MYSQLD)
    client.join(60)
    assert outcome == ["lost"]
    stage.sandbox.heal()
    stage.sandbox.start(old, Target.MYSQLD)
    stage.wait_healthy()
