"""A CLONE counts as done only when the server says so, and is given up when it cannot end."""

from __future__ import annotations

from pathlib import Path

from raftctl.controller.rebuilding import STALL_SECONDS, Rebuilding
from raftctl.mysql.clone import CloneProgress


def progress(*, state: str = "In Progress", stage: str = "FILE COPY", done: int = 0) -> CloneProgress:
    return CloneProgress(state=state, stage=stage, bytes_done=done, bytes_estimated=100)


def begun(directory: Path) -> Rebuilding:
    rebuilding = Rebuilding(directory)
    rebuilding.begin(donor="db1", why="test", now=0.0)
    return rebuilding


def test_the_mark_outlives_the_process_until_the_server_reports_completion(tmp_path: Path) -> None:
    begun(tmp_path)
    after_restart = Rebuilding(tmp_path)
    assert after_restart.is_marked
    assert not after_restart.completed(None)
    assert not after_restart.completed(progress())
    assert not after_restart.completed(progress(state="Failed"))
    assert after_restart.is_marked
    assert after_restart.completed(progress(state="Completed"))
    assert not after_restart.is_marked


def test_what_an_earlier_clone_left_says_nothing_about_the_one_under_way(tmp_path: Path) -> None:
    rebuilding = begun(tmp_path)
    assert not rebuilding.completed(progress(state="Completed"))
    assert rebuilding.is_marked


def test_a_donor_that_is_not_the_primary_any_more_is_given_up(tmp_path: Path) -> None:
    rebuilding = begun(tmp_path)
    assert not rebuilding.is_futile("db1", progress(), 1.0)
    assert not rebuilding.is_futile("", progress(), 1.0)  # nobody is yet
    assert rebuilding.is_futile("db2", progress(), 1.0)


def test_a_copy_that_stands_still_is_given_up(tmp_path: Path) -> None:
    rebuilding = begun(tmp_path)
    assert not rebuilding.is_futile("db1", progress(done=1), 10.0)
    assert not rebuilding.is_futile("db1", progress(done=1), 10.0 + STALL_SECONDS - 1)
    assert not rebuilding.is_futile("db1", progress(done=2), 10.0 + STALL_SECONDS)
    assert rebuilding.is_futile("db1", progress(done=2), 10.0 + 2 * STALL_SECONDS)


def test_writing_the_copied_files_to_disk_may_take_long(tmp_path: Path) -> None:
    rebuilding = begun(tmp_path)
    assert not rebuilding.is_futile("db1", progress(stage="FILE SYNC"), 1.0)
    assert not rebuilding.is_futile("db1", progress(stage="FILE SYNC"), 10 * STALL_SECONDS)
