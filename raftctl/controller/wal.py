"""Write-ahead log of one Raft node: `HardState` and entries, durable before anything that depends on them is
sent.

One file, `raft.wal`, of records. A record is one `append`: it is there entirely or not at all.

    record = magic "RWAL" | length u32 | previous crc u32 | payload crc u32 | header crc u32 | payload

The payload's CRC is seeded with the CRC of the record before it, so a record that was lost, repeated or put
back from an old copy breaks the chain. The first record is the `FileHeader`, every other one a `Batch`.

A *torn tail* is what a crash leaves of the one write that had not been synced: nothing depended on it, so it
is cut off and reported. *Corruption* is damage to what had been synced: nothing may be guessed then, since a
node that forgets a vote or an acknowledged entry breaks Raft (paper, figure 2). The two are told apart so:

- a record whose intact header promises more bytes than the file has, or an incomplete header at the end:
  torn;
- a damaged record at the end of the file with a 512-byte sector of zeros in it (allocated, never written):
  torn;
- any other damage, or damage with an intact record after it: `CorruptLogError`.

One file is enough because the log is small (decisions about a cluster, not its data): `rewrite` replaces it
atomically when a snapshot covers its head, at a cost proportional to the entries that stay.

Everything here blocks; the driver calls it from one thread of its own.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from raftctl.consensus.types import Entry, HardState, Snapshot
from raftctl.errors import CorruptLogError, RaftctlError

FORMAT_VERSION: Final = 1
FILE_NAME: Final = "raft.wal"
LOCK_NAME: Final = "lock"

_MAGIC: Final = b"RWAL"
_HEADER: Final = struct.Struct("<4sIIII")
_SECTOR_BYTES: Final = 512


class WalWriteError(RaftctlError):
    """A write or fsync failed. The process must end: after a failed fsync the kernel may have dropped the
    dirty pages and report success next time (PostgreSQL's fsyncgate, 2018), so nothing but reading the file
    again tells what is on disk."""


class LogInUseError(RaftctlError):
    """Another process has this log directory open."""


class LogIdentityError(RaftctlError):
    """The log was written by another node, for another cluster or in a newer format."""


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


class Wal:
    """The open log of one node. Use `Wal.open`; a `Wal` that raised `WalWriteError` refuses everything from
    then on."""

    def __init__(self, directory: Path, lock_fd: int, header: FileHeader) -> None:
        self._directory = directory
        self._path = directory / FILE_NAME
        self._lock_fd = lock_fd
        self._header = header
        self._fd = -1
        self._crc = 0
        self._base_index = 0  # of the snapshot
        self._last_index = 0
        self._failed = False
        self.size_bytes = 0  # of the file, which `compact` makes small again

    @classmethod
    def open(cls, directory: Path, *, cluster_id: str, node_id: str) -> tuple[Self, Recovered]:
        """Lock `directory` (created 0700 when missing), read its log or begin one, and cut off a torn tail.

        Raises LogInUseError, LogIdentityError, CorruptLogError; WalWriteError when the disk refuses a write.
        """
        _make_directory(directory)
        lock_fd = _lock(directory)
        try:
            wal = cls(directory, lock_fd, FileHeader(FORMAT_VERSION, cluster_id, node_id))
            if not wal._path.exists():
                wal._replace_file(Recovered())
                return wal, Recovered()
            return wal, wal._recover()
        except BaseException:
            os.close(lock_fd)
            raise

    @property
    def path(self) -> Path:
        return self._path

    def append(
        self, hard_state: HardState | None, entries: Sequence[Entry], *, snapshot: Snapshot | None = None
    ) -> None:
        """Make all of it durable: one write, one fdatasync. `snapshot` (the leader's) replaces the log;
        `entries` may begin at or below the end of the log and then replace everything from there on. Raises
        WalWriteError, after which the process must end."""
        base, last = (snapshot.index,) * 2 if snapshot else (self._base_index, self._last_index)
        if entries:
            assert base < entries[0].index <= last + 1, (entries[0].index, base, last)
            assert all(e.index == entries[0].index + i for i, e in enumerate(entries)), "entries have a gap"
            last = entries[-1].index
        self._require_usable()
        record, crc = _record(Batch(hard_state, snapshot, tuple(entries)), self._crc)
        try:
            _write_all(self._fd, record)
            os.fdatasync(self._fd)
        except OSError as error:
            self._failed = True
            raise _write_error(self._path, error) from error
        self._crc, self._base_index, self._last_index = crc, base, last
        self.size_bytes += len(record)

    def compact(self, snapshot: Snapshot) -> None:
        """Replace the file atomically by a smaller one: `snapshot`, taken by this node, instead of the
        entries that it covers. Reads the file again, so that the entries need not be kept in memory twice.
        Raises WalWriteError (or CorruptLogError), after which the process must end."""
        self._require_usable()
        found = self._read()
        if snapshot.index <= found.base_index:
            return  # a snapshot of the leader was quicker
        kept = found.entries[snapshot.index - found.base_index :]
        self._replace_file(Recovered(hard_state=found.hard_state, snapshot=snapshot, entries=kept))

    def _replace_file(self, content: Recovered) -> None:
        first, crc = _record(self._header, 0)
        second, crc = _record(Batch(content.hard_state, content.snapshot, content.entries), crc)
        temporary = self._path.with_suffix(".new")
        try:
            fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
            self._close_file()
            self._fd = fd
            _write_all(fd, first + second)
            os.fsync(fd)
            temporary.rename(self._path)
            _sync_directory(self._directory)
        except OSError as error:
            self._failed = True
            raise _write_error(self._path, error) from error
        self._crc = crc
        self.size_bytes = len(first) + len(second)
        self._base_index = content.base_index
        self._last_index = content.base_index + len(content.entries)

    def close(self) -> None:
        """Give up the file and the lock. Everything appended is durable already."""
        self._close_file()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _recover(self) -> Recovered:
        recovered = self._read()
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            if recovered.torn_bytes:
                os.ftruncate(self._fd, recovered.torn_at)
            # What was just read may sit in the page cache only (a killed process, a write without its fsync):
            # from here on others rely on it, so it has to be on disk.
            os.fsync(self._fd)
        except OSError as error:
            self._close_file()
            raise _write_error(self._path, error) from error
        return recovered

    def _read(self) -> Recovered:
        """Everything in the file; the log goes on from there."""
        scan = _Scan(self._path, self._path.read_bytes())
        self._check_identity(scan.header())
        recovered = _replay(scan)
        self._crc = scan.crc
        self.size_bytes = scan.offset
        self._base_index = recovered.base_index
        self._last_index = recovered.base_index + len(recovered.entries)
        return recovered

    def _check_identity(self, found: FileHeader) -> None:
        mine = self._header
        if found.version != mine.version:
            raise LogIdentityError(f"{self._path} has format {found.version}, this raftctl reads {mine.version}")
        if (found.cluster_id, found.node_id) != (mine.cluster_id, mine.node_id):
            raise LogIdentityError(
                f"{self._path} belongs to node {found.node_id!r} of cluster {found.cluster_id!r}, "
                f"not to {mine.node_id!r} of {mine.cluster_id!r}",
                hint="point each controller at its own data directory",
            )

    def _require_usable(self) -> None:
        if self._failed:
            raise WalWriteError(f"{self._path} failed before; it is not written to again")

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Scan:
    """Walks the records of a log file; stops at the end or at a torn tail, raises CorruptLogError at anything
    else."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
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
        if start == len(data):
            return None
        if start + _HEADER.size > len(data):
            # Damage cannot shorten a file, so the record was never written out to its end.
            return None
        header = data[start : start + _HEADER.size]
        magic, length, previous_crc, crc, _ = _HEADER.unpack(header)
        end = start + _HEADER.size + length
        if magic != _MAGIC or not _header_intact(header):
            self._require_torn(len(data), "a record header is damaged")
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
    def bytes_left(self) -> int:
        return len(self._data) - self.offset

    def _require_torn(self, end: int, what: str) -> None:
        """Raise CorruptLogError unless the damage in [offset, end) is a torn tail."""
        unwritten = _has_zero_sector(self._data, self.offset, end)
        if end < len(self._data) or not unwritten or self._intact_record_after(self.offset + 1):
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
        torn_bytes=scan.bytes_left,
        torn_at=scan.offset if scan.bytes_left else 0,
    )


def _record(content: FileHeader | Batch, previous_crc: int) -> tuple[bytes, int]:
    payload = msgspec.msgpack.encode(content)
    crc = _payload_crc(payload, previous_crc)
    unchecked = _HEADER.pack(_MAGIC, len(payload), previous_crc, crc, 0)[:-4]
    return unchecked + zlib.crc32(unchecked).to_bytes(4, "little") + payload, crc


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


def _lock(directory: Path) -> int:
    fd = os.open(directory / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise LogInUseError(
            f"{directory} is in use by another controller (process {holder})",
            hint="one controller per data directory: stop the other one first",
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _make_directory(directory: Path) -> None:
    """Create it and what is missing above it, durably: a log in a directory that a power cut takes back is no
    log."""
    if not directory.exists():
        _make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    """A new name is durable only when its directory is (fsync(2))."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_error(path: Path, error: OSError) -> WalWriteError:
    return WalWriteError(f"cannot write {path}: {error.strerror}", hint="check the disk and its free space")
