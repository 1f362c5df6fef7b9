"""GTIDSet against a dumb twin, `set[(uuid, tag, number)]`, and the text forms that MySQL reads and writes."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftctl.cluster.codec import from_json, pack, to_json, unpack
from raftctl.cluster.gtid import NUMBER_MAX, GTIDSet, GTIDSyntaxError, Interval

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "4350f323-7565-4e59-8763-4b1b83a0ce0e"

Twin = frozenset[tuple[str, str, int]]

twins = st.frozensets(
    st.tuples(st.sampled_from([A, B]), st.sampled_from(["", "blue", "red"]), st.integers(1, 14)), max_size=40
)


def gtid_set(twin: Twin) -> GTIDSet:
    return GTIDSet(Interval(uuid, tag, number, number) for uuid, tag, number in twin)


def twin_of(gtids: GTIDSet) -> Twin:
    return frozenset((i.uuid, i.tag, n) for i in gtids.intervals() for n in range(i.first, i.last + 1))


def assert_canonical(gtids: GTIDSet) -> None:
    intervals = list(gtids.intervals())
    assert intervals == sorted(intervals)
    for before, after in itertools.pairwise(intervals):
        assert before[:2] != after[:2] or before.last + 1 < after.first


@given(twins, twins)
def test_algebra_agrees_with_plain_sets(left: Twin, right: Twin) -> None:
    a, b = gtid_set(left), gtid_set(right)
    for ours, plain in [(a | b, left | right), (a - b, left - right), (a & b, left & right)]:
        assert twin_of(ours) == plain
        assert ours == gtid_set(plain)
        assert hash(ours) == hash(gtid_set(plain))
        assert ours.count() == len(plain)
        assert bool(ours) == bool(plain)
        assert_canonical(ours)
    assert (a <= b, a < b, a >= b, a > b, a == b) == (
        left <= right,
        left < right,
        left >= right,
        left > right,
        left == right,
    )


@given(twins)
def test_text_round_trip_and_questions(twin: Twin) -> None:
    gtids = gtid_set(twin)
    assert GTIDSet.parse(str(gtids)) == gtids
    assert gtids.uuids() == tuple(sorted({uuid for uuid, _, _ in twin}))
    assert twin_of(gtids.restrict(A)) == {g for g in twin if g[0] == A}
    for uuid in (A, B):
        for tag in ("", "blue", "red"):
            for number in range(1, 16):
                assert gtids.has(uuid, number, tag) == ((uuid, tag, number) in twin)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        (" \n ", ""),
        (f"{A}:1-5", f"{A}:1-5"),
        (f"{A.upper()}:7", f"{A}:7"),
        (f"{A}:1-5,\n{B}:1", f"{A}:1-5,{B}:1"),
        (f" {B} : 1 , {A}:1 - 3 : 2-9:11 ,", f"{A}:1-9:11,{B}:1"),
        (f"{A}:3:2:1:5", f"{A}:1-3:5"),
        (f"{A}:1-2,{A}:3-4", f"{A}:1-4"),
        (f"{A}:Tag_1:1-5", f"{A}:tag_1:1-5"),
        (f"{A}:1-3:red:5:blue:1-2:4,{A}:red:6", f"{A}:1-3:blue:1-2:4:red:5-6"),
        (f"{A}:{NUMBER_MAX}", f"{A}:{NUMBER_MAX}"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert str(GTIDSet.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nonsense", "'nonsense' is not a server UUID"),
        (f"{A}:1,{A[:-1]}:1", f"{A[:-1]!r} is not a server UUID"),
        (A, f"{A} is followed by no interval"),
        (f"{A}:", f"'' after {A}"),
        (f"{A}:1-5:red", f"{A}:red is followed by no interval"),
        (f"{A}:red:blue:1", f"{A}:red is followed by no interval"),
        (f"{A}:5-1", "'5-1'"),
        (f"{A}:0", "'0'"),
        (f"{A}:-1", "'-1'"),
        (f"{A}:1-", "'1-'"),
        (f"{A}:{NUMBER_MAX + 1}", f"'{NUMBER_MAX + 1}'"),
        (f"{A}:{'t' * 33}:1", "'ttttt"),
        (f"{A}:{'9' * 5000}", "99..."),
    ],
)
def test_errors_name_the_fault(text: str, fault: str) -> None:
    with pytest.raises(GTIDSyntaxError) as error:
        GTIDSet.parse(text)
    assert fault in str(error.value)
    assert len(str(error.value)) < 200


def test_sets_travel_as_text_and_bad_text_is_reported_with_its_path() -> None:
    class Report(msgspec.Struct):
        executed: GTIDSet

    report = Report(GTIDSet.parse(f"{A}:1-5"))
    assert to_json(report) == f'{{"executed":"{A}:1-5"}}'.encode()
    assert from_json(to_json(report), Report) == report
    assert unpack(pack(report), Report) == report
    for bad in (b'{"executed":"x"}', b'{"executed":5}'):
        with pytest.raises(msgspec.ValidationError, match=r"\$\.executed"):
            from_json(bad, Report)


def test_ten_thousand_intervals_stay_linear() -> None:
    """A quadratic algorithm would take a minute here; ten CPU seconds leave room for any machine."""
    odd = GTIDSet(Interval(A, "", n, n) for n in range(1, 20_000, 2))
    even = GTIDSet(Interval(A, "", n, n) for n in range(2, 20_000, 2))
    started = time.process_time()
    for _ in range(5):
        assert str(odd | even) == f"{A}:1-19999"
        assert (odd & even).count() == 0
        assert odd - even == odd
        assert GTIDSet.parse(f"{A}:1-20000") - odd == even | GTIDSet.parse(f"{A}:20000")
        assert odd <= odd | even
        assert GTIDSet.parse(str(odd)) == odd
    assert time.process_time() - started < 10
