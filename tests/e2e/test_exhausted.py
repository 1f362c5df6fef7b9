"""What runs out: connections, and space on a disk. Nothing acknowledged is lost, somebody says so, and all is well
again as soon as there is more, without a person."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.bootstrap.layout import Layout
from raftctl.cluster.status_model import ClusterStatus, IssueCode
from raftctl.errors import MySQLError
from raftctl.hosts.services import Unit
from raftctl.mysql.client import Connection, connect
from raftctl.mysql.errors import TooManyConnections
from tests.support.own_disk import own_disk
from tests.support.stage import Stage
from tests.support.waiting import wait_until

SPARE_FILES = 1000
SPACE_NOTICED_SECONDS = 240.0  # MySQL looks for space once a minute, for each file that it waits for
NO_SPACE = os.strerror(errno.ENOSPC)

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


@contextlib.contextmanager
def used_up(stage: Stage, member: str, limit: int) -> Iterator[list[Connection]]:
    """The clients that hold all of the member's `limit` connections."""
    with connect(stage.own_endpoint(member), timeout=10.0) as admin:
        usual = admin.scalar("SELECT @@GLOBAL.max_connections")
        admin.execute(f"SET GLOBAL max_connections = {limit:d}")
    clients: list[Connection] = []
    try:
        yield _fill(stage, member, limit, clients)
    finally:
        for client in clients:
            client.close()
        wait_until(lambda: _allow(stage, member, usual), what="mysqld, restarted perhaps, is there")


def _allow(stage: Stage, member: str, limit: int) -> bool:
    try:
        with connect(stage.own_endpoint(member), connect_timeout=10.0, timeout=10.0) as admin:
            admin.execute(f"SET GLOBAL max_connections = {limit:d}")
    except MySQLError:
        return False
    return True


def _fill(stage: Stage, member: str, limit: int, clients: list[Connection]) -> list[Connection]:
    endpoint = stage.endpoint(member)
    for _ in range(limit + 1):
        try:
            clients.append(connect(endpoint, connect_timeout=10.0, timeout=10.0))
        except TooManyConnections:
            return clients
    raise AssertionError("max_connections does not hold")


def said_of(status: ClusterStatus, member: str) -> bool:
    return any(i.code is IssueCode.CONNECTIONS_USED_UP and i.member == member for i in status.issues)


def are_ended(clients: list[Connection]) -> bool:
    return all(not client.is_open or client.has_hung_up() for client in clients)


def survive_and_be_fenced(stage: Stage, limit: int) -> None:
    """With all of `limit` connections in use: no failover, writes go on, `status` says why clients are refused. When
    the host is cut off the mysqld is fenced all the same."""
    before = stage.wait_healthy()
    old = before.primary
    assert old
    with stage.writing() as writer:
        with used_up(stage, old, limit) as clients:
            assert len(clients) > 0.9 * limit
            during = stage.wait(lambda s: said_of(s, old), "status says that connections are used up")
            assert writer.wait_for(500, 120), stage.story()
            assert (during.primary, during.epoch) == (old, before.epoch)
            assert stage.status().epoch == before.epoch
            assert writer.errors == []
            stage.sandbox.partition([[old]], one_way=False)
            try:
                stage.wait_new_primary(old)
                assert writer.wait_for(20, 60), stage.story()
                wait_until(lambda: are_ended(clients), what="the isolated primary is fenced")
            finally:
                stage.sandbox.heal()
        stage.wait_healthy()
        fenced = [e for e in stage.history() if e.kind == "fenced" and e.member == old][-1]
        assert str(fenced.detail["connect"]).startswith("ok"), fenced  # to end 10,000 sessions may take SIGKILL
    stage.verify(writer)


