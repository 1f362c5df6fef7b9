"""What is taken for death and what is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.status_model import IssueCode
from raftctl.mysql.client import connect
from raftctl.sandbox.cluster import Target
from tests.support.errant import undo_errant, write_errant
from tests.support.own_disk import own_disk
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


def test_a_silent_controller_beside_a_living_mysqld_is_waited_for(netns_stage: Stage) -> None:
    """The replicas hear the mysqld: no failover is begun before the lease is over. The guard has the frozen controller
    replaced meanwhile, when it is let."""
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary

    def held_back() -> bool:
        why = [e.why for e in stage.history() if e.kind == "held-back" and e.member == primary]
        return any("still hear its mysqld" in text for text in why)

    with stage.writing() as writer:
        stage.sandbox.freeze(primary, Target.GUARD)
        stage.sandbox.freeze(primary, Target.CONTROLLER)
        wait_until(held_back, what="the failover is held back", timeout=60)
        stage.sandbox.thaw(primary, Target.GUARD)
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def run(stage: Stage, *arguments: str) -> None:
    command = [sys.executable, "-m", "raftctl", "-i", str(stage.sandbox.inventory), *arguments]
    subprocess.run(command, check=True, timeout=60, capture_output=True)


def test_a_stalled_disk_is_death(netns_stage: Stage) -> None:
    """Its mysqld goes on answering every SELECT, and sends its heartbeats to the replicas."""
    stage = netns_stage
    member = stage.wait_healthy().primary
    assert member
    with own_disk(stage, member) as disk:
        stage.wait_new_primary(member)
        stage.make_primary(member)
        with stage.writing() as writer:
            with disk.stalled():
                stage.wait_new_primary(member)
                assert writer.wait_for(20, 60), stage.story()
            stage.wait_healthy()
        begun = [e for e in stage.history() if e.kind == "begin-failover"][-1]
        assert "has completed no write" in begun.why
        stage.verify(writer)
    stage.wait_healthy()


def test_without_automatic_failover_it_is_only_recommended(netns_stage: Stage) -> None:
    """A person's word is enough then."""
    stage = netns_stage
    before = stage.wait_healthy()
    primary = before.primary
    assert primary
    run(stage, "config", "set", "failover.automatic=false", "--yes")
    try:
        with stage.writing() as writer:
            stage.sandbox.kill(primary, Target.MYSQLD, restart=False)
            stage.wait(
                lambda s: any("run `raftctl failover`" in i.text for i in s.issues), "the failover is recommended"
            )
            assert stage.status().epoch == before.epoch
            run(stage, "failover", "--yes")
            stage.wait_new_primary(primary)
            assert writer.wait_for(20, 60), stage.story()
            stage.sandbox.start(primary, Target.MYSQLD)
            stage.wait_healthy()
    finally:
        run(stage, "config", "set", "failover.automatic=true", "--yes")
    stage.verify(writer)


def mend(stage: Stage, member: str, errant: GTIDSet) -> None:
    """As the history advises: the primary gets empty transactions of these names."""
    primary = stage.status().primary
    assert primary
    with connect(stage.own_endpoint(primary), timeout=30.0) as conn:
        for interval in errant.intervals():
            for number in range(interval.first, interval.last + 1):
                conn.execute("SET gtid_next = %s", (f"{interval.uuid}:{number}",))
                conn.execute("BEGIN")
                conn.execute("COMMIT")
        conn.execute("SET gtid_next = 'AUTOMATIC'")
    undo_errant(stage, member)


def test_an_errant_write_is_found_and_its_member_not_promoted(netns_stage: Stage) -> None:
    stage = netns_stage
    primary = stage.wait_healthy().primary
    assert primary
    spoiled, other = sorted(m for m in stage.sandbox.layout.names if m != primary)
    errant = write_errant(stage, spoiled)
    assert errant
    with stage.writing() as writer:
        stage.wait(
            lambda s: any(i.code == IssueCode.ERRANT_TRANSACTIONS and i.member == spoiled for i in s.issues),
            "the errant transaction is found",
        )
        (entry,) = [e for e in stage.history() if e.kind == "errant-transactions"]
        assert entry.member == spoiled
        assert str(errant) in entry.why
        stage.sandbox.kill(primary, Target.MYSQLD)
        stage.wait(lambda s: s.primary == other, f"{other} takes over, {spoiled} does not")
        assert writer.wait_for(20, 90)
        assert errant <= stage.executed(spoiled), "kept for a person to look at"
        mend(stage, spoiled, errant)
        stage.wait_healthy()
    stage.verify(writer)


def silence(stage: Stage, member: str) -> None:
    """Nobody speaks for its mysqld any more, which serves and replicates as before."""
    stage.sandbox.freeze(member, Target.GUARD)
    stage.sandbox.kill(member, Target.CONTROLLER)


def revive(stage: Stage, member: str) -> None:
    stage.sandbox.start(member, Target.HOST)
    stage.sandbox.thaw(member, Target.GUARD)


def test_no_second_failover_of_the_same_cause_in_the_cooldown_unless_the_primary_is_dead(netns_stage: Stage) -> None:
    stage = netns_stage
    first = stage.wait_healthy().primary
    assert first
    run(stage, "config", "set", "failover.cooldown=10m", "--yes")
    try:
        with stage.writing() as writer:
            silence(stage, first)
            stage.wait_new_primary(first)
            revive(stage, first)
            before = stage.wait_healthy()
            second = before.primary
            assert second

            silence(stage, second)
            stage.wait(lambda s: any("cooldown" in i.text for i in s.issues), "the second failover is held back")
            assert writer.wait_for(20, 60), stage.story()
            during = stage.status()
            assert (during.primary, during.epoch) == (second, before.epoch)

            stage.sandbox.kill(second, Target.MYSQLD, restart=False)
            stage.wait_new_primary(second)
            assert writer.wait_for(20, 60), stage.story()
            revive(stage, second)
            stage.wait_healthy()
    finally:
        run(stage, "config", "set", "failover.cooldown=60s", "--yes")
    stage.verify(writer)
