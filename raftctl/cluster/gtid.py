"""GTID sets: parsing, canonical text and set algebra, without asking a server.

A GTID names one transaction: the UUID of the server that committed it, an optional tag (MySQL 8.3+) and a
number from 1. A GTID set is written `uuid:1-5:7:tag:1-3,uuid2:1` (MySQL 8.4 Reference Manual, 19.1.3.1 "GTID
Format and Storage"). Safety decisions rest on these sets, so the algebra is tested against a plain set of
triples and against GTID_SUBSET() and GTID_SUBTRACT() of a real server.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from raftctl.errors import RaftctlError

NUMBER_MAX = 2**63 - 2  # MySQL's GNO_END is 2^63 - 1, exclusive

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_INTERVAL = re.compile(r"([0-9]{1,20})(?:\s*-\s*([0-9]{1,20}))?")

# Sorted, disjoint, never adjacent, half-open: (first, end) holds first .. end - 1.
_Spans = tuple[tuple[int, int], ...]


class GTIDSyntaxError(RaftctlError, ValueError):
    """A text is not a GTID set; the message quotes the part at fault."""


class Interval(NamedTuple):
    """The transactions `first` to `last`, both included, of one server under one tag ("" is untagged)."""

    uuid: str
    tag: str
    first: int
    last: int


class GTIDSet:
    """An immutable set of GTIDs.

    The operators are those of `frozenset`: `a | b`, `a - b`, `a & b`, `a <= b` (is a in b?), `a < b`, and
    `bool(a)` is False for the empty set. `str(a)` is MySQL's canonical form on one line (MySQL puts a line
    feed after each comma) and `GTIDSet.parse` reads both. Operations are linear in the number of intervals.
    """

    __slots__ = ("_spans",)

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        """The union of `intervals`, which may overlap and come in any order; none may be empty."""
        collected: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for uuid, tag, first, last in intervals:
            assert 1 <= first <= last <= NUMBER_MAX, (uuid, tag, first, last)
            collected.setdefault((uuid, tag), []).append((first, last + 1))
        self._spans = {source: _coalesce(collected[source]) for source in sorted(collected)}

    @classmethod
    def parse(cls, text: str) -> GTIDSet:
        """Read MySQL's textual form: any case, white space, intervals in any order, possibly empty.

        Raises GTIDSyntaxError naming the part at fault.
        """
        return cls(interval for part in text.lower().split(",") for interval in _parse_part(part.strip()))

    @classmethod
    def _from_spans(cls, spans: dict[tuple[str, str], _Spans]) -> GTIDSet:
        result = cls()
        result._spans = {source: spans[source] for source in sorted(spans) if spans[source]}
        return result

    # --- algebra ----------------------------------------------------------------------------------

    def __or__(self, other: GTIDSet) -> GTIDSet:
        merged = {**self._spans, **other._spans}
        for source in self._spans.keys() & other._spans.keys():
            merged[source] = _coalesce([*self._spans[source], *other._spans[source]])
        return self._from_spans(merged)

    def __sub__(self, other: GTIDSet) -> GTIDSet:
        return self._from_spans({s: _subtract(own, other._spans.get(s, ())) for s, own in self._spans.items()})

    def __and__(self, other: GTIDSet) -> GTIDSet:
        shared = self._spans.keys() & other._spans.keys()
        return self._from_spans({s: _intersect(self._spans[s], other._spans[s]) for s in shared})

    def __le__(self, other: GTIDSet) -> bool:
        return all(_within(own, other._spans.get(source, ())) for source, own in self._spans.items())

    def __lt__(self, other: GTIDSet) -> bool:
        return self != other and self <= other

    def __ge__(self, other: GTIDSet) -> bool:
        return other <= self

    def __gt__(self, other: GTIDSet) -> bool:
        return other < self

    def __eq__(self, other: object) -> bool:
        return self._spans == other._spans if isinstance(other, GTIDSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._spans.items()))

    def __bool__(self) -> bool:
        return bool(self._spans)

    # --- questions --------------------------------------------------------------------------------

    def count(self) -> int:
        """The number of transactions."""
        return sum(end - first for spans in self._spans.values() for first, end in spans)

    def has(self, uuid: str, number: int, tag: str = "") -> bool:
        """Whether the one transaction `uuid[:tag]:number` is in the set; `uuid` and `tag` in lower case."""
        spans = self._spans.get((uuid, tag), ())
        return _within(((number, number + 1),), spans)

    def restrict(self, uuid: str) -> GTIDSet:
        """The transactions that the server `uuid` committed first, under any tag."""
        return self._from_spans({s: spans for s, spans in self._spans.items() if s[0] == uuid.lower()})

    def uuids(self) -> tuple[str, ...]:
        """The servers that committed something in the set, sorted."""
        return tuple(dict.fromkeys(uuid for uuid, _ in self._spans))

    def intervals(self) -> Iterator[Interval]:
        """The set as disjoint intervals in canonical order."""
        for (uuid, tag), spans in self._spans.items():
            for first, end in spans:
                yield Interval(uuid, tag, first, end - 1)

    # --- text -------------------------------------------------------------------------------------

    def __str__(self) -> str:
        by_uuid: dict[str, list[str]] = {}
        for (uuid, tag), spans in self._spans.items():
            words = by_uuid.setdefault(uuid, [uuid])
            if tag:
                words.append(tag)
            words.extend(str(first) if end == first + 1 else f"{first}-{end - 1}" for first, end in spans)
        return ",".join(":".join(words) for words in by_uuid.values())

    def __repr__(self) -> str:
        return f"GTIDSet.parse({str(self)!r})"


# --- parsing ----------------------------------------------------------------------------------------


def _parse_part(part: str) -> Iterator[Interval]:
    """The intervals of one `uuid[:tag]:interval[:interval]...`; a tag holds for what follows it."""
    if not part:
        return
    uuid, *words = (word.strip() for word in part.split(":"))
    if not _UUID.fullmatch(uuid):
        raise GTIDSyntaxError(f"GTID set: {_clip(uuid)} is not a server UUID")
    tag, tag_is_used = "", False
    for word in words:
        if _TAG.fullmatch(word):
            if tag and not tag_is_used:
                break
            tag, tag_is_used = word, False
        else:
            yield Interval(uuid, tag, *_parse_numbers(uuid, word))
            tag_is_used = True
    if not tag_is_used:
        raise GTIDSyntaxError(f"GTID set: {uuid}{':' + tag if tag else ''} is followed by no interval")


def _parse_numbers(uuid: str, word: str) -> tuple[int, int]:
    match = _INTERVAL.fullmatch(word)
    if match is None:
        raise GTIDSyntaxError(f"GTID set: {_clip(word)} after {uuid} is neither a tag nor an interval")
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    if not 1 <= first <= last <= NUMBER_MAX:
        raise GTIDSyntaxError(f"GTID set: interval {_clip(word)} of {uuid} is not within 1 to 2^63-2 or runs backwards")
    return first, last


def _clip(text: str) -> str:
    return repr(text if len(text) <= 50 else text[:47] + "...")


# --- algebra of sorted, disjoint, half-open spans -----------------------------------------------------


def _coalesce(spans: list[tuple[int, int]]) -> _Spans:
    spans.sort()  # two sorted runs merge in linear time
    result: list[tuple[int, int]] = []
    first, end = spans[0]
    for next_first, next_end in spans:
        if next_first <= end:
            end = max(end, next_end)
        else:
            result.append((first, end))
            first, end = next_first, next_end
    result.append((first, end))
    return tuple(result)


def _subtract(minuend: _Spans, subtrahend: _Spans) -> _Spans:
    result: list[tuple[int, int]] = []
    at = 0
    for first, end in minuend:
        while at < len(subtrahend) and subtrahend[at][1] <= first:
            at += 1
        probe = at
        while probe < len(subtrahend) and subtrahend[probe][0] < end:
            hole_first, hole_end = subtrahend[probe]
            if first < hole_first:
                result.append((first, hole_first))
            first = max(first, hole_end)
            probe += 1
        if first < end:
            result.append((first, end))
        at = max(at, probe - 1)  # the last hole may reach into the next span
    return tuple(result)


def _intersect(left: _Spans, right: _Spans) -> _Spans:
    result: list[tuple[int, int]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        first, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if first < end:
            result.append((first, end))
        if left[i][1] <= right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(result)


def _within(inner: _Spans, outer: _Spans) -> bool:
    """Spans of a set are never adjacent, so each inner span must lie in a single outer one."""
    for first, end in inner:
        at = bisect_right(outer, first, key=lambda span: span[0]) - 1
        if at < 0 or outer[at][1] < end:
            return False
    return True
