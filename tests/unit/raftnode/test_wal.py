"""The write-ahead log on a real disk: what was appended comes back, a torn tail is cut, damage is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftctl.consensus.membership import Membership
from raftctl.consensus.types import Entry, EntryKind, HardState, Snapshot
from raftctl.errors import CorruptLogError
from raftctl.raftnode.wal import FILE_NAME, LogIdentityError, LogInUseError, Wal, WalWriteError
from raftctl.raftnode.wal_records import Recovered


def entry(*, index: int, term: int = 1, data: bytes = b"x") -> Entry:
    return Entry(index, term, EntryKind.COMMAND, data)


def entries(*, first: int, last: int, term: int = 1) -> list[Entry]:
    return [entry(index=i, term=term, data=f"e{i}".encode()) for i in range(first, last + 1)]


def open_wal(directory: Path) -> tuple[Wal, Recovered]:
    return Wal.open(directory, cluster_id="orders", node_id="db1")


def reopen(directory: Path) -> Recovered:
    wal, recovered = open_wal(directory)
    wal.close()
    return recovered


def written(directory: Path, *appends: tuple[HardState | None, list[Entry]]) -> list[int]:
    """Append each to a new log; returns the file's size after creation and after each append."""
    wal, _ = open_wal(directory)
    sizes = [wal.size_bytes]
    for hard_state, batch in appends:
        wal.append(hard_state, batch)
        sizes.append(wal.size_bytes)
    wal.close()
    return sizes


ALLOCATED = pytest.mark.parametrize("allocated", [0, 700], ids=["exact", "allocated ahead"])


def test_a_new_directory_gives_an_empty_log_readable_by_nobody_else(tmp_path: Path) -> None:
    directory = tmp_path / "raft"
    wal, recovered = open_wal(directory)
    assert recovered == Recovered()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in directory.iterdir()} == {0o600}
    wal.close()
    assert reopen(directory) == recovered


def test_what_was_appended_comes_back(tmp_path: Path) -> None:
    log = entries(first=1, last=5)
    written(tmp_path, (HardState(1, "db1"), log[:2]), (None, log[2:]), (HardState(2, "db2"), []))
    recovered = reopen(tmp_path)
    assert recovered.hard_state == HardState(2, "db2")
    assert list(recovered.entries) == log
    assert recovered.torn_bytes == 0


def test_an_append_below_the_end_replaces_the_suffix(tmp_path: Path) -> None:
    new = entries(first=3, last=4, term=2)
    written(tmp_path, (HardState(1), entries(first=1, last=9)), (HardState(2), new))
    assert list(reopen(tmp_path).entries) == entries(first=1, last=2) + new


def test_a_gap_is_refused(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path)
    with pytest.raises(AssertionError):
        wal.append(None, entries(first=2, last=2))
    wal.close()


@pytest.mark.parametrize("tail", ["short", "spanning sectors"])
def test_a_tail_cut_at_any_byte_loses_only_the_last_append(tmp_path: Path, tail: str) -> None:
    kept = entries(first=1, last=3)
    last = [entry(index=4, data=b"y" * (8 if tail == "short" else 1500)), entry(index=5)]
    *_, start, end = written(tmp_path, (HardState(1, "db1"), kept), (HardState(7, "db3"), last))
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    for cut in range(start + 1, end):
        path.write_bytes(whole[:cut])
        recovered = reopen(tmp_path)
        assert (recovered.hard_state, list(recovered.entries)) == (HardState(1, "db1"), kept), cut
        assert recovered.torn_at == start
        assert recovered.torn_bytes > 0
        assert path.stat().st_size == start, "the torn tail stays in the file"


def test_appending_goes_on_after_a_torn_tail(tmp_path: Path) -> None:
    written(tmp_path, (HardState(1), entries(first=1, last=2)), (None, entries(first=3, last=3)))
    path = tmp_path / FILE_NAME
    os.truncate(path, path.stat().st_size - 1)
    wal, _ = open_wal(tmp_path)
    wal.append(None, entries(first=3, last=4, term=2))
    wal.close()
    recovered = reopen(tmp_path)
    assert list(recovered.entries) == entries(first=1, last=2) + entries(first=3, last=4, term=2)
    assert recovered.torn_bytes == 0


@ALLOCATED
def test_a_last_append_with_an_unwritten_sector_is_a_torn_tail(tmp_path: Path, allocated: int) -> None:
    """After a power cut a file may have its full size while some sectors of the last write never reached the
    disk."""
    big = [entry(index=2, data=b"y" * 4000)]
    *_, start, end = written(tmp_path, (HardState(1), entries(first=1, last=1)), (None, big))
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    sectors = [max(start, s) for s in range(start - start % 512, end, 512)]
    for sector in sectors:
        stop = min(end, sector - sector % 512 + 512)
        path.write_bytes(whole[:sector] + bytes(stop - sector) + whole[stop:] + bytes(allocated))
        recovered = reopen(tmp_path)
        assert list(recovered.entries) == entries(first=1, last=1)
        assert recovered.torn_at == start


