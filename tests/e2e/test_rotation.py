"""Certificates and passwords are replaced under a writer: nothing fails, nobody fails over, and earlier ones end."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from raftctl.api_client import ApiClient
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.survey import own_endpoint
from raftctl.cli.cluster import open_cluster
from raftctl.cli.options import Options
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.state import HistoryEntry
from raftctl.cluster.status_model import ClusterStatus
from raftctl.controller.config import Secrets, load_secrets
from raftctl.controller.guard_protocol import GuardFiles
from raftctl.errors import MySQLError
from raftctl.hosts.services import Unit
from raftctl.mysql.accounts import replication_user
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.errors import AccessDenied
from raftctl.mysql.sessions import kill
from raftctl.sandbox.cluster import Target
from tests.e2e.test_failures import raftctl
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.netns, pytest.mark.timeout(600)]


def rotate(stage: Stage, *arguments: str) -> None:
    done = raftctl(stage, "rotate", *arguments, "--yes", timeout=180.0)
    assert done.returncode == 0, (done, stage.story())


def cut_off(stage: Stage, step: str, *arguments: str) -> None:
    """Begin a rotation and kill the command, as abruptly as can be, when it names this step."""
    command = [sys.executable, "-m", "raftctl", "-i", str(stage.sandbox.inventory), "rotate", *arguments, "--yes"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line.strip())
            if step in line:
                process.kill()
                return
        raise AssertionError(f"{step!r} never came: {said}")


def failovers(stage: Stage) -> int:
    return sum(entry.kind in ("begin-failover", "fence") for entry in stage.history())


def pids(stage: Stage) -> dict[tuple[str, Unit], int | None]:
    """Of all controllers and guards."""
    return {
        (name, unit): stage.sandbox.host(name).services.main_pid(unit, timeout=10.0)
        for name in stage.sandbox.layout.names
        for unit in (Unit.CONTROLLER, Unit.GUARD)
    }


def refusals(stage: Stage, credentials: Path) -> set[str]:
    """What the members say to somebody with these files."""
    api = ApiClient.from_directory(credentials)
    answers = api.fetch_all(stage.cluster.inventory.members(), "/v1/member", 5.0, MemberFacts)
    return {answer if isinstance(answer, str) else "" for answer in answers.values()}


def reopened(stage: Stage) -> Stage:
    """With the certificates as they are now."""
    return dataclasses.replace(stage, cluster=open_cluster(Options(inventory=stage.sandbox.inventory)))


def test_certificates_and_their_authority_under_load(calm_stage: Stage, tmp_path: Path) -> None:
    stage = calm_stage
    before = stage.wait_healthy()
    failed, directory = failovers(stage), stage.cluster.inventory.credentials
    with stage.writing() as writer:
        rotate(stage, "certificates")
        stage = reopened(stage)
        assert refusals(stage, directory) == {""}
        stolen = tmp_path / "stolen"
        shutil.copytree(directory, stolen)
        for step in ("db2: trusting the new authority", "db2: writing a new certificate"):
            cut_off(stage, step, "certificates", "--authority")
        rotate(stage, "certificates")  # goes on with what was begun
        stage = reopened(stage)
        after = stage.wait_healthy()
        assert writer.wait_for(20, 60)
        assert (after.primary, after.epoch, after.term) == (before.primary, before.epoch, before.term), stage.story()
        assert failovers(stage) == failed
        # Neither side accepts the other any more, with or without the new authority in the old files.
        assert "" not in refusals(stage, stolen)
        shutil.copy(directory / "ca.crt", stolen / "ca.crt")
        assert "" not in refusals(stage, stolen)
        assert refusals(stage, directory) == {""}
    tally = stage.verify(writer)
    assert tally.errors == 0, tally


def test_passwords_and_the_cluster_key_under_load(calm_stage: Stage) -> None:
    stage = reopened(calm_stage)
    before, processes = stage.wait_healthy(), pids(stage)
    failed, earlier = failovers(stage), secrets_of(stage)
    with stage.writing() as writer:
        for step in ("db2: adding the new passwords", "db2: ending the earlier passwords"):
            cut_off(stage, step, "passwords")
        rotate(stage, "passwords")
        after = stage.wait_healthy()
        assert writer.wait_for(20, 60)
        assert (after.primary, after.epoch, after.term) == (before.primary, before.epoch, before.term), stage.story()
        assert failovers(stage) == failed
        assert pids(stage) == processes
        for name in stage.sandbox.layout.names:
            assert_only_the_new_ones_count(stage, name, earlier)
        assert writer.errors == []
        fenced = fenced_by_its_guard(stage, after)
        assert fenced.detail["connect"].startswith("ok"), fenced
        assert fenced.detail["offline-mode"].startswith("ok"), fenced
        # What was configured with new passwords works after a change of primary, too.
        assert raftctl(stage, "switchover", "--yes").returncode == 0
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)


def secrets_of(stage: Stage) -> Secrets:
    return load_secrets(stage.cluster.inventory.credentials / "secrets.json")


def assert_only_the_new_ones_count(stage: Stage, name: str, earlier: Secrets) -> None:
    """At this member's mysqld, for new sessions."""
    for secrets, check in ((earlier, is_refused), (secrets_of(stage), is_let_in)):
        assert check(own_endpoint(stage.cluster.inventory.host(name), secrets))
        for member, password in secrets.replication_passwords.items():
            user = replication_user(member)
            assert check(dataclasses.replace(stage.endpoint(name), user=user, password=password)), (name, user)


