"""The records of the write-ahead log as bytes, and what a file of them says. No files here.

    record = magic "RWAL" | length u32 | previous crc u32 | payload crc u32 | header crc u32 | payload

The payload's CRC is seeded with the CRC of the record before it, so a record that was lost, repeated or put
back from an old copy breaks the chain. The first record is the `FileHeader`, every other one a `Batch`.

A *torn tail* is what a crash leaves of the one write that had not been synced: nothing depended on it, so it
is cut off and reported. *Corruption* is damage to what had been synced: nothing may be guessed then, since a
node that forgets a vote or an acknowledged entry breaks Raft (paper, figure 2). The two are told apart so:

- a record whose intact header promises more bytes than the file has, or an incomplete header at the end:
  torn;
- a damaged record with a 512-byte sector of zeros in it (allocated, never written) and nothing after it: torn;
- any other damage, or damage with anything after it: `CorruptLogError`.

The file is allocated ahead of its records: zeros up to its end follow the last one, and are its end as well.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from raftctl.consensus.types import Entry, HardState, Snapshot
from raftctl.errors import CorruptLogError

_MAGIC: Final = b"RWAL"
_HEADER: Final = struct.Struct("<4sIIII")
_SECTOR_BYTES: Final = 512


class FileHeader(msgspec.Struct, frozen=True, array_like=True):
    """Whose log it is."""

    version: int
    cluster_id: str
    node_id: str


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What one `append` made durable. A snapshot replaces the whole log; then the entries replace everything
    from `entries[0].index` on."""

    hard_state: HardState | None
    snapshot: Snapshot | None
    entries: tuple[Entry, ...]


class Recovered(msgspec.Struct, frozen=True):
    """What was on disk; `entries` follow `snapshot`. `torn_bytes` (at offset `torn_at`) were cut off the end:
    a write that had not been synced."""

    hard_state: HardState = HardState()
    snapshot: Snapshot | None = None
    entries: tuple[Entry, ...] = ()
    torn_bytes: int = 0
    torn_at: int = 0

    @property
    def base_index(self) -> int:
        """The index that the entries follow."""
        return self.snapshot.index if self.snapshot else 0


class ReadLog(NamedTuple):
    """A file's content. The next record is chained to `crc` and goes to `offset`."""

    header: FileHeader
    recovered: Recovered
    crc: int
    offset: int


def read_log(path: Path, data: bytes) -> ReadLog:
    """What the file at `path` with the content `data` says. Raises CorruptLogError."""
    scan = _Scan(path, data)
    header = scan.header()
    recovered = _replay(scan)
    return ReadLog(header, recovered, scan.crc, scan.offset)


def encode_record(content: FileHeader | Batch, previous_crc: int) -> tuple[bytes, int]:
    """The record, and its CRC, with which the next one is chained. The first record follows 0."""
    payload = msgspec.msgpack.encode(content)
    crc = _payload_crc(payload, previous_crc)
    unchecked = _HEADER.pack(_MAGIC, len(payload), previous_crc, crc, 0)[:-4]
    return unchecked + zlib.crc32(unchecked).to_bytes(4, "little") + payload, crc


class _Scan:
    """Walks the records of a log file; stops at the end or at a torn tail, raises CorruptLogError at anything
    else."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._data_end = len(data.rstrip(b"\0"))  # the last record may itself end in zeros, and then end after this
        self.offset = 0
        self.crc = 0

    def header(self) -> FileHeader:
        payload = self.next()
        if payload is None:  # the file was renamed into place complete, so a torn first record is damage too
            raise self.corrupt("its first record is missing or damaged")
        try:
            return msgspec.msgpack.decode(payload, type=FileHeader)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self.corrupt("its first record is not a header") from error

    def next(self) -> bytes | None:
        """The next record's payload, or None at the end of what is good (`offset` tells where that is)."""
        data, start = self._data, self.offset
        if start >= self._data_end:
            return None
        if start + _HEADER.size > len(data):
            # Damage cannot shorten a file, so the record was never written out to its end.
            return None
        header = data[start : start + _HEADER.size]
        magic, length, previous_crc, crc, _ = _HEADER.unpack(header)
        end = start + _HEADER.size + length
        if magic != _MAGIC or not _header_intact(header):
            self._require_torn(max(self._data_end, start + _HEADER.size), "a record header is damaged")
            return None
        if previous_crc != self.crc:
            raise self.corrupt("a record does not follow from the one before it")
        if end > len(data):
            return None
        payload = data[start + _HEADER.size : end]
        if _payload_crc(payload, self.crc) != crc:
            self._require_torn(end, "a record's checksum does not match")
            return None
        self.offset, self.crc = end, crc
        return payload

    @property
    def torn_bytes(self) -> int:
        """What there is of a torn write after the last good record."""
        return max(0, self._data_end - self.offset)

    def _require_torn(self, end: int, what: str) -> None:
        """Raise CorruptLogError unless the damage in [offset, end) is a torn tail."""
        unwritten = _has_zero_sector(self._data, self.offset, end)
        if end < self._data_end or not unwritten or self._intact_record_after(self.offset + 1):
            raise self.corrupt(what)

    def _intact_record_after(self, start: int) -> bool:
        data = self._data
        while (at := data.find(_MAGIC, start)) >= 0:
            header = data[at : at + _HEADER.size]
            if len(header) == _HEADER.size and _header_intact(header):
                _, length, previous_crc, crc, _ = _HEADER.unpack(header)
                payload = data[at + _HEADER.size : at + _HEADER.size + length]
                if len(payload) == length and _payload_crc(payload, previous_crc) == crc:
                    return True
            start = at + 1
        return False

    def corrupt(self, what: str) -> CorruptLogError:
        return CorruptLogError(
            f"{self._path}: {what} at byte {self.offset}",
            hint="do not delete the file and start again: this node may have voted or acknowledged entries. "
            "Check the disk, then remove this member from the cluster and add it again as a new one",
        )


def _replay(scan: _Scan) -> Recovered:
    hard_state = HardState()
    snapshot: Snapshot | None = None
    base = 0
    entries: list[Entry] = []
    decoder = msgspec.msgpack.Decoder(Batch)
    while (payload := scan.next()) is not None:
        try:
            batch = decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise scan.corrupt("a record cannot be decoded") from error
        hard_state = batch.hard_state or hard_state
        if batch.snapshot is not None:
            snapshot, base, entries = batch.snapshot, batch.snapshot.index, []
        if batch.entries:
            keep = batch.entries[0].index - base - 1
            if not 0 <= keep <= len(entries):
                raise scan.corrupt(f"entry {batch.entries[0].index} does not follow {base + len(entries)}")
            del entries[keep:]
            entries.extend(batch.entries)
    return Recovered(
        hard_state=hard_state,
        snapshot=snapshot,
        entries=tuple(entries),
        torn_bytes=scan.torn_bytes,
        torn_at=scan.offset if scan.torn_bytes else 0,
    )


def _payload_crc(payload: bytes, previous_crc: int) -> int:
    return zlib.crc32(payload, previous_crc)


def _header_intact(header: bytes) -> bool:
    return zlib.crc32(header[:-4]) == int.from_bytes(header[-4:], "little")


def _has_zero_sector(data: bytes, start: int, end: int) -> bool:
    """Whether a sector's share of data[start:end] is all zeros (the test of etcd's WAL decoder,
    `isTornEntry`)."""
    while start < end:
        stop = min(end, start - start % _SECTOR_BYTES + _SECTOR_BYTES)
        if data.count(0, start, stop) == stop - start:
            return True
        start = stop
    return False
