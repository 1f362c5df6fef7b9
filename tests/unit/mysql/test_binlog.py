"""Reading binary log files: what is there is found, what is torn is left out, what is wrong is refused."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.mysql.binlog import MAGIC, BinlogError, Transaction, Unreadable, can_be_rolled_back, open_binlog
from raftctl.mysql.binlog_events import EventType, Reader
from tests.support import binlog_files as made

A = "aaaaaaaa-0000-0000-0000-000000000001"
B = "bbbbbbbb-0000-0000-0000-000000000002"
PREVIOUS = GTIDSet.parse(f"{A}:1-5:7")


def one(source: str, number: int) -> Interval:
    return Interval(source, "", number, number)


THREE = [made.transaction(one(A, 8)), made.ddl(one(B, 1), atomic=True), made.transaction(one(A, 9))]


def read(contents: bytes) -> tuple[GTIDSet, list[Transaction]]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(contents)
        file.flush()
        with open_binlog(Path(file.name)) as binlog:
            return binlog.previous, list(binlog.transactions())


def test_transactions_and_their_places(tmp_path: Path) -> None:
    contents = made.binlog(PREVIOUS, THREE)
    path = tmp_path / "binlog.000001"
    path.write_bytes(contents)
    with open_binlog(path) as binlog:
        assert binlog.previous == PREVIOUS
        assert binlog.gtids == GTIDSet.parse(f"{A}:1-5:7-9,{B}:1")
        assert binlog.in_use
        found = list(binlog.transactions())
        assert [contents[t.offset : t.end] for t in found] == THREE
        assert binlog.offset_of_first(GTIDSet.parse(f"{A}:9,{B}:1")) == found[1].offset
        assert binlog.offset_of_first(GTIDSet.parse(f"{A}:6")) is None


def test_a_closed_file(tmp_path: Path) -> None:
    path = tmp_path / "binlog.000001"
    stop = made.event(EventType.STOP, b"")
    path.write_bytes(made.binlog(PREVIOUS, [*THREE, stop], in_use=False))
    with open_binlog(path) as binlog:
        assert not binlog.in_use
        assert len(list(binlog.transactions())) == 3


def test_cut_short_anywhere_the_complete_transactions_are_left() -> None:
    contents = made.binlog(PREVIOUS, THREE)
    begin = len(made.binlog(PREVIOUS, []))
    ends = list(itertools.accumulate(map(len, THREE), initial=begin))[1:]
    for length in range(len(contents)):
        if length < begin:
            with pytest.raises(BinlogError):
                read(contents[:length])
        else:
            _, found = read(contents[:length])
            assert [t.end for t in found] == [end for end in ends if end <= length]


def test_zeros_at_the_end_are_a_torn_write() -> None:
    """The file system had the new length on disk and not yet the content."""
    _, found = read(made.binlog(PREVIOUS, THREE) + bytes(1000))
    assert len(found) == 3


@given(st.data())
def test_a_changed_byte_never_invents_a_transaction(data: st.DataObject) -> None:
    contents = bytearray(made.binlog(PREVIOUS, THREE))
    at = data.draw(st.integers(0, len(contents) - 1))
    contents[at] ^= data.draw(st.integers(1, 255))
    try:
        previous, found = read(bytes(contents))
    except BinlogError:
        return
    assert previous == PREVIOUS
    _, right = read(made.binlog(PREVIOUS, THREE))
    assert found == right[: len(found)]


@given(st.data())
def test_a_changed_byte_in_a_transaction_is_seen_by_its_checksum(data: st.DataObject) -> None:
    contents = bytearray(made.binlog(PREVIOUS, THREE))
    _, right = read(bytes(contents))
    at = data.draw(st.integers(right[0].offset, right[0].end - 1))
    contents[at] ^= data.draw(st.integers(1, 255))
    with tempfile.NamedTemporaryFile() as file:
        file.write(contents)
        file.flush()
        with open_binlog(Path(file.name)) as binlog:
            assert binlog.events(right[0]) is None
            assert binlog.events(right[1]) is not None


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused(noise: bytes, magic: bool) -> None:
    with pytest.raises(BinlogError):
        read(MAGIC + noise if magic else noise)


@given(st.binary(max_size=300))
def test_random_bytes_after_a_transaction_invent_none(noise: bytes) -> None:
    try:
        _, found = read(made.binlog(PREVIOUS, THREE[:1]) + noise)
    except BinlogError as error:
        assert error.reason is Unreadable.DAMAGED  # noqa: PT017 (also fine: no error)
    else:
        assert len(found) == 1


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"\xfdbin" + bytes(600), Unreadable.ENCRYPTED),
        (b"", Unreadable.NOT_A_BINLOG),
        (b"-- a dump", Unreadable.NOT_A_BINLOG),
        (made.binlog(PREVIOUS, [made.event(EventType.ANONYMOUS_GTID, bytes(50))]), Unreadable.NO_GTIDS),
        (made.binlog(PREVIOUS, [made.event(EventType.XID, bytes(8)), *THREE]), Unreadable.DAMAGED),
        (made.binlog(PREVIOUS, [THREE[0][:40], *THREE[1:]]), Unreadable.DAMAGED),
    ],
)
def test_what_cannot_be_read_says_why(contents: bytes, reason: Unreadable) -> None:
    with pytest.raises(BinlogError) as caught:
        read(contents)
    assert caught.value.reason is reason


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BinlogError) as caught, open_binlog(tmp_path / "none"):
        pass
    assert caught.value.reason is Unreadable.NO_FILE


def last_events(transaction: bytes) -> Iterator[bool]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(made.binlog(PREVIOUS, [transaction]))
        file.flush()
        with open_binlog(Path(file.name)) as binlog:
            for found in binlog.transactions():
                events = binlog.events(found)
                assert events is not None
                yield can_be_rolled_back(events)


def test_what_crash_recovery_can_roll_back() -> None:
    gtid = one(A, 8)
    assert list(last_events(made.transaction(gtid))) == [True]
    assert list(last_events(made.ddl(gtid, atomic=True))) == [True]
    assert list(last_events(made.ddl(gtid, atomic=False))) == [False]  # also COMMIT of a write to MyISAM
    payload = made.event(EventType.TRANSACTION_PAYLOAD, b"compressed")
    assert list(last_events(made.transaction(gtid, end=payload))) == [True]
    xa_prepare = made.event(38, b"")
    assert list(last_events(made.transaction(gtid, end=xa_prepare))) == [False]


@given(st.integers(0, 2**64 - 1))
def test_variable_length_integers(value: int) -> None:
    """As mysql::serialization writes them."""
    size = next(n for n in range(1, 10) if n == 9 or value < 1 << (7 * n))
    ones = (1 << (size - 1)) - 1
    encoded = (value << 8 | 0xFF) if size == 9 else (value << size | ones)
    assert Reader(encoded.to_bytes(size, "little")).variable() == value
