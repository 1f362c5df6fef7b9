"""Reading a binary log file that no server has open: which transactions it holds, and where each one lies.

Files of MySQL 8.0.2 and newer: before that, a transaction's GTID event did not tell its length. Nothing that has a
checksum is believed when it fails it.
"""

from __future__ import annotations

import contextlib
import enum
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.errors import RaftctlError
from raftctl.mysql.binlog_events import EventType, MalformedEvent, is_atomic_ddl, parse_gtid, parse_gtid_set

MAGIC = b"\xfebin"
_ENCRYPTED_MAGIC = b"\xfdbin"
_HEADER = struct.Struct("<IBIIIH")  # time, type, server id, size, end position, flags
_FLAGS_AT = 17
_IN_USE = 0x1  # LOG_EVENT_BINLOG_IN_USE_F of the format description: the file was not closed
_CHECKSUM_BYTES = 4
_CHECKSUM_CRC32 = 1
_BLOCK_BYTES = 65536


class Unreadable(enum.StrEnum):
    """Why a file cannot be read as a binary log with GTIDs."""

    NO_FILE = "no-file"
    ENCRYPTED = "encrypted"
    NOT_A_BINLOG = "not-a-binary-log"
    NO_GTIDS = "no-gtids"
    DAMAGED = "damaged"


