"""Rule R10 on real servers: two of three hosts are lost, one goes on, and the lost ones return together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from raftctl.api_client import CallError
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.status_model import ClusterStatus
from raftctl.errors import MySQLError
from raftctl.mysql.client import connect
from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def lone_stage(distribution: MySQLDistribution) -> Iterator[Stage]:
    """A cluster of its own: its incarnation changes."""
    with stage() as made:
        yield made


def raftctl(stage: Stage, *arguments: str, timeout: float = 150.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raftctl", "-i", str(stage.sandbox.inventory), *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )


def facts(stage: Stage, member: str) -> MemberFacts | None:
    try:
        return stage.cluster.ask(stage.cluster.inventory.members()[member], 5.0)
    except CallError:
        return None


def takes_a_write(stage: Stage, member: str) -> bool:
    try:
        with connect(stage.endpoint(member), connect_timeout=2.0, timeout=2.0) as conn:
            conn.execute(f"CREATE TABLE IF NOT EXISTS `{stage.database}`.stray (id INT PRIMARY KEY)")
    except MySQLError:
        return False
    return True


def has_stray(stage: Stage, member: str) -> bool:
    with connect(stage.own_endpoint(member), connect_timeout=10.0, timeout=10.0) as conn:
        return bool(conn.query("SELECT 1 FROM information_schema.TABLES WHERE TABLE_NAME = 'stray'"))


def wait_for_all_votes(stage: Stage) -> ClusterStatus:
    """Those that returned vote again."""
    return stage.wait(lambda s: s.health == "ok" and s.quorum.voters == 3, "healthy, with three votes", timeout=150)


def wait_for_newcomers(stage: Stage, members: list[str], incarnation: int) -> None:
    for member in members:
        wait_until(
            lambda m=member: (f := facts(stage, m)) and f.state.incarnation == incarnation,
            what=f"{member} returns in incarnation {incarnation}",
            timeout=90,
        )


def test_going_on_alone(lone_stage: Stage) -> None:
    stage = lone_stage
    survivor = stage.wait_healthy().primary
    assert survivor
    lost = [m for m in stage.sandbox.layout.names if m != survivor]

    early = raftctl(stage, "force-members", survivor, "--confirm", "sandbox")
    assert (early.returncode, "excluded-answers" in early.stderr) == (1, True), early

    with stage.writing() as writer:
        for member in lost:
            stage.sandbox.kill(member, Target.HOST)
        stage.wait(lambda s: not s.quorum.ok, "the quorum is lost")
        unconfirmed = raftctl(stage, "force-members", survivor, "--yes")
        assert (unconfirmed.returncode, "--confirm sandbox" in unconfirmed.stderr) == (2, True), unconfirmed
        plan = raftctl(stage, "force-members", survivor, "--dry-run")
        assert plan.returncode == 0, plan
        assert stage.status().incarnation == 1, "a plan changes nothing"
        done = raftctl(stage, "force-members", survivor, "--confirm", "sandbox")
        assert done.returncode == 0, done
        count = len(writer.acknowledged)
        assert writer.wait_for(20, 60), stage.story()
        assert len(writer.acknowledged) > count

        for member in lost:  # together, with the old log and the old votes
            stage.sandbox.start(member, Target.HOST)
        wait_for_newcomers(stage, lost, 2)
        assert not any(takes_a_write(stage, member) for member in lost)
        after = wait_for_all_votes(stage)
        assert (after.primary, after.incarnation) == (survivor, 2)
        assert writer.wait_for(20, 60)
    stage.verify(writer)
    kinds = [entry.kind for entry in stage.history()]
    begun = kinds.index("force-members")
    assert "begin-failover" not in kinds[begun:], "nobody else was promoted"


def test_an_old_majority_that_worked_on_is_not_believed(lone_stage: Stage) -> None:
    """The primary is lost, too, and those that return cannot reach the survivor: nothing can keep them from being the
    old cluster then, and a person is told so. Once they reach it they give that up by themselves."""
    stage = lone_stage
    before = wait_for_all_votes(stage)
    primary, incarnation = before.primary, before.incarnation
    assert primary
    assert incarnation
    survivor, other = (m for m in stage.sandbox.layout.names if m != primary)
    lost = [primary, other]
    with stage.writing() as writer:
        assert writer.wait_for(50, 60)
    stage.wait_equal(primary)

    for member in lost:
        stage.sandbox.kill(member, Target.HOST)
    stage.wait(lambda s: not s.quorum.ok, "the quorum is lost")
    done = raftctl(stage, "force-members", survivor, "--confirm", "sandbox", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["primary"]) == (0, survivor), done
    assert writer.tally(stage.endpoint(survivor)).lost == 0

    stage.sandbox.partition([[survivor], lost], one_way=False)
    for member in lost:
        stage.sandbox.start(member, Target.HOST)
    wait_until(lambda: takes_a_write(stage, primary), what="the old majority is what it was", timeout=90)
    stage.sandbox.heal()
    wait_for_newcomers(stage, lost, incarnation + 1)
    after = wait_for_all_votes(stage)
    assert (after.primary, after.incarnation) == (survivor, incarnation + 1)
    assert not any(has_stray(stage, member) for member in stage.sandbox.layout.names)
    stage.verify(writer)


def test_two_people_force_different_survivors(lone_stage: Stage) -> None:
    """Each on a side of a partition, so to speak: both have incarnation 3, neither takes the other for its own, status
    says so, and the one that is kept shuts the other out."""
    stage = lone_stage
    before = stage.wait_healthy()
    assert before.incarnation
    kept, other = [row.name for row in before.members][:2]
    for survivor in (kept, other):
        away = [m for m in stage.sandbox.layout.names if m != survivor]
        for member in away:
            stage.sandbox.kill(member, Target.HOST)
        stage.sandbox.start(survivor, Target.HOST)
        wait_until(lambda m=survivor: facts(stage, m), what=f"the controller of {survivor}", timeout=60)
        done = raftctl(stage, "force-members", survivor, "--confirm", "sandbox", timeout=180)
        assert done.returncode == 0, (done, stage.story())
    stage.sandbox.start(kept, Target.HOST)
    both = stage.wait(lambda s: any(i.code == "two-branches" for i in s.issues), "both answer")
    assert (both.incarnation, both.health) == (before.incarnation + 1, "critical")
    done = raftctl(stage, "force-members", kept, "--fence", "--confirm", "sandbox", timeout=180)
    assert done.returncode == 0, (done, stage.story())
    stage.sandbox.start_all()
    after = wait_for_all_votes(stage)
    assert (after.primary, after.incarnation) == (kept, before.incarnation + 2)
    stage.wait_equal(kept)


def test_the_other_site_is_lost_and_an_async_member_goes_on(lone_stage: Stage) -> None:
    """Only because a person says so; it is a data member then, and those of the lost site follow when they return."""
    stage = lone_stage
    before = wait_for_all_votes(stage)
    far, *lost = sorted(stage.sandbox.layout.names, key=lambda m: m == before.primary)
    assert raftctl(stage, "member", "set", far, "role=async", "--yes").returncode == 0
    stage.wait(lambda s: any(m.name == far and m.role == "async" for m in s.members) and s.health == "ok", "async")
    with stage.writing() as writer:
        assert writer.wait_for(50, 60)
    acknowledged = stage.executed(before.primary or "")
    wait_until(lambda: acknowledged <= stage.executed(far), what=f"{far} has all of it")
    for member in lost:
        stage.sandbox.kill(member, Target.HOST)
    stage.wait(lambda s: not s.quorum.ok, "the quorum is lost")
    untold = raftctl(stage, "force-members", far, "--confirm", "sandbox")
    assert (untold.returncode, f"--to {far}" in untold.stderr) == (1, True), untold
    done = raftctl(stage, "force-members", far, "--to", far, "--confirm", "sandbox")
    assert done.returncode == 0, done
    for member in lost:
        stage.sandbox.start(member, Target.HOST)
    after = wait_for_all_votes(stage)
    assert (after.primary, {m.role for m in after.members}) == (far, {"data"})
    stage.verify(writer)
