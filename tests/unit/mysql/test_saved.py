"""A copy of transactions that a rebuild throws away: from any binary log file, and nothing else."""

from __future__ import annotations

from pathlib import Path

from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.mysql.binlog import MAGIC
from raftctl.mysql.saved import newest, save_transactions
from raftctl.mysql.tail import ServerFiles
from tests.support import binlog_files as made

A, B = "aaaaaaaa-0000-0000-0000-000000000000", "bbbbbbbb-0000-0000-0000-000000000000"


def gtid(source: str, number: int) -> Interval:
    return Interval(source, "", number, number)


def server(directory: Path) -> ServerFiles:
    """A:1-4 and, in between, B:1 in the first file and B:2 in the second."""
    first = [gtid(A, 1), gtid(B, 1), gtid(A, 2)]
    files = made.data_directory(directory, b"")
    old = made.binlog(GTIDSet(), map(made.transaction, first), in_use=False)
    (directory / "binlog.000001").write_bytes(old)
    new = made.binlog(GTIDSet(first), map(made.transaction, [gtid(A, 3), gtid(B, 2), gtid(A, 4)]))
    (directory / "binlog.000002").write_bytes(new)
    return files


def test_errant_transactions_are_copied_from_all_files(tmp_path: Path) -> None:
    errant = GTIDSet.parse(f"{B}:1-2")
    saved = save_transactions(server(tmp_path / "data"), errant, tmp_path / "tails")
    assert saved.gtids == errant
    copied = [made.transaction(gtid(B, number)) for number in (1, 2)]
    assert Path(saved.path).read_bytes() == MAGIC + made.description(in_use=False) + b"".join(copied)
    assert Path(saved.path).stat().st_mode & 0o077 == 0
    assert newest(tmp_path / "tails") == saved.path


def test_what_is_purged_is_left_out_and_said(tmp_path: Path) -> None:
    files = server(tmp_path / "data")
    Path(files.binlog_index).write_text("./binlog.000002\n")
    saved = save_transactions(files, GTIDSet.parse(f"{B}:1-2"), tmp_path / "tails")
    assert saved.gtids == GTIDSet.parse(f"{B}:2")


def test_without_any_there_is_no_newest(tmp_path: Path) -> None:
    assert newest(tmp_path / "tails") == ""