class BinlogError(RaftctlError):
    """A file cannot be read as a binary log; `reason` says why in a word."""

    def __init__(self, path: Path, reason: Unreadable, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.reason = reason


class Event(NamedTuple):
    """`body` is without header and checksum."""

    type: int
    offset: int
    end: int
    body: bytes


class Transaction(NamedTuple):
    """From its GTID event at `offset` to `end`, where the next event begins."""

    gtid: Interval
    offset: int
    end: int


class BinlogFile:
    """One file, mapped into memory: made by `open_binlog`, of use until that ends.

    `in_use`: its server ended without closing it. `previous`: the GTIDs of all earlier files. `description` is the
    format description event, marked as that of a closed file."""

    def __init__(self, path: Path, data: bytes | mmap.mmap) -> None:
        self.path = path
        self.size = len(data)
        self._data = data
        if data[:4] == _ENCRYPTED_MAGIC:
            raise BinlogError(path, Unreadable.ENCRYPTED, "is encrypted")
        if data[:4] != MAGIC:
            raise BinlogError(path, Unreadable.NOT_A_BINLOG, "does not begin as a binary log does")
        self._checksum_bytes = _CHECKSUM_BYTES  # this event has one whatever it says of the others
        description = self._leading(len(MAGIC), EventType.FORMAT_DESCRIPTION)
        self._checksum_bytes = _CHECKSUM_BYTES if description.body[-1] == _CHECKSUM_CRC32 else 0
        self.in_use = bool(data[len(MAGIC) + _FLAGS_AT] & _IN_USE)
        self.description = _closed(bytes(data[len(MAGIC) : description.end]))
        previous = self._leading(description.end, EventType.PREVIOUS_GTIDS)
        try:
            self.previous = parse_gtid_set(previous.body)
        except MalformedEvent as error:
            raise self._damaged(previous.offset, str(error)) from None
        self._begin = previous.end

    # --- transactions ----------------------------------------------------------------------------------

    @property
    def gtids(self) -> GTIDSet:
        """Everything up to the end of this file, earlier files included. Raises BinlogError."""
        return GTIDSet([*self.previous.intervals(), *(found.gtid for found in self.transactions())])

    def offset_of_first(self, lacking: GTIDSet) -> int | None:
        """Where the first transaction of `lacking` begins; None when none is in this file. Raises BinlogError."""
        return next((t.offset for t in self.transactions() if has(lacking, t.gtid)), None)

    def transactions(self) -> Iterator[Transaction]:
        """The complete transactions in order. One that the end of the file tears apart is left out, as MySQL's crash
        recovery leaves it out. Of each only the GTID event is looked at; `events` has the rest.

        Raises BinlogError on anything else that makes no sense."""
        offset = self._begin
        while (event := self._event(offset)) is not None:
            if event.type in (EventType.GTID, EventType.GTID_TAGGED):
                transaction = self._transaction(event)
                if transaction.end > self.size:
                    return
                yield transaction
                offset = transaction.end
            elif event.type in (EventType.ROTATE, EventType.STOP):
                offset = event.end
            elif event.type == EventType.ANONYMOUS_GTID:
                raise BinlogError(self.path, Unreadable.NO_GTIDS, "has transactions without a GTID")
            else:
                raise self._damaged(offset, f"an event of type {event.type} outside of a transaction")

    def _transaction(self, event: Event) -> Transaction:
        try:
            gtid, length = parse_gtid(event.type, event.body)
        except MalformedEvent as error:
            raise self._damaged(event.offset, str(error)) from None
        if event.offset + length < event.end:
            raise self._damaged(event.offset, f"a transaction of {length} bytes")
        return Transaction(gtid, event.offset, event.offset + length)

    def events(self, transaction: Transaction) -> list[Event] | None:
        """The transaction's events in order; None when they are not whole or a checksum is wrong."""
        events, offset = [], transaction.offset
        while offset < transaction.end:
            event = self._checked(offset)
            if event is None or event.end > transaction.end:
                return None
            events.append(event)
            offset = event.end
        return events

    def read(self, begin: int, end: int) -> bytes:
        return bytes(self._data[begin:end])

    # --- events ----------------------------------------------------------------------------------------

    def _event(self, offset: int) -> Event | None:
        """The event at `offset`; None at the end of the file, or where the last write was torn."""
        event = self._checked(offset)
        if event is None and not self._is_torn(offset):
            raise self._damaged(offset, "no valid event")
        return event

    def _checked(self, offset: int) -> Event | None:
        """The event at `offset` if it is there, whole, and has the right checksum."""
        if offset + _HEADER.size > self.size:
            return None
        _, kind, _, size, _, _ = _HEADER.unpack_from(self._data, offset)
        end = offset + size
        if size < _HEADER.size + self._checksum_bytes or end > self.size:
            return None
        event = _closed(bytes(self._data[offset:end]))
        body_end = size - self._checksum_bytes
        if self._checksum_bytes and zlib.crc32(event[:body_end]) != int.from_bytes(event[body_end:], "little"):
            return None
        return Event(kind, offset, end, event[_HEADER.size : body_end])

    def _is_torn(self, offset: int) -> bool:
        """Whether the bad event at `offset` is the last thing in the file, or only zeros are there: a file may have got
        its new length on disk before its content."""
        if offset + _HEADER.size > self.size or offset + _HEADER.unpack_from(self._data, offset)[3] >= self.size:
            return True
        blocks = range(offset, self.size, _BLOCK_BYTES)
        return not any(bytes(self._data[at : min(at + _BLOCK_BYTES, self.size)]).strip(b"\0") for at in blocks)

    def _leading(self, offset: int, kind: EventType) -> Event:
        event = self._checked(offset)
        if event is None or event.type != kind or not event.body:
            raise self._damaged(offset, f"no valid {kind.name} event")
        return event

    def _damaged(self, offset: int, what: str) -> BinlogError:
        return BinlogError(self.path, Unreadable.DAMAGED, f"is damaged at offset {offset}: {what}")


@contextlib.contextmanager
def open_binlog(path: Path) -> Iterator[BinlogFile]:
    """Map the file. No server may be writing to it. Raises BinlogError."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            with (
                contextlib.closing(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
                if size
                else (contextlib.nullcontext(b"")) as data
            ):
                yield BinlogFile(path, data)
    except OSError as error:
        raise BinlogError(path, Unreadable.NO_FILE, f"cannot be read: {error.strerror or error}") from None


def has(gtids: GTIDSet, gtid: Interval) -> bool:
    """Whether the one transaction is in the set."""
    return gtids.has(gtid.uuid, gtid.first, gtid.tag)


def can_be_rolled_back(events: list[Event]) -> bool:
    """Whether crash recovery undoes the transaction when it is not in the binary log: it ends in an XID event, is a
    compressed one (only transactional ones are), or is one atomic DDL statement. Writes to MyISAM and the like, and
    what changes no table of InnoDB, end otherwise."""
    last = events[-1]
    if last.type == EventType.QUERY:
        try:
            return is_atomic_ddl(last.body)
        except (MalformedEvent, struct.error):
            return False
    return last.type in (EventType.XID, EventType.TRANSACTION_PAYLOAD)


def _closed(event: bytes) -> bytes:
    """The event, without the in-use mark if it is a format description: checksums are made without it."""
    if event[4] != EventType.FORMAT_DESCRIPTION or not event[_FLAGS_AT] & _IN_USE:
        return event
    return event[:_FLAGS_AT] + bytes([event[_FLAGS_AT] & ~_IN_USE]) + event[_FLAGS_AT + 1 :]
