"""A controller whose log was deleted does not begin another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.controller.incarnation import BEGUN, Begun, log_directory, remember_log, require_log
from raftctl.errors import CorruptLogError
from raftctl.raftnode.wal import FILE_NAME, Wal

MINE = Begun(incarnation=1, uid="a1")


def begin_log(directory: Path, begun: Begun) -> Path:
    """As a controller's first start does; the log's file."""
    require_log(directory, begun)
    log = log_directory(directory, begun.incarnation)
    wal, _ = Wal.open(log, cluster_id="c1", node_id="db1")
    wal.close()
    remember_log(directory, begun)
    return log / FILE_NAME


def test_a_first_start_and_every_later_one_are_fine(tmp_path: Path) -> None:
    begin_log(tmp_path, MINE)
    require_log(tmp_path, MINE)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_log_that_was_deleted_is_missed(tmp_path: Path, what: str) -> None:
    log = begin_log(tmp_path, MINE)
    log.unlink()
    if what == "directory":
        for file in log.parent.iterdir():
            file.unlink()
        log.parent.rmdir()
    with pytest.raises(CorruptLogError, match="is gone") as caught:
        require_log(tmp_path, MINE)
    assert "member remove" in caught.value.hint


def test_a_host_that_was_taken_in_again_begins_with_nothing(tmp_path: Path) -> None:
    begin_log(tmp_path, MINE).unlink()
    require_log(tmp_path, Begun(incarnation=1, uid="b2"))


def test_a_later_incarnation_begins_with_nothing(tmp_path: Path) -> None:
    begin_log(tmp_path, MINE)
    later = Begun(incarnation=2, uid="a1")
    begin_log(tmp_path, later).unlink()
    with pytest.raises(CorruptLogError):
        require_log(tmp_path, later)


def test_what_cannot_be_read_is_no_reason_to_stay_down(tmp_path: Path) -> None:
    (tmp_path / BEGUN).write_bytes(b"{")
    require_log(tmp_path, MINE)
    begin_log(tmp_path, MINE)