def is_let_in(endpoint: Endpoint) -> bool:
    connect(endpoint, connect_timeout=10.0, timeout=10.0).close()
    return True


def is_refused(endpoint: Endpoint) -> bool:
    try:
        return not is_let_in(endpoint)
    except AccessDenied:
        return True


def fenced_by_its_guard(stage: Stage, status: ClusterStatus) -> HistoryEntry:
    """End its session, which is older than the passwords, leave the primary to it alone, and see what it does."""
    old, count = status.primary, len(stage.history())
    assert old
    guard = stage.sandbox.host(old).services.main_pid(Unit.GUARD, timeout=10.0)
    with connect(stage.own_endpoint(old), connect_timeout=10.0, timeout=10.0) as conn:
        session = wait_until(lambda: session_of(conn, guard), what="the guard has a session")
        kill(conn, session)
        wait_until(lambda: session_of(conn, guard) not in (None, session), what="the guard has logged in again")
    for name in stage.sandbox.layout.names:
        stage.sandbox.kill(name, Target.CONTROLLER)
    noted = GuardFiles(Layout(stage.cluster.inventory.host(old).directory).state).fencings
    wait_until(lambda: noted.exists() and noted.stat().st_size > 0, what="its guard has fenced it", timeout=60)
    for name in stage.sandbox.layout.names:
        stage.sandbox.start(name, Target.CONTROLLER)
    stage.wait_healthy()

    def in_history() -> HistoryEntry | None:
        return next((e for e in stage.history()[count:] if e.kind == "fenced" and f"guard of {old}" in e.why), None)

    found = wait_until(in_history, what="the history says so", timeout=60)
    assert found is not None
    return found


def session_of(conn: Connection, pid: int | None) -> int | None:
    """Of the client that is this process."""
    found = conn.scalar(
        "SELECT ID FROM performance_schema.processlist"
        " JOIN performance_schema.session_connect_attrs ON ID = PROCESSLIST_ID"
        " WHERE COMMAND = 'Sleep' AND ATTR_NAME = '_pid' AND ATTR_VALUE = %s",  # who is still logging in does not sleep
        (str(pid),),
    )
    return int(found) if found is not None else None


# --- without a member ---------------------------------------------------------------------------------


def test_a_dead_member_is_left_out_and_taken_in_again(calm_stage: Stage) -> None:
    stage = reopened(calm_stage)
    primary = stage.wait_healthy().primary
    gone = next(name for name in stage.sandbox.layout.names if name != primary)
    inventory, earlier = stage.sandbox.inventory, secrets_of(stage)
    listed = inventory.read_text()
    with stage.writing() as writer:
        stage.sandbox.kill(gone, Target.HOST)
        refused = raftctl(stage, "rotate", "passwords", "--yes")
        assert (refused.returncode, "not-reporting" in refused.stderr) == (1, True), refused
        assert raftctl(stage, "member", "remove", gone, "--yes").returncode == 0
        inventory.write_text(without(listed, gone))
        try:
            rotate(stage, "passwords")
        finally:
            inventory.write_text(listed)
        stage.sandbox.start(gone, Target.HOST)
        host = stage.cluster.inventory.host(gone)
        wait_until(lambda: takes_logins(own_endpoint(host, earlier)), what=f"mysqld of {gone} is up", timeout=90)
        added = raftctl(stage, "member", "add", gone, "--yes", timeout=180.0)
        assert added.returncode == 0, (added, stage.story())
        stage.wait_healthy()
        assert is_refused(own_endpoint(host, earlier))
        assert is_let_in(own_endpoint(host, secrets_of(stage)))
        rotate(stage, "passwords")  # its own for replication is made from the cluster key now
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    assert stage.verify(writer).errors == 0


def without(inventory: str, name: str) -> str:
    document = yaml.safe_load(inventory)
    for group in document["all"]["children"].values():
        group["hosts"].pop(name)
    return yaml.safe_dump(document)


def takes_logins(endpoint: Endpoint) -> bool:
    try:
        return is_let_in(endpoint)
    except MySQLError:
        return False
