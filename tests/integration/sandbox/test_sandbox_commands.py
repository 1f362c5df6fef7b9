"""`raftctl sandbox` as a program: exit codes, and errors of one line of what and one of what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from raftctl.errors import UsageError
from raftctl.sandbox import layout as layouts
from raftctl.sandbox.cluster import open_sandbox
from raftctl.sandbox.distribution import MySQLDistribution


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raftctl", "sandbox", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "command", [["down"], ["kill", "db1"], ["freeze", "db1"], ["thaw", "db1"], ["start", "db1"], ["heal"]]
)
def test_a_directory_that_is_no_sandbox_is_bad_usage(command: list[str], tmp_path: Path) -> None:
    result = run(command[0], tmp_path, *command[1:])
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == f"error: {tmp_path} is not a sandbox"


def test_a_sandbox_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.save(tmp_path, layouts.Layout(members=(), settings={}, tag="", subnet="", image=""))
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UsageError, match="another user's sandbox"):
        open_sandbox(tmp_path)


@pytest.mark.parametrize(
    ("flags", "complaint"), [(["--engine", "group"], "not there yet"), (["--driver", "docker"], "no Docker engine")]
)
def test_what_cannot_be_had_is_refused_in_one_line(
    flags: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    result = run("up", tmp_path / "new", *flags)
    assert result.returncode == 1
    assert complaint in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--nodes", "0"], "1 to 9 members"),
        (["--set", "failover.cooldown"], "key=value"),
        (["--set", "failover.cooldown="], "no value"),
        (["--set", "failover.cooldown=["], "--set failover.cooldown: line 1"),
        (["--set", "failover.cooldwon=5s"], "cooldwon"),
        (["--set", "failover.cooldown=soon"], "cooldown"),
        (["--network", "token-ring"], "token-ring"),
    ],
)
def test_up_refuses_nonsense_and_leaves_nothing(flags: list[str], complaint: str, tmp_path: Path) -> None:
    directory = Path("/tmp", f"raftctl-{tmp_path.name}")  # short enough for unix sockets
    result = run("up", directory, *flags)
    assert (result.returncode, complaint in result.stderr) == (2, True), result.stderr
    assert not directory.exists()


def test_up_does_not_touch_a_directory_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    result = run("up", tmp_path)
    assert result.returncode == 2
    assert "not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_up_in_a_place_that_cannot_be_had_is_bad_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("data")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        result = run("up", place)
        assert (result.returncode, f"cannot use {place}" in result.stderr) == (2, True), result.stderr
    assert (tmp_path / "file").read_text() == "data"


@pytest.mark.parametrize("holds", ["a sandbox", "nothing"])
def test_the_demo_touches_no_sandbox_that_was_there(tmp_path: Path, holds: str) -> None:
    home = tmp_path / "sandbox"
    home.mkdir()
    if holds == "a sandbox":
        (home / "sandbox.json").write_text("{}")
    result = run("demo", "--directory", tmp_path)
    assert (result.returncode, f"{home} is there already" in result.stderr) == (2, True), result.stderr
    assert home.exists()


@pytest.mark.mysql
@pytest.mark.slow
def test_the_demo_loses_nothing_and_leaves_nothing(distribution: MySQLDistribution) -> None:
    with tempfile.TemporaryDirectory(prefix="raftctl-", dir="/tmp") as directory:  # short enough for unix sockets
        result = run("demo", "--directory", directory)
        assert list(Path(directory).iterdir()) == []
    assert result.returncode == 0, result.stderr
    acknowledged = re.search(r"^acknowledged (\d+), lost 0$", result.stdout, re.MULTILINE)
    assert acknowledged, result.stdout
    assert int(acknowledged[1]) >= 3000
    assert "promote" in result.stdout, "the timeline is shown"