@ALLOCATED
def test_an_unwritten_sector_before_an_intact_record_is_corruption(tmp_path: Path, allocated: int) -> None:
    big = [entry(index=1, data=b"y" * 4000)]
    _, _, start, _ = written(tmp_path, (HardState(1), big), (None, []), (None, entries(first=2, last=2)))
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    for sector in range(0, start - 512, 512):
        path.write_bytes(whole[:sector] + bytes(512) + whole[sector + 512 :] + bytes(allocated))
        with pytest.raises(CorruptLogError):
            reopen(tmp_path)


@ALLOCATED
def test_a_flipped_bit_is_never_read_as_data_or_cut_off(tmp_path: Path, allocated: int) -> None:
    """Every byte of the file, the last record included: what had been synced is refused, not forgotten."""
    written(tmp_path, (HardState(3, "db2"), entries(first=1, last=3)), (None, entries(first=4, last=4)))
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    for offset in range(len(whole)):
        path.write_bytes(
            whole[:offset] + bytes([whole[offset] ^ (1 << offset % 8)]) + whole[offset + 1 :] + bytes(allocated)
        )
        with pytest.raises(CorruptLogError) as caught:
            reopen(tmp_path)
        assert str(path) in str(caught.value)
        assert caught.value.hint


def test_a_record_that_was_removed_or_repeated_breaks_the_chain(tmp_path: Path) -> None:
    """Each record is intact by itself here; only the chaining of checksums tells."""
    a, b, c = written(tmp_path, (HardState(1), []), (HardState(2), []))
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    for bad in (whole[:a] + whole[b:], whole[:b] + whole[a:b] + whole[b:c]):
        path.write_bytes(bad)
        with pytest.raises(CorruptLogError):
            reopen(tmp_path)


def test_one_of_several_equal_records_cannot_vanish(tmp_path: Path) -> None:
    """Each checksum depends on everything before it, not only on the record before."""
    _, a, b, _ = written(tmp_path, *[(HardState(1), [])] * 3)
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:a] + whole[b:])
    with pytest.raises(CorruptLogError):
        reopen(tmp_path)


def test_a_log_of_another_node_or_cluster_is_refused(tmp_path: Path) -> None:
    written(tmp_path, (HardState(1), []))
    for cluster_id, node_id in (("orders", "db2"), ("billing", "db1")):
        with pytest.raises(LogIdentityError):
            Wal.open(tmp_path, cluster_id=cluster_id, node_id=node_id)
    assert reopen(tmp_path).hard_state == HardState(1)