def test_hundreds_of_clients(netns_stage: Stage) -> None:
    survive_and_be_fenced(netns_stage, 300)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_ten_thousand_clients(netns_stage: Stage) -> None:
    clients = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = clients + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"a process may have {hard} open files here, and {needed} are needed")
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    pid = stage.sandbox.host(primary).services.main_pid(Unit.MYSQLD, timeout=10.0)
    assert pid
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (needed, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    try:
        survive_and_be_fenced(stage, clients)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- disk space -----------------------------------------------------------------------------------------


def says_full(status: ClusterStatus, member: str) -> bool:
    return any(i.code is IssueCode.DISK_FULL and i.member == member for i in status.issues)


def has_ended_for_want_of_space(stage: Stage, member: str) -> bool:
    """InnoDB ends mysqld when its next redo log file finds no space, which is seldom due within these seconds."""
    layout = stage.sandbox.layout
    error_log = layout.place(stage.sandbox.directory, layout.member(member)).error_log
    return "Failed to resize unused redo log file" in error_log.read_text(errors="replace")


def test_a_primary_without_space_is_replaced(netns_stage: Stage) -> None:
    """Its mysqld waits for space in the middle of a commit, and answers every SELECT."""
    stage = netns_stage
    member = stage.wait_healthy().primary
    assert member
    with own_disk(stage, member) as disk:
        stage.make_primary(member)
        with stage.writing() as writer:
            with disk.full():
                stage.wait(lambda s: says_full(s, member), "status says that the disk is full")
                stage.wait_new_primary(member)
                assert writer.wait_for(20, 60), stage.story()
            stage.wait_healthy()
        begun = [e for e in stage.history() if e.kind == "begin-failover"][-1]
        assert "has been full" in begun.why or has_ended_for_want_of_space(stage, member), stage.story()
        stage.verify(writer)
    stage.wait_healthy()


@pytest.mark.slow
@pytest.mark.long
def test_a_replica_without_space_is_not_waited_for(netns_stage: Stage) -> None:
    stage = netns_stage
    before = stage.wait_healthy()
    member = next(m for m in stage.sandbox.layout.names if m not in (before.primary, before.leader))
    with own_disk(stage, member) as disk:
        before = stage.wait_healthy()
        with disk.full(), stage.writing(patience=30.0) as writer:
            stage.wait(lambda s: says_full(s, member), "status says that the disk is full")
            stage.wait(lambda s: member not in (s.durability.sync_set or ()), f"{member} acknowledges nothing")
            assert writer.wait_for(200, 60), stage.story()
        after = stage.wait(lambda s: s.health == "ok", "the cluster is healthy", timeout=SPACE_NOTICED_SECONDS)
        assert (after.primary, after.epoch) == (before.primary, before.epoch)
        assert member in (after.durability.sync_set or ())
        assert writer.errors == []
        stage.verify(writer)
    stage.wait_healthy()


def test_a_primarys_controller_without_space_hands_over_to_another_host(netns_stage: Stage) -> None:
    """It cannot write the log, so it ends, again and again, and its mysqld is fenced when the lease is over."""
    stage = netns_stage
    member = stage.wait_healthy().primary
    assert member
    log = stage.sandbox.directory / member / "log" / "controller.log"
    state = Path(Layout(stage.cluster.inventory.host(member).directory).state)
    with own_disk(stage, member, state) as disk:
        stage.make_primary(member)
        with stage.writing() as writer:
            with disk.full():
                decide_much(stage, log)
                stage.wait_new_primary(member)
                assert writer.wait_for(20, 60), stage.story()
            stage.wait_healthy()
        stage.verify(writer)
    stage.wait_healthy()


def decide_much(stage: Stage, log: Path) -> None:
    """Until the controller that has this `log` finds no space for it beyond what it has allocated ahead."""

    def has_said_so() -> bool:
        for path in ("/v1/pause", "/v1/resume"):
            body = {"by": "test", "reason": "x" * 10_000}
            stage.cluster.post(stage.status(), path, body, 10.0)
        return NO_SPACE in log.read_text()

    wait_until(has_said_so, what="there is no space for the log", timeout=60)
