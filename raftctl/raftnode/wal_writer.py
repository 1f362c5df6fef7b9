"""The one thread that writes the log, so that an fsync never holds up the event loop (and with it,
heartbeats).

While one write syncs, later ones queue up; they are then written together: one write, one fsync (group
commit).
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, NoReturn

from raftctl.consensus.types import Entry, HardState, Snapshot
from raftctl.raftnode.wal import Wal

EXIT_BROKEN: Final = 70  # EX_SOFTWARE of sysexits.h
_JOIN_TIMEOUT: Final = 5.0


class Write(NamedTuple):
    """What one Ready wants on disk."""

    ticket: int
    hard_state: HardState | None
    entries: Sequence[Entry]
    snapshot: Snapshot | None = None


def end_process(error: BaseException) -> NoReturn:
    """End this process at once, with one line on stderr.

    For errors after which no further step can be trusted: a failed fsync, a broken invariant. `os._exit`,
    because `sys.exit` would end only this thread, and because handlers and `finally` blocks would run code
    (and send messages) on top of a state that is not on disk. Whatever restarts the process reads the truth
    from the disk.
    """
    print(f"raftctl: fatal: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(EXIT_BROKEN)


class WalWriter:
    """Writes what is submitted, in order. On the loop run `on_written(ticket)`, when that write and all
    before it are durable, and `on_compacted(snapshot)`. `on_fatal` runs on the writing thread and must not
    return."""

    def __init__(
        self,
        wal: Wal,
        *,
        on_written: Callable[[int], None],
        on_compacted: Callable[[Snapshot], None],
        on_fatal: Callable[[BaseException], NoReturn] = end_process,
    ) -> None:
        self._wal = wal
        self._on_written = on_written
        self._on_compacted = on_compacted
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Write | Snapshot | None] = queue.SimpleQueue()
        self._put_back: list[Snapshot | None] = []  # what was taken off the queue and is not a write
        self._reports: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop.add_reader(self._wake, self._hand_over_reports)
        self._thread = threading.Thread(target=self._run, name="raft-wal", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Queue a write. Never blocks."""
        self._queue.put(write)

    def compact(self, snapshot: Snapshot) -> None:
        """Queue the replacement of what `snapshot` covers. Never blocks."""
        self._queue.put(snapshot)

    @property
    def log_bytes(self) -> int:
        """Size of the log file, roughly."""
        return self._wal.size_bytes

    async def stop(self) -> None:
        """Write what is queued, end the thread, close the log. After 5 s a disk that hangs is left behind."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, _JOIN_TIMEOUT)
        self._loop.remove_reader(self._wake)
        if not self._thread.is_alive():
            os.close(self._wake)
            self._wal.close()

    def _run(self) -> None:
        try:
            while (item := self._take()) is not None:
                if isinstance(item, Write):
                    merged = merge([item, *self._waiting_writes()])
                    self._wal.append(merged.hard_state, merged.entries, snapshot=merged.snapshot)
                    self._tell(partial(self._on_written, merged.ticket))
                else:
                    self._wal.compact(item)
                    self._tell(partial(self._on_compacted, item))
        except BaseException as error:  # noqa: BLE001 (the thread's edge: without a log the node must not go on)
            self._on_fatal(error)

    def _tell(self, report: Callable[[], None]) -> None:
        """Have the loop call `report`. Every commit waits for this, and `call_soon_threadsafe` costs twice as much."""
        self._reports.append(report)
        os.eventfd_write(self._wake, 1)

    def _hand_over_reports(self) -> None:
        os.eventfd_read(self._wake)
        while self._reports:
            try:
                self._reports.popleft()()
            except BaseException:
                if self._reports:
                    os.eventfd_write(self._wake, 1)  # the others are not lost with it
                raise

    def _take(self) -> Write | Snapshot | None:
        return self._put_back.pop() if self._put_back else self._queue.get()

    def _waiting_writes(self) -> list[Write]:
        """The writes that wait at the head of the queue."""
        writes = []
        while not self._queue.empty():
            item = self._queue.get()
            if not isinstance(item, Write):
                self._put_back.append(item)
                break
            writes.append(item)
        return writes


def merge(writes: Sequence[Write]) -> Write:
    """One write with the effect of all of them, in order."""
    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    entries: list[Entry] = []
    for write in writes:
        hard_state = write.hard_state or hard_state
        if write.snapshot is not None:
            snapshot, entries = write.snapshot, []
        if write.entries:
            keep = write.entries[0].index - entries[0].index if entries else 0
            entries = entries[: max(keep, 0)] + list(write.entries)
    return Write(writes[-1].ticket, hard_state, entries, snapshot)
