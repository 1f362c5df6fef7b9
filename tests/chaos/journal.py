"""What happened, as each source noticed it: append-only files with one JSON object a line.

All times are seconds of this machine's monotonic clock. Everything runs on one machine, so they can be compared.
"""

from __future__ import annotations

import enum
import threading
import time
from pathlib import Path

import msgspec


class Outcome(enum.StrEnum):
    OK = "ok"  # acknowledged
    FAILED = "failed"  # certainly not done: refused before it could commit
    UNKNOWN = "unknown"  # an error while it was being committed: it may be done


class Work(enum.StrEnum):
    APPEND = "append"  # a row with a number of its own
    TRANSFER = "transfer"  # from one account to another, and a line in a ledger
    CHANGE = "change"  # a register's value read, and replaced by a number of its own
    TOTAL = "total"  # all accounts added up


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of a client. `number` is unique in the run; `saw` is what was read (CHANGE: the register `key`'s
    value before, TOTAL: the sum)."""

    client: str
    work: Work
    member: str
    began: float
    ended: float
    outcome: Outcome
    number: int = 0
    key: int = 0
    saw: int = 0
    error: str = ""


class Happened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One deed of the nemesis or of the harness."""

    at: float
    what: str
    whom: str = ""
    detail: str = ""


class Journal:
    """One append-only file. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self._encoder = msgspec.json.Encoder()

    def write(self, entry: Operation | Happened) -> None:
        with self._lock:
            self._file.write(self._encoder.encode(entry) + b"\n")

    def note(self, what: str, whom: str = "", detail: str = "") -> None:
        self.write(Happened(at=time.monotonic(), what=what, whom=whom, detail=detail))


def read_operations(directory: Path) -> list[Operation]:
    """Everything the clients wrote, in the order in which it ended."""
    decoder = msgspec.json.Decoder(Operation)
    found: list[Operation] = []
    for path in sorted(directory.glob("client-*.jsonl")):
        found += decoder.decode_lines(path.read_bytes())
    return sorted(found, key=lambda op: op.ended)


def read_deeds(path: Path) -> list[Happened]:
    return msgspec.json.Decoder(Happened).decode_lines(path.read_bytes())
