"""A person with all privileges does to a server what people do: raftctl puts it back, and says so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from raftctl.mysql.client import connect
from raftctl.mysql.observe import observe
from raftctl.sandbox.cluster import Target
from tests.support.dba import dba_of
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


def meddle(stage: Stage, member: str, statements: Sequence[str]) -> None:
    with connect(dba_of(stage, member), timeout=30.0) as dba:
        for statement in statements:
            dba.execute(statement)


def restored(stage: Stage, member: str) -> list[str]:
    return [e.why for e in stage.history() if e.kind == "settings-restored" and e.member == member]


def test_settings_for_a_faster_load_are_put_back_and_told(netns_stage: Stage) -> None:
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    replica = next(row.name for row in stage.status().members if row.name != primary)
    with stage.writing() as writer:
        for member in (primary, replica):
            meddle(stage, member, ["SET GLOBAL sync_binlog = 0, GLOBAL innodb_flush_log_at_trx_commit = 2"])
        meddle(stage, primary, ["SET GLOBAL rpl_semi_sync_source_enabled = OFF"])
        wait_until(
            lambda: "commits waited for 0" in " ".join(restored(stage, primary)) and restored(stage, replica),
            what="the history tells of it",
        )
        for member in (primary, replica):
            with connect(stage.own_endpoint(member), timeout=30.0) as conn:
                assert observe(conn).changed_settings == ()
            assert "sync_binlog = 0; innodb_flush_log_at_trx_commit = 2" in " ".join(restored(stage, member))
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def test_a_server_that_was_told_to_start_writable_does_not(netns_stage: Stage) -> None:
    """SET PERSIST wins over every option file, and over what the controller set a moment ago."""
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    replica = next(row.name for row in stage.status().members if row.name != primary)
    persist = ["SET PERSIST_ONLY super_read_only = OFF", "SET PERSIST_ONLY read_only = OFF"]
    meddle(stage, replica, persist)
    wait_until(
        lambda: "super_read_only was persisted" in " ".join(restored(stage, replica)), what="the history tells of it"
    )
    fenced = len([e for e in stage.history() if e.kind == "fenced" and e.member == replica])
    stage.sandbox.kill(replica, Target.MYSQLD)
    stage.wait_healthy()
    assert len([e for e in stage.history() if e.kind == "fenced" and e.member == replica]) == fenced
