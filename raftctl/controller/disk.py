"""Notices a disk that completes no writes, while mysqld goes on answering what it has in memory.

A write of our own that does not return is not enough: on a busy disk it can wait for the gigabytes of somebody's huge
transaction or backup. A disk counts as waiting only while its device completes no write of anybody, which Linux counts
for every block device (`/sys/dev/block/*/stat`, https://docs.kernel.org/block/stat.html). A file system without such a
device (ZFS, btrfs, NFS) is not judged: its word for the free space need not mean it, either.

A full disk takes no write either. mysqld then waits for space, for ever, in the middle of a commit, and goes on
answering (https://dev.mysql.com/doc/refman/8.4/en/full-disk.html): the time for which a disk is full counts, too.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

PROBE_INTERVAL_SECONDS: Final = 1.0
LOOK_SECONDS_MAX: Final = 1.0  # of a longer time without a look nothing is known: this process was away itself
FULL_BYTES: Final = 1 << 20  # with less, the next transactions do not fit
_WRITES_COMPLETED: Final = 4
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskWatch:
    """`look` never blocks; one thread calls it. `write`, `completed` and `free` are replaced in tests. `full` is the
    directory that was without space at the last probe."""

    def __init__(
        self,
        *,
        write: Callable[[Path], None] | None = None,
        completed: Callable[[int], int | None] | None = None,
        free: Callable[[Path], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write or write_through
        self._completed = completed or writes_completed
        self._free = free or bytes_free
        self._clock = clock
        self._writing: threading.Thread | None = None
        self._device: int | None = None
        self._count: int | None = None
        self._looked = self._began = clock() - PROBE_INTERVAL_SECONDS
        self._waited = 0.0
        self.full: Path | None = None

    def look(self, directories: Iterable[Path]) -> float:
        """For how many seconds one of `directories` has been on a disk that completes no write, or has no space."""
        now, since = self._clock(), self._looked
        self._looked = now
        if self._writing is None or not self._writing.is_alive():
            self._count = None
            self._waited = self._waited + min(now - since, LOOK_SECONDS_MAX) if self.full else 0.0
            if now - self._began >= PROBE_INTERVAL_SECONDS:
                self._began = now
                # a thread of its own: one in a stalled write cannot be ended, and nothing may wait for it
                self._writing = threading.Thread(target=self._probe, args=(tuple(directories),), daemon=True)
                self._writing.start()
            return self._waited
        count = None if self._device is None else self._completed(self._device)
        progress = (count is None or count != self._count) and self.full is None
        self._waited = 0.0 if progress else self._waited + min(now - since, LOOK_SECONDS_MAX)
        self._count = count
        return self._waited

    def _probe(self, directories: tuple[Path, ...]) -> None:
        full = None
        for directory in directories:
            try:
                self._device = directory.stat().st_dev
                # looked at as well: root, who this is, may write to blocks that are kept back from mysqld
                if self._completed(self._device) is not None and self._free(directory) < FULL_BYTES:
                    full = directory
                self._write(directory)
            except OSError as error:  # it answers: a failing disk is mysqld's own to notice
                full = directory if error.errno in _FULL else full
                logger.info("cannot write to %s: %s", directory, error)
        self.full = full


def write_through(directory: Path) -> None:
    """Write a block to the disk that `directory` is on. Nothing is left there. Raises OSError."""
    with tempfile.TemporaryFile(dir=directory, prefix=".raftctl-") as file:
        file.write(b"\0" * 512)
        file.flush()
        os.fdatasync(file.fileno())


def bytes_free(directory: Path) -> int:
    """What an ordinary user may still write there. Raises OSError."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def writes_completed(device: int) -> int | None:
    """How many writes a block device (`st_dev` of a file on it) has completed; None when that cannot be known."""
    try:
        stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text()
        return int(stat.split()[_WRITES_COMPLETED])
    except (OSError, ValueError, IndexError):
        return None
