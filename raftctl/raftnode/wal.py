"""Write-ahead log of one Raft node: `HardState` and entries, durable before anything that depends on them is
sent.

One file, `raft.wal`, of records (wal_records says how they look and how damage is recognised). A record is
one `append`: it is there entirely or not at all. One file is enough because the log is small (decisions about
a cluster, not its data): `compact` replaces it atomically when a snapshot covers its head, at a cost
proportional to the entries that stay.

Everything here blocks; the driver calls it from one thread of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from raftctl.consensus.types import Entry, HardState, Snapshot
from raftctl.durable_file import sync_directory
from raftctl.errors import CorruptLogError, RaftctlError
from raftctl.raftnode.wal_records import Batch, FileHeader, Recovered, encode_record, read_log

FORMAT_VERSION: Final = 1
# The file grows in steps of this: an fdatasync of a file that did not grow need not wait for the file system's journal.
ALLOCATE_BYTES: Final = 256 << 10
FILE_NAME: Final = "raft.wal"
LOCK_NAME: Final = "lock"


class WalWriteError(RaftctlError):
    """A write or fsync failed. The process must end: after a failed fsync the kernel may have dropped the
    dirty pages and report success next time (PostgreSQL's fsyncgate, 2018), so nothing but reading the file
    again tells what is on disk."""


class LogInUseError(RaftctlError):
    """Another process has this log directory open."""


class LogIdentityError(RaftctlError):
    """The log was written by another node, for another cluster or in a newer format."""


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
        self._allocated_bytes = 0  # the file's size: zeros after the last record
        self.size_bytes = 0  # of the records, which `compact` makes small again

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
        record, crc = encode_record(Batch(hard_state, snapshot, tuple(entries)), self._crc)
        try:
            self._allocate(self.size_bytes + len(record))
            _write_all(self._fd, record, self.size_bytes)
            os.fdatasync(self._fd)
        except OSError as error:
            self._failed = True
            raise _write_error(self._path, error) from error
        self._crc, self._base_index, self._last_index = crc, base, last
        self.size_bytes += len(record)

    def _allocate(self, end: int) -> None:
        """Let the file reach to `end` at least. This only makes writes quicker: a disk without the space says so when
        the record itself does not fit."""
        if end > self._allocated_bytes:
            with contextlib.suppress(OSError):
                os.posix_fallocate(self._fd, self._allocated_bytes, end + ALLOCATE_BYTES - self._allocated_bytes)
                self._allocated_bytes = end + ALLOCATE_BYTES

    def compact(self, snapshot: Snapshot) -> None:
        """Replace the file atomically by a smaller one: `snapshot`, taken by this node, instead of the
        entries that it covers. Reads the file again, so that the entries need not be kept in memory twice.
        Raises WalWriteError (or CorruptLogError), after which the process must end."""
        self._require_usable()
        before = (self.size_bytes, self._crc)
        found = self._read()
        if (self.size_bytes, self._crc) != before:  # all of a log in use was synced: nothing of it may be a torn write
            self._failed = True
            raise CorruptLogError(
                f"{self._path}: it ends at byte {self.size_bytes}, but {before[0]} bytes were written",
                hint="check the disk, then remove this member from the cluster and add it again as a new one",
            )
        if snapshot.index <= found.base_index:
            return  # a snapshot of the leader was quicker
        kept = found.entries[snapshot.index - found.base_index :]
        self._replace_file(Recovered(hard_state=found.hard_state, snapshot=snapshot, entries=kept))

    def _replace_file(self, content: Recovered) -> None:
        first, crc = encode_record(self._header, 0)
        second, crc = encode_record(Batch(content.hard_state, content.snapshot, content.entries), crc)
        temporary = self._path.with_suffix(".new")
        try:
            fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            self._close_file()
            self._fd = fd
            _write_all(fd, first + second, 0)
            os.fsync(fd)
            temporary.rename(self._path)
            sync_directory(self._directory)
        except OSError as error:
            self._failed = True
            raise _write_error(self._path, error) from error
        self._crc = crc
        self.size_bytes = self._allocated_bytes = len(first) + len(second)
        self._base_index = content.base_index
        self._last_index = content.base_index + len(content.entries)

    def close(self) -> None:
        """Give up the file and the lock. Everything appended is durable already."""
        if self._fd >= 0 and not self._failed:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size_bytes)
        self._close_file()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _recover(self) -> Recovered:
        recovered = self._read()
        try:
            self._fd = os.open(self._path, os.O_WRONLY)
            os.ftruncate(self._fd, self.size_bytes)  # a torn tail, and what was allocated ahead
            self._allocated_bytes = self.size_bytes
            # What was just read may sit in the page cache only (a killed process, a write without its fsync):
            # from here on others rely on it, so it has to be on disk.
            os.fsync(self._fd)
        except OSError as error:
            self._close_file()
            raise _write_error(self._path, error) from error
        return recovered

    def _read(self) -> Recovered:
        """Everything in the file; the log goes on from there."""
        found = read_log(self._path, self._path.read_bytes())
        self._check_identity(found.header)
        recovered = found.recovered
        self._crc = found.crc
        self.size_bytes = found.offset
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


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def _make_directory(directory: Path) -> None:
    """Create it and what is missing above it, durably: a log in a directory that a power cut takes back is no
    log."""
    if not directory.exists():
        _make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def _write_error(path: Path, error: OSError) -> WalWriteError:
    return WalWriteError(f"cannot write {path}: {error.strerror}", hint="check the disk and its free space")
