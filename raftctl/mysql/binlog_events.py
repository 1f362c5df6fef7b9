"""Bodies of the binary log events that say what a transaction is: pure parsers of bytes.

Sources: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication_binlog_event.html, and for the
tagged GTIDs of MySQL 8.3 and newer the format of `mysql::serialization`. What makes no sense raises MalformedEvent.
"""

from __future__ import annotations

import enum
import struct
import uuid
from typing import NamedTuple

from raftctl.cluster.gtid import NUMBER_MAX, GTIDSet, Interval

_TAGGED_SET = 1  # the format of a GTID set with tags
_GTID_FIXED = struct.Struct("<B16sQBqq")  # flags, UUID, number, type of the clock that follows, two of its times
_COMMIT_TIME_BYTES = 7
_FIELD_UUID, _FIELD_NUMBER, _FIELD_TAG, _FIELD_LENGTH = 1, 2, 3, 8  # of a tagged GTID event

# Status variables of a query event that may stand before Q_DDL_LOGGED_WITH_XID: the length of each, or how to tell it.
_QUERY_FIXED = struct.Struct("<IIBHH")  # session, seconds, length of the database's name, error, bytes of variables
_FIXED_VARIABLES = {0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 16: 1, 18: 2, 19: 1, 20: 1}
_DATABASES, _DDL_XID = 12, 17
_DATABASES_UNLISTED = 254  # more names than are written down
_COUNTED_VARIABLES = {5: 1, 6: 1, 11: 2}  # time zone, catalog, invoker: so many texts, each after its length


class EventType(enum.IntEnum):
    """Those that matter here (`Log_event_type` in MySQL's source)."""

    QUERY = 2
    STOP = 3
    ROTATE = 4
    FORMAT_DESCRIPTION = 15
    XID = 16
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_PAYLOAD = 40  # a compressed transaction
    GTID_TAGGED = 42


class MalformedEvent(ValueError):
    """An event's bytes make no sense."""


class GTIDEvent(NamedTuple):
    """`length` is that of the whole transaction in bytes, this event included."""

    gtid: Interval
    length: int


class Reader:
    """Takes values off the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise MalformedEvent("an event is shorter than it says")
        part = self._data[self._at : end]
        self._at = end
        return part

    def fixed(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def packed(self) -> int:
        """An integer as the client protocol has it: small, or 2, 3 or 8 bytes after a mark."""
        first = self.fixed(1)
        if first < 251:
            return first
        if first not in (252, 253, 254):
            raise MalformedEvent(f"no integer begins with {first}")
        return self.fixed({252: 2, 253: 3, 254: 8}[first])

    def variable(self) -> int:
        """An unsigned integer of `mysql::serialization`: as many 1 bits at the low end as bytes follow."""
        first = self.fixed(1)
        following = (~first & (first + 1)).bit_length() - 1
        rest = self.fixed(following)
        return rest << (7 - following) | first >> (following + 1) if following < 8 else rest

    def text(self, count: int) -> str:
        try:
            return self.take(count).decode("ascii")
        except UnicodeDecodeError:
            raise MalformedEvent("a tag is not ASCII") from None


def parse_gtid_set(body: bytes) -> GTIDSet:
    """The body of a PREVIOUS_GTIDS event."""
    reader = Reader(body)
    head = reader.take(8)
    tagged = head[7] == _TAGGED_SET
    sources = int.from_bytes(head[1:7] if tagged else head, "little")
    intervals = []
    for _ in range(sources):
        source = _uuid(reader.take(16))
        tag = reader.text(reader.variable()) if tagged else ""
        for _ in range(reader.fixed(8)):
            first, end = reader.fixed(8), reader.fixed(8)
            intervals.append(_interval(source, tag, first, end - 1))
    if reader:
        raise MalformedEvent("a GTID set is longer than it says")
    return GTIDSet(intervals)


def parse_gtid(kind: int, body: bytes) -> GTIDEvent:
    """The body of a GTID or GTID_TAGGED event."""
    return _parse_tagged(Reader(body)) if kind == EventType.GTID_TAGGED else _parse_untagged(Reader(body))


def _parse_untagged(reader: Reader) -> GTIDEvent:
    _, source, number, _, _, _ = _GTID_FIXED.unpack(reader.take(_GTID_FIXED.size))
    has_original = reader.fixed(_COMMIT_TIME_BYTES) >> (8 * _COMMIT_TIME_BYTES - 1)
    if has_original:
        reader.take(_COMMIT_TIME_BYTES)
    return GTIDEvent(_interval(_uuid(source), "", number, number), reader.packed())


def _parse_tagged(reader: Reader) -> GTIDEvent:
    for _ in range(3):  # version of the format, length, the last field that must be understood
        reader.variable()
    source, number, tag, length = b"", 0, "", 0
    while reader and not length:
        match reader.variable():
            case field if field == _FIELD_UUID:
                source = bytes(_byte(reader.variable()) for _ in range(16))
            case field if field == _FIELD_NUMBER:
                number = reader.variable() >> 1  # the lowest bit is the sign
            case field if field == _FIELD_TAG:
                tag = reader.text(reader.variable())
            case field if field == _FIELD_LENGTH:
                length = reader.variable()
            case _:
                reader.variable()
    if len(source) != 16 or not length:
        raise MalformedEvent("a GTID event lacks its UUID or its length")
    return GTIDEvent(_interval(_uuid(source), tag, number, number), length)


def is_atomic_ddl(body: bytes) -> bool:
    """Whether a QUERY event is a DDL statement that its engine can roll back: it has Q_DDL_LOGGED_WITH_XID."""
    reader = Reader(body)
    variables = Reader(reader.take(_QUERY_FIXED.size + _QUERY_FIXED.unpack_from(body)[4])[_QUERY_FIXED.size :])
    while variables:
        code = variables.fixed(1)
        if code == _DDL_XID:
            return True
        _skip_variable(variables, code)
    return False


def _skip_variable(variables: Reader, code: int) -> None:
    if code == _DATABASES:
        _skip_databases(variables)
    elif code in _FIXED_VARIABLES:
        variables.take(_FIXED_VARIABLES[code])
    elif code in _COUNTED_VARIABLES:
        for _ in range(_COUNTED_VARIABLES[code]):
            variables.take(variables.fixed(1))
    else:
        raise MalformedEvent(f"unknown status variable {code}")


def _skip_databases(variables: Reader) -> None:
    count = variables.fixed(1)
    for _ in range(0 if count == _DATABASES_UNLISTED else count):
        while variables.fixed(1):
            pass


def _byte(value: int) -> int:
    if value > 255:
        raise MalformedEvent("a UUID's byte is above 255")
    return value


def _uuid(data: bytes) -> str:
    return str(uuid.UUID(bytes=data))


def _interval(source: str, tag: str, first: int, last: int) -> Interval:
    if not 1 <= first <= last <= NUMBER_MAX:
        raise MalformedEvent(f"no transactions have the numbers {first} to {last}")
    return Interval(source, tag, first, last)
