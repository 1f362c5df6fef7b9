"""Members come, go and are replaced while an application writes; nothing is lost and no orphan takes writes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from raftctl.cli.cluster import open_cluster
from raftctl.cli.options import Options
from raftctl.cluster.status_model import IssueCode
from raftctl.hosts.services import Unit
from raftctl.mysql.accounts import replication_user
from raftctl.mysql.client import connect
from raftctl.sandbox.cluster import Target
from raftctl.sandbox.mysqld import greets
from tests.e2e.test_failures import raftctl
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


def member(stage: Stage, *arguments: str) -> None:
    done = raftctl(stage, "member", *arguments, "--yes", timeout=180.0)
    assert done.returncode == 0, (done, stage.story())


def reopened(stage: Stage) -> Stage:
    """With the inventory as it is now."""
    return dataclasses.replace(stage, cluster=open_cluster(Options(inventory=stage.sandbox.inventory)))


def member_rows(stage: Stage) -> dict[str, tuple[str, bool | None, int]]:
    return {row.name: (row.role, row.in_sync_set, row.priority) for row in stage.status().members}


def accounts(stage: Stage, at: str) -> set[str]:
    with connect(stage.own_endpoint(at), connect_timeout=10.0, timeout=10.0) as conn:
        return {row["user"] for row in conn.query("SELECT user AS user FROM mysql.user")}


def test_add_replace_and_remove_under_load(netns_stage: Stage) -> None:
    stage = netns_stage
    stage.wait_healthy()
    with stage.writing() as writer:
        # A fourth host comes.
        assert stage.sandbox.add(witness=False) == "db4"
        stage = reopened(stage)
        member(stage, "add", "db4")
        status = stage.wait_healthy()
        assert (status.quorum.voters, status.durability.required_acks) == (4, 2)
        assert {row.name: row.vote for row in status.members} == dict.fromkeys(stage.sandbox.layout.names, "voter")
        assert writer.wait_for(20, 60)

        # A host is lost for good: another one takes its name.
        lost = next(n for n in stage.sandbox.layout.names if n not in (status.primary, status.leader))
        stage.sandbox.kill(lost, Target.HOST)
        shutil.rmtree(stage.sandbox.directory / lost)
        member(stage, "remove", lost)
        assert stage.status().quorum.voters == 3
        stage.sandbox.start_all()
        member(stage, "add", lost)
        status = stage.wait_healthy()
        assert status.quorum.voters == 4
        assert writer.wait_for(20, 60)

        # The primary is removed: it hands over, stays up and is nobody's any more.
        old = status.primary
        assert old
        member(stage, "remove", old)
        status = stage.wait(lambda s: s.primary not in (None, old), "another primary")
        assert writer.wait_for(20, 60)
        assert status.quorum.voters == 3
        assert status.primary
        with connect(stage.own_endpoint(old), connect_timeout=10.0, timeout=10.0) as conn:
            assert conn.scalar("SELECT @@GLOBAL.super_read_only") == 1
        assert not stage.sandbox.host(old).services.is_active(Unit.CONTROLLER, timeout=10.0)
        assert replication_user(old) not in accounts(stage, status.primary)

        # And comes back, with the data that it has.
        member(stage, "add", old)
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_a_member_without_mysqld_is_removed_and_comes_back(netns_stage: Stage) -> None:
    """Nothing of its earlier life runs on, with sockets that are gone; also when the first command got half-way."""
    stage = reopened(netns_stage)
    status = stage.wait_healthy()
    name = next(row.name for row in status.members if row.name not in (status.primary, status.leader))
    services = stage.sandbox.host(name).services
    guard = services.main_pid(Unit.GUARD, timeout=10.0)
    with stage.writing() as writer:
        stage.sandbox.kill(name, Target.MYSQLD, restart=False)
        stage.cluster.post(status, "/v1/members/remove", {"name": name, "by": "a test"}, 30.0)
        stage.wait(lambda s: (IssueCode.NOT_A_MEMBER, name) in {(i.code, i.member) for i in s.issues}, f"{name} is out")
        member(stage, "remove", name)
        assert not any(services.is_active(unit, timeout=10.0) for unit in (Unit.CONTROLLER, Unit.GUARD))
        stage.sandbox.start(name, Target.MYSQLD)
        wait_until(lambda: greets(Path(stage.own_endpoint(name).unix_socket)), what="its mysqld is up", timeout=60)
        member(stage, "add", name)
        stage.wait_healthy()
        assert services.main_pid(Unit.GUARD, timeout=10.0) != guard
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_a_replica_becomes_async_and_acknowledges_again(netns_stage: Stage) -> None:
    """While it is async nobody counts on it, and nobody promotes it."""
    stage = reopened(netns_stage)
    status = stage.wait_healthy()
    assert status.primary
    name = next(row.name for row in status.members if row.name != status.primary and row.in_sync_set)
    assert raftctl(stage, "member", "set", status.primary, "role=async", "--yes").returncode == 1
    with stage.writing() as writer:
        member(stage, "set", name, "role=async", "priority=7")
        stage.wait_healthy()
        assert member_rows(stage)[name] == ("async", False, 7)
        with connect(stage.own_endpoint(name), connect_timeout=10.0, timeout=10.0) as conn:
            assert conn.scalar("SELECT @@GLOBAL.rpl_semi_sync_replica_enabled") == 0
        refused = raftctl(stage, "switchover", "--to", name, "--yes")
        assert refused.returncode == 1
        assert "async" in refused.stderr
        assert writer.errors == []
        stage.sandbox.kill(status.primary, Target.MYSQLD)
        assert stage.wait_new_primary(status.primary).primary != name
        stage.wait_healthy()
        member(stage, "set", name, "role=data", "priority=0")
        stage.wait_healthy()
        assert member_rows(stage)[name] == ("data", True, 0)
    stage.verify(writer)
