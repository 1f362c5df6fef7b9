"""LocalHost: commands with a deadline, files in one step."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from raftctl.errors import HostError
from raftctl.hosts.local import LocalHost
from tests.support.waiting import wait_until

HOST = LocalHost("db1")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_run_passes_data_and_returns_what_the_program_wrote() -> None:
    result = HOST.run(["sh", "-c", "cat; echo oops >&2; exit 3"], data=b"secret", timeout=30, check=False)
    assert (result.status, result.stdout, result.stderr) == (3, b"secret", b"oops\n")


def test_a_failed_program_is_one_line_with_the_host() -> None:
    with pytest.raises(HostError, match=r"^db1: sh failed with status 3: two$"):
        HOST.run(["sh", "-c", "echo one >&2; echo two >&2; exit 3"], data=b"secret", timeout=30)
    with pytest.raises(HostError, match=r"^db1: cannot run no-such-program: No such file or directory$"):
        HOST.run(["no-such-program"], timeout=30)


def test_a_program_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(HostError, match=r"^db1: sh had not ended after 0\.5 s$"):
        HOST.run(
            ["sh", "-c", f"sleep 1000 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"], timeout=0.5
        )
    if pid_file.exists():  # else the machine was too busy to get that far
        pid = int(pid_file.read_text())
        wait_until(lambda: not is_alive(pid), what="the child is gone")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_write_file_sets_the_mode_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("old")
    path.chmod(0o666)
    HOST.write_file(str(path), b"new", mode=0o600)
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o600)
    HOST.write_file(str(path), b"newer", mode=0o644)
    assert (HOST.read_file(str(path)), mode_of(path)) == (b"newer", 0o644)
    assert os.listdir(tmp_path) == ["secrets.json"]  # noqa: PTH208


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(HostError, match=f"^db1: cannot write {tmp_path}/target: Is a directory$"):
        HOST.write_file(str(tmp_path / "target"), b"x", mode=0o600)
    with pytest.raises(HostError, match="No such file or directory"):
        HOST.write_file(str(tmp_path / "none" / "x"), b"x", mode=0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_read_file_tells_a_missing_file_from_an_unreadable_one(tmp_path: Path) -> None:
    assert HOST.read_file(str(tmp_path / "none")) is None
    with pytest.raises(HostError, match="Is a directory"):
        HOST.read_file(str(tmp_path))


def test_make_dir(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    HOST.make_dir(str(path), mode=0o700)
    HOST.make_dir(str(path), mode=0o755)
    assert mode_of(path) == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"^db1: cannot create"):
        HOST.make_dir(str(tmp_path / "file"), mode=0o700)
