"""A person with all privileges does to a server what people do: raftctl puts it back, and says so."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest

from raftctl.errors import MySQLError
from raftctl.mysql.accounts import replication_user
from raftctl.mysql.client import connect
from raftctl.mysql.observe import observe
from raftctl.sandbox.cluster import Target
from tests.support.dba import dba_of
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]

WORKERS = """
SELECT PROCESSLIST_ID AS id FROM performance_schema.threads
JOIN performance_schema.replication_applier_status_by_worker USING (THREAD_ID)
"""


def by_role(stage: Stage) -> list[str]:
    """The primary of the healthy cluster, then the replicas."""
    status = stage.wait_healthy()
    return sorted((row.name for row in status.members), key=lambda name: name != status.primary)


def meddle(stage: Stage, member: str, statements: Sequence[str]) -> None:
    with connect(dba_of(stage, member), timeout=30.0) as dba:
        for statement in statements:
            dba.execute(statement)


def restored(stage: Stage, member: str) -> list[str]:
    return [e.why for e in stage.history() if e.kind == "settings-restored" and e.member == member]


def test_settings_for_a_faster_load_are_put_back_and_told(netns_stage: Stage) -> None:
    stage = netns_stage
    primary, replica, *_ = by_role(stage)
    with stage.writing() as writer:
        for member in (primary, replica):
            meddle(stage, member, ["SET GLOBAL sync_binlog = 0, GLOBAL innodb_flush_log_at_trx_commit = 2"])
        meddle(stage, primary, ["SET GLOBAL rpl_semi_sync_source_enabled = OFF"])
        wait_until(
            lambda: (
                "commits waited for 0" in " ".join(restored(stage, primary))
                and "innodb_flush" in " ".join(restored(stage, primary))
                and "innodb_flush" in " ".join(restored(stage, replica))
            ),
            what="the history tells of it",
        )
        for member in (primary, replica):
            with connect(stage.own_endpoint(member), timeout=30.0) as conn:
                assert observe(conn).changed_settings == ()
            told = " ".join(restored(stage, member))
            assert "sync_binlog = 0" in told
            assert "innodb_flush_log_at_trx_commit = 2" in told
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_a_server_that_was_told_to_start_writable_does_not(netns_stage: Stage) -> None:
    """SET PERSIST wins over every option file, and over what the controller set a moment ago."""
    stage = netns_stage
    _, replica, *_ = by_role(stage)
    persist = ["SET PERSIST_ONLY read_only = OFF", "SET PERSIST_ONLY super_read_only = OFF"]
    meddle(stage, replica, persist)
    wait_until(
        lambda: "super_read_only was persisted" in " ".join(restored(stage, replica)), what="the history tells of it"
    )
    fenced = len([e for e in stage.history() if e.kind == "fenced" and e.member == replica])
    stage.sandbox.kill(replica, Target.MYSQLD)
    stage.wait_healthy()
    assert len([e for e in stage.history() if e.kind == "fenced" and e.member == replica]) == fenced


def test_replication_accounts_that_somebody_dropped_are_made_again(netns_stage: Stage) -> None:
    """The statement replicates: they are gone everywhere, and no failover would help."""
    stage = netns_stage
    primary, *replicas = by_role(stage)
    with stage.writing() as writer:
        with connect(stage.own_endpoint(primary), timeout=30.0) as conn:
            conn.execute(f"DROP USER {', '.join(map(replication_user, replicas))}")
        for replica in replicas:
            with connect(stage.own_endpoint(replica), timeout=30.0) as conn:
                conn.execute("STOP REPLICA IO_THREAD")
        wait_until(
            lambda: any(e.kind == "accounts-missing" and e.member == primary for e in stage.history()),
            what="they are missed",
            timeout=120,
        )
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_an_applier_that_somebody_killed_is_started_again(netns_stage: Stage) -> None:
    stage = netns_stage
    _, replica, *_ = by_role(stage)
    with stage.writing() as writer:
        assert writer.wait_for(20, 60)
        with connect(stage.own_endpoint(replica), timeout=30.0) as conn:

            def killed() -> bool:
                for row in conn.query(WORKERS):
                    with contextlib.suppress(MySQLError):  # the first one that ends takes the others with it
                        conn.execute(f"KILL {row['id']}")
                channel = observe(conn).channel
                return channel is not None and channel.applier_error_code != 0 and not channel.applier_running

            wait_until(killed, what="the applier stops with an error")
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)
