"""The plan of a cut: exactly what the new primary lacks, or nothing, with the reason. Saving and cutting."""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.errors import HostError
from raftctl.mysql import tail
from raftctl.mysql.binlog import open_binlog
from raftctl.mysql.tail import Cut, NoCut, Reason, ServerFiles
from tests.support import binlog_files as made

A = "aaaaaaaa-0000-0000-0000-000000000001"
B = "bbbbbbbb-0000-0000-0000-000000000002"
PREVIOUS = GTIDSet.parse(f"{A}:1-5")
NUMBERS = (6, 7, 8, 9)


def one(source: str, number: int) -> Interval:
    return Interval(source, "", number, number)


def crashed(path: Path, *, numbers: tuple[int, ...] = NUMBERS, in_use: bool = True) -> ServerFiles:
    """A server that held A:1-5 at its last rotation and wrote `numbers` since."""
    contents = made.binlog(PREVIOUS, [made.transaction(one(A, n)) for n in numbers], in_use=in_use)
    return made.data_directory(path / "data", contents)


def held(files: ServerFiles) -> GTIDSet:
    with open_binlog(tail.last_file(files)) as binlog:
        return binlog.gtids


def cut_of(files: ServerFiles, keep: GTIDSet) -> Cut:
    plan = tail.plan_cut(files, keep)
    assert isinstance(plan, Cut), plan
    return plan


def reason_of(files: ServerFiles, keep: GTIDSet) -> Reason:
    plan = tail.plan_cut(files, keep)
    assert isinstance(plan, NoCut), plan
    return plan.reason


GTIDS = st.tuples(st.sampled_from((A, B)), st.integers(1, 6)).map(lambda pair: one(*pair))


@given(st.lists(GTIDS, max_size=4), st.lists(GTIDS, unique=True, max_size=8), st.lists(GTIDS, max_size=12))
def test_what_is_cut_is_exactly_what_the_primary_lacks(
    earlier: list[Interval], written: list[Interval], primary: list[Interval]
) -> None:
    previous, keep = GTIDSet(earlier), GTIDSet(primary)
    with tempfile.TemporaryDirectory() as directory:
        contents = made.binlog(previous, [made.transaction(gtid) for gtid in written])
        files = made.data_directory(Path(directory) / "data", contents)
        before = held(files)
        plan = tail.plan_cut(files, keep)
        lacking = [gtid for gtid in written if not GTIDSet([gtid]) <= keep]
        is_suffix = bool(lacking) and written[-len(lacking) :] == lacking
        if previous <= keep and is_suffix:
            assert isinstance(plan, Cut)
            assert plan.gtids == GTIDSet(lacking)
            assert not plan.gtids & keep
            tail.apply(plan, files)
            assert held(files) <= keep
            assert held(files) | plan.gtids == before
        else:
            assert isinstance(plan, NoCut)
            assert (plan.reason is Reason.NOTHING_LACKS) == (before <= keep)


def test_the_reasons_for_not_cutting(tmp_path: Path) -> None:
    files = crashed(tmp_path)
    assert reason_of(files, GTIDSet.parse(f"{A}:1-9")) is Reason.NOTHING_LACKS
    assert reason_of(files, GTIDSet.parse(f"{A}:1-4:6-7")) is Reason.OLDER_FILE
    assert reason_of(files, GTIDSet.parse(f"{A}:1-7:9")) is Reason.INTERLEAVED
    closed = crashed(tmp_path / "closed", in_use=False)
    assert reason_of(closed, PREVIOUS) is Reason.CLEAN_SHUTDOWN


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"\xfdbin" + bytes(600), Reason.ENCRYPTED),
        (b"", Reason.UNREADABLE),
        (made.binlog(PREVIOUS, [made.ddl(one(A, 6), atomic=False)]), Reason.NOT_TRANSACTIONAL),
        (
            made.binlog(PREVIOUS, [made.transaction(one(A, 6)), made.ddl(one(A, 7), atomic=False)]),
            Reason.NOT_TRANSACTIONAL,
        ),
        (made.binlog(PREVIOUS, [made.transaction(one(A, 6)).replace(b"rows", b"ROWS")]), Reason.UNREADABLE),
    ],
)
def test_files_that_are_left_alone(tmp_path: Path, contents: bytes, reason: Reason) -> None:
    files = made.data_directory(tmp_path / "data", contents)
    assert reason_of(files, PREVIOUS) is reason
    assert tail.last_file(files).read_bytes() == contents


def test_atomic_ddl_is_cut(tmp_path: Path) -> None:
    files = made.data_directory(tmp_path / "data", made.binlog(PREVIOUS, [made.ddl(one(A, 6), atomic=True)]))
    assert cut_of(files, PREVIOUS).gtids == GTIDSet.parse(f"{A}:6")


def test_an_index_that_names_nothing(tmp_path: Path) -> None:
    files = crashed(tmp_path)
    Path(files.binlog_index).write_text("\n")
    assert reason_of(files, PREVIOUS) is Reason.UNREADABLE
    Path(files.binlog_index).unlink()
    assert reason_of(files, PREVIOUS) is Reason.UNREADABLE


def test_the_saved_tail_is_a_binary_log_of_its_own(tmp_path: Path) -> None:
    files = crashed(tmp_path)
    cut = cut_of(files, GTIDSet.parse(f"{A}:1-7"))
    path = tail.save(cut, tmp_path / "state" / "tails")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == made.MAGIC + made.description(in_use=False) + b"".join(
        made.transaction(one(A, n)) for n in (8, 9)
    )


def test_a_crash_after_any_step_is_harmless(tmp_path: Path) -> None:
    """Each step may be followed by a new beginning: the tail is never gone before it is saved, nor the UUID kept after
    it is gone."""
    files = crashed(tmp_path)
    keep = GTIDSet.parse(f"{A}:1-7")
    tails = tmp_path / "tails"
    saved = tail.save(cut_of(files, keep), tails)
    assert tail.save(cut_of(files, keep), tails) == saved
    assert list(tails.iterdir()) == [saved]
    tail.renew_uuid(files)
    assert held(files) == GTIDSet.parse(f"{A}:1-9")
    tail.apply(cut_of(files, keep), files)
    assert held(files) == keep
    assert not (Path(files.datadir) / "auto.cnf").exists()
    assert reason_of(files, keep) is Reason.NOTHING_LACKS


def test_a_running_server_is_left_alone(tmp_path: Path) -> None:
    files = crashed(tmp_path)
    lock = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", lock, files.system_tablespace], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server:
        assert server.stdout
        assert server.stdout.readline() == "locked\n"
        with pytest.raises(HostError, match="a server runs"), tail.held_down(files):
            pass
        server.communicate("")
    with tail.held_down(files):
        pass
