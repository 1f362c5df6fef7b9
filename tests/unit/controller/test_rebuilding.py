"""A CLONE counts as done only when mysqld came up with sound data, and is given up when it cannot end."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.controller import rebuild_mark
from raftctl.controller.rebuilding import STALL_SECONDS, STALL_SECONDS_LOCAL, Copy, Rebuilding
from raftctl.mysql.clone import CloneProgress

EARLIER, THIS = "2026-01-01 00:00:00.000", "2026-01-02 00:00:00.000"


def progress(
    *, state: str = "In Progress", stage: str = "FILE COPY", done: int = 0, began: str = THIS
) -> CloneProgress:
    return CloneProgress(state=state, stage=stage, bytes_done=done, bytes_estimated=100, began=began)


COMPLETED = progress(state="Completed")


def begun(directory: Path) -> Rebuilding:
    rebuilding = Rebuilding(directory)
    rebuilding.begin(donor="db1", why="test", now=0.0)
    rebuilding.sending(EARLIER)
    return rebuilding


def test_the_mark_outlives_the_process_until_mysqld_came_up_with_sound_data(tmp_path: Path) -> None:
    begun(tmp_path)
    rebuild_mark.count_start(tmp_path)
    after_restart = Rebuilding(tmp_path)
    assert after_restart.is_marked
    for seen in (None, progress(), progress(state="Failed")):
        assert after_restart.state(seen, sound=True) is Copy.INCOMPLETE
    assert after_restart.state(COMPLETED, sound=None) is Copy.UNVERIFIED
    assert after_restart.state(COMPLETED, sound=True) is Copy.COMPLETE
    after_restart.completed()
    assert after_restart.state(COMPLETED, sound=None) is Copy.NONE


def test_nothing_is_complete_while_the_statement_runs(tmp_path: Path) -> None:
    assert begun(tmp_path).state(COMPLETED, sound=True) is Copy.INCOMPLETE


def test_what_an_earlier_clone_left_says_nothing_about_the_next_one(tmp_path: Path) -> None:
    begun(tmp_path)
    after_restart = Rebuilding(tmp_path)
    assert after_restart.state(progress(state="Completed", began=EARLIER), sound=True) is Copy.INCOMPLETE


def test_a_clone_that_was_not_sent_is_begun_again(tmp_path: Path) -> None:
    Rebuilding(tmp_path).begin(donor="db1", why="test", now=0.0)
    assert Rebuilding(tmp_path).state(progress(state="Completed", began=EARLIER), sound=True) is Copy.INCOMPLETE


def test_a_first_start_that_did_not_come_to_its_end_is_begun_again(tmp_path: Path) -> None:
    begun(tmp_path)
    after_restart = Rebuilding(tmp_path)
    rebuild_mark.count_start(tmp_path)
    rebuild_mark.count_start(tmp_path)
    assert after_restart.state(COMPLETED, sound=True) is Copy.INCOMPLETE
    after_restart.begin(donor="db1", why="again", now=10.0)
    after_restart.sending(THIS)
    after_restart.running = False
    rebuild_mark.count_start(tmp_path)
    assert after_restart.state(progress(state="Completed", began="later"), sound=True) is Copy.COMPLETE


def test_data_that_are_damaged_are_copied_again_less_and_less_often(tmp_path: Path) -> None:
    rebuilding = begun(tmp_path)
    rebuilding.running = False
    assert rebuilding.state(COMPLETED, sound=False) is Copy.INCOMPLETE
    first = rebuilding.not_before
    rebuilding.begin(donor="db1", why="again", now=first)
    assert rebuilding.not_before - first > first


def test_a_mark_that_cannot_be_read_stands_for_an_incomplete_copy(tmp_path: Path) -> None:
    (tmp_path / rebuild_mark.FILE).write_text("db1")
    assert Rebuilding(tmp_path).state(COMPLETED, sound=True) is Copy.INCOMPLETE


def test_starts_are_counted_only_with_a_mark(tmp_path: Path) -> None:
    assert not rebuild_mark.count_start(tmp_path)
    assert rebuild_mark.load(tmp_path) is None


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


@pytest.mark.parametrize("stage", ["DROP DATA", "FILE SYNC"])
def test_what_needs_only_the_own_disk_may_take_long_but_not_for_ever(stage: str, tmp_path: Path) -> None:
    rebuilding = begun(tmp_path)
    assert not rebuilding.is_futile("db1", progress(stage=stage), 1.0)
    assert not rebuilding.is_futile("db1", progress(stage=stage), 10 * STALL_SECONDS)
    assert rebuilding.is_futile("db1", progress(stage=stage), 1.0 + STALL_SECONDS_LOCAL)


def test_saving_what_a_rebuild_throws_away_is_not_given_up(tmp_path: Path) -> None:
    rebuilding = begun(tmp_path)
    for earlier in (None, COMPLETED):
        assert not rebuilding.is_futile("db1", earlier, 1.0)
        assert not rebuilding.is_futile("db1", earlier, 1.0 + STALL_SECONDS_LOCAL)
