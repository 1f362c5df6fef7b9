"""`raftctl sandbox` as a program: exit codes, and errors of one line of what and one of what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


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
