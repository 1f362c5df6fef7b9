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
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from raftctl.consensus.types import Entry, HardState
from raftctl.controller.wal import Wal

EXIT_BROKEN: Final = 70  # EX_SOFTWARE of sysexits.h
_JOIN_TIMEOUT: Final = 5.0


class Write(NamedTuple):
    """What one Ready wants on disk."""

    ticket: int
    hard_state: HardState | None
    entries: Sequence[Entry]


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
    """Writes what is submitted, in order. `on_written(ticket)` runs on the loop: that write and all before it
    are durable. `on_fatal` runs on the writing thread and must not return."""

    def __init__(
        self,
        wal: Wal,
        *,
        on_written: Callable[[int], None],
        on_fatal: Callable[[BaseException], NoReturn] = end_process,
    ) -> None:
        self._wal = wal
        self._on_written = on_written
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="raft-wal", daemon=True)
        self._thread.start()

    def submit(self, ticket: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Queue a write. Never blocks."""
        self._queue.put(Write(ticket, hard_state, entries))

    def stop(self) -> None:
        """Write what is queued, end the thread, close the log. Blocks up to 5 s: a disk that hangs is left
        behind."""
        self._queue.put(None)
        self._thread.join(_JOIN_TIMEOUT)
        if not self._thread.is_alive():
            self._wal.close()

    def _run(self) -> None:
        try:
            while writes := self._next_writes():
                hard_state, entries = merge(writes)
                self._wal.append(hard_state, entries)
                self._loop.call_soon_threadsafe(self._on_written, writes[-1].ticket)
        except BaseException as error:  # noqa: BLE001 (the thread's edge: without a log the node must not go on)
            self._on_fatal(error)

    def _next_writes(self) -> list[Write]:
        """All that waits, at least one; empty when there is no more to come."""
        writes: list[Write] = []
        item = self._queue.get()
        while item is not None:
            writes.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return writes
        if writes:
            self._queue.put(None)
        return writes


def merge(writes: Sequence[Write]) -> tuple[HardState | None, list[Entry]]:
    """One write with the effect of all of them: the newest hard state, and each suffix over those before
    it."""
    hard_state: HardState | None = None
    entries: list[Entry] = []
    for write in writes:
        hard_state = write.hard_state or hard_state
        if not write.entries:
            continue
        keep = write.entries[0].index - entries[0].index if entries else 0
        entries = entries[: max(keep, 0)] + list(write.entries)
    return hard_state, entries
