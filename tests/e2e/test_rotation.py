"""Certificates and passwords are replaced under a writer: nothing fails, nobody fails over, and earlier ones end."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raftctl.api_client import ApiClient
from raftctl.cli.cluster import open_cluster
from raftctl.cli.options import Options
from raftctl.cluster.facts import MemberFacts
from raftctl.errors import MySQLError
from raftctl.mysql.client import connect
from tests.e2e.test_failures import raftctl
from tests.support.stage import Stage

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
        for step in ("db2: writing the trusted authorities", "db2: writing a new certificate"):
            cut_off(stage, step, "certificates", "--authority")
        rotate(stage, "certificates")  # goes on with what was begun
        stage = reopened(stage)
        after = stage.wait_healthy()
        assert writer.wait_for(20, 60)
        assert (after.primary, after.epoch) == (before.primary, before.epoch), stage.story()
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
    before = stage.wait_healthy()
    failed, earlier = failovers(stage), {name: stage.own_endpoint(name) for name in stage.sandbox.layout.names}
    with stage.writing() as writer:
        for step in ("db2: adding the new passwords", "db2: ending the earlier passwords"):
            cut_off(stage, step, "passwords")
        rotate(stage, "passwords")
        after = stage.wait_healthy()
        assert writer.wait_for(20, 60)
        assert (after.primary, after.epoch) == (before.primary, before.epoch), stage.story()
        assert failovers(stage) == failed
        for name, endpoint in earlier.items():
            with pytest.raises(MySQLError, match="Access denied"):
                connect(endpoint, connect_timeout=10.0, timeout=10.0)
            connect(stage.own_endpoint(name), connect_timeout=10.0, timeout=10.0).close()
        assert writer.errors == []
        # What was configured with new passwords works after a change of primary, too.
        assert raftctl(stage, "switchover", "--yes").returncode == 0
        stage.wait_healthy()
        assert writer.wait_for(20, 60)
    stage.verify(writer)
