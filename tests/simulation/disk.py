"""Simulated disks: what survives when a node crashes in the middle of its writes.

Two kinds, and every seed takes one. `Disk` promises as little as `Ready` asks for: any beginning of what was being
written may be there. `WalDisk` holds the bytes of the production log: what was being written is there sector by sector,
and production code reads what is left.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

from raftctl.consensus.types import Entry, HardState, Snapshot
from raftctl.raftnode.wal import FORMAT_VERSION
from raftctl.raftnode.wal_records import Batch, FileHeader, encode_record, read_log
from raftctl.raftnode.wal_writer import Write, merge
from tests.simulation.checks import require

SECTOR = 512
ALLOCATED_AHEAD = 700


class Disk:
    """What survives a crash, and the writes on their way to it."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.snapshot: Snapshot | None = None
        self.log: list[Entry] = []  # for the checks also what the snapshot stands for
        self.queue: deque[tuple[Write, tuple[Entry, ...]]] = deque()  # and the entries that its snapshot stands for
        self.busy = 0  # how many of them are being written now, in one go
        self.full = False

    def entries(self) -> list[Entry]:
        """What the log holds after the snapshot."""
        return self.log[self.snapshot.index if self.snapshot else 0 :]

    def position(self) -> tuple[int, int]:
        """Logs are compared by the term of their last entry, then by its index (paper section 5.4.1)."""
        return (self.log[-1].term, len(self.log)) if self.log else (0, 0)

    def submit(self, write: Write, history: tuple[Entry, ...] = ()) -> None:
        """Queue a write; `history` are the entries that its snapshot stands for."""
        self.queue.append((write, history))

    def write_one(self) -> int:
        """Make the next write durable at once; its ticket."""
        self.busy = 1
        return self.written()

    def written(self) -> int:
        """The writes in hand are durable; the last one's ticket."""
        done = [self.queue.popleft() for _ in range(self.busy)]
        for write, history in done:
            self._apply(write, history)
        self.busy = 0
        return done[-1][0].ticket

    def compact(self, snapshot: Snapshot) -> None:
        """Put `snapshot`, taken here, in place of what it covers, atomically."""
        self.snapshot = snapshot

    def crash(self, rng: random.Random) -> None:
        """Power is cut: some writes are there, perhaps the next in part, the rest is lost."""
        for _ in range(rng.randint(0, len(self.queue))):
            self._apply(*self.queue.popleft())
        if self.queue and rng.random() < 0.5:
            torn, history = self.queue.popleft()
            part = rng.randint(0, len(torn.entries))
            self._apply(torn._replace(entries=torn.entries[:part]), history)
        self.lose_the_rest()

    def _apply(self, write: Write, history: tuple[Entry, ...]) -> None:
        self.hard_state = write.hard_state or self.hard_state
        if write.snapshot is not None:
            self.snapshot = write.snapshot
            self.log = list(history)
        if write.entries:
            del self.log[write.entries[0].index - 1 :]
            self.log.extend(write.entries)

    def lose_the_rest(self) -> None:
        """What waits never reaches the disk."""
        self.queue.clear()
        self.busy = 0


class WalDisk(Disk):
    """The file as production writes it, in one record for all that is written in one go."""

    def __init__(self) -> None:
        super().__init__()
        self._file, self._crc = encode_record(FileHeader(FORMAT_VERSION, "simulated", "node"), 0)

    def written(self) -> int:
        record, self._crc = self._record()
        self._file += record
        return super().written()

    def compact(self, snapshot: Snapshot) -> None:
        super().compact(snapshot)
        header, crc = encode_record(FileHeader(FORMAT_VERSION, "simulated", "node"), 0)
        kept, self._crc = encode_record(Batch(self.hard_state, snapshot, tuple(self.entries())), crc)
        self._file = header + kept

    def crash(self, rng: random.Random) -> None:
        """Of what was being written each sector is there or is not."""
        left = self._file + bytes(ALLOCATED_AHEAD)
        if self.busy:
            record, _ = self._record()
            left = self._file + _torn(record, len(self._file), rng) + bytes(ALLOCATED_AHEAD)
        found = read_log(Path("simulated"), left)
        if found.offset > len(self._file):
            super().written()
        known = (self.hard_state, self.snapshot, tuple(self.entries()))
        says = (found.recovered.hard_state, found.recovered.snapshot, found.recovered.entries)
        require(says == known, f"the file says {says} after a crash, not {known}")
        self._file, self._crc = left[: found.offset], found.crc
        self.lose_the_rest()

    def _record(self) -> tuple[bytes, int]:
        merged = merge([self.queue[place][0] for place in range(self.busy)])
        return encode_record(Batch(merged.hard_state, merged.snapshot, tuple(merged.entries)), self._crc)


def _torn(record: bytes, offset: int, rng: random.Random) -> bytes:
    """`record`, which begins at `offset` of the file, with zeros for the sectors that never reached the disk."""
    chance = rng.choice([0.0, 0.5, 0.9, 1.0])
    left = bytearray(record)
    start = offset
    while start < offset + len(record):
        stop = min(offset + len(record), start - start % SECTOR + SECTOR)
        if rng.random() >= chance:
            left[start - offset : stop - offset] = bytes(stop - start)
        start = stop
    return bytes(left)