def test_two_processes_cannot_share_a_directory(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path)
    code = (
        "import sys, pathlib; from raftctl.raftnode.wal import Wal\n"
        "Wal.open(pathlib.Path(sys.argv[1]), cluster_id='orders', node_id='db1')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "LogInUseError" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    with pytest.raises(LogInUseError):
        open_wal(tmp_path)
    wal.close()
    reopen(tmp_path)


def test_a_killed_process_leaves_a_log_with_zeros_at_its_end_which_are_no_torn_tail(tmp_path: Path) -> None:
    """Space is allocated ahead; only a clean stop gives it back."""
    log = [entry(index=1), entry(index=2, data=bytes(900))]
    wal, _ = open_wal(tmp_path)
    wal.append(HardState(1), log)
    left_behind = wal.path.read_bytes()
    wal.close()
    assert len(left_behind) > wal.size_bytes == wal.path.stat().st_size
    wal.path.write_bytes(left_behind)
    recovered = reopen(tmp_path)
    assert list(recovered.entries) == log
    assert recovered.torn_bytes == 0


@pytest.mark.parametrize("split", range(1, 20))
def test_a_header_of_which_the_second_sector_is_unwritten_is_a_torn_tail(tmp_path: Path, split: int) -> None:
    """The last record's header spans two sectors, the first of which reached the disk."""
    _, end = written(tmp_path / "probe", (None, [entry(index=1, data=b"x" * 300)]))
    log = [entry(index=1, data=b"x" * (300 + 512 - split - end))]
    _, start, _ = written(tmp_path / "log", (None, log), (None, [entry(index=2, data=b"y" * 600)]))
    assert start == 512 - split
    path = tmp_path / "log" / FILE_NAME
    path.write_bytes(path.read_bytes()[:512] + bytes(2000))
    recovered = reopen(tmp_path / "log")
    assert (list(recovered.entries), recovered.torn_at) == (log, start)


def test_records_go_on_behind_the_allocated_space(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path)
    log = [entry(index=i, data=b"z" * 50_000) for i in range(1, 20)]
    for one in log:
        wal.append(None, [one])
    wal.close()
    assert list(reopen(tmp_path).entries) == log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_failed_write_is_final(tmp_path: Path) -> None:
    """Rule R1: an fsync or write error ends the process; nothing is tried again on the same log."""
    wal, _ = open_wal(tmp_path)
    os.dup2(full := os.open("/dev/full", os.O_WRONLY), wal._fd)
    os.close(full)
    for _ in range(2):
        with pytest.raises(WalWriteError):
            wal.append(HardState(1), [])
    wal.close()
    assert reopen(tmp_path).hard_state == HardState()


def snapshot(*, index: int, term: int = 1) -> Snapshot:
    return Snapshot(index, term, Membership.of(["db1", "db2"]), f"state at {index}".encode())


def test_compaction_puts_a_snapshot_in_place_of_what_it_covers(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path)
    wal.append(HardState(2, "db1"), entries(first=1, last=100))
    before = wal.size_bytes
    wal.compact(snapshot(index=90))
    assert wal.size_bytes == wal.path.stat().st_size < before
    wal.append(None, entries(first=101, last=102))
    wal.append(None, entries(first=100, last=101, term=2))
    wal.compact(snapshot(index=80))  # an older one changes nothing
    wal.close()
    recovered = reopen(tmp_path)
    assert recovered.snapshot == snapshot(index=90)
    assert list(recovered.entries) == entries(first=91, last=99) + entries(first=100, last=101, term=2)
    assert recovered.hard_state == HardState(2, "db1")


def test_a_snapshot_of_the_leader_replaces_the_whole_log(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path)
    wal.append(HardState(2), entries(first=1, last=9))
    wal.append(HardState(3), entries(first=21, last=22, term=3), snapshot=snapshot(index=20, term=3))
    wal.append(None, entries(first=23, last=23, term=3))
    wal.close()
    recovered = reopen(tmp_path)
    assert recovered.snapshot == snapshot(index=20, term=3)
    assert list(recovered.entries) == entries(first=21, last=23, term=3)
    wal, _ = open_wal(tmp_path)
    with pytest.raises(AssertionError):
        wal.append(None, entries(first=20, last=20))
    wal.close()


def test_a_log_in_use_that_lost_its_end_is_not_compacted(tmp_path: Path) -> None:
    """All of it was synced, so what looks like a torn write is damage."""
    wal, _ = open_wal(tmp_path)
    wal.append(HardState(2), entries(first=1, last=3))
    end = wal.size_bytes
    wal.append(None, [entry(index=4, data=b"y" * 2000)])
    with wal.path.open("r+b") as file:
        file.seek(end - end % 512 + 512)
        file.write(bytes(512))
    with pytest.raises(CorruptLogError):
        wal.compact(snapshot(index=2))
    wal.close()


def test_an_interrupted_compaction_leaves_the_old_log(tmp_path: Path) -> None:
    written(tmp_path, (HardState(2), entries(first=1, last=3)))
    (tmp_path / FILE_NAME).with_suffix(".new").write_bytes(b"half a file")
    assert list(reopen(tmp_path).entries) == entries(first=1, last=3)


Step = tuple[HardState | None, int, list[bytes], bool]  # the int: how many entries of the log to keep
steps_strategy: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.none() | st.builds(HardState, st.integers(0, 9), st.sampled_from(["", "db1"])),
        st.integers(0, 12),
        st.lists(st.binary(max_size=40), max_size=4),
        st.booleans(),  # reopen afterwards
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps_strategy)
def test_the_log_behaves_like_a_list(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    directory = tmp_path_factory.mktemp("wal")
    wal, _ = open_wal(directory)
    model: list[Entry] = []
    model_state = HardState()
    for number, (hard_state, keep, blobs, again) in enumerate(steps):
        first = min(keep, len(model)) + 1
        batch = [entry(index=first + i, term=number, data=blob) for i, blob in enumerate(blobs)]
        wal.append(hard_state, batch)
        if batch:
            model[first - 1 :] = batch
        model_state = hard_state or model_state
        if again:
            wal.close()
            wal, recovered = open_wal(directory)
            assert (recovered.hard_state, list(recovered.entries)) == (model_state, model)
    wal.close()
    recovered = reopen(directory)
    assert (recovered.hard_state, list(recovered.entries)) == (model_state, model)
