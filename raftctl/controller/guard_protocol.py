"""What a controller and the guard of its mysqld tell each other: JSON datagrams over unix sockets in the controller's
directory, and a file of fencings for the history. Standard library only.

The controller renews: "this mysqld may stay writable for so long". The guard answers each renewal, which shows the
controller that the guard lives, and with which secrets it would log in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Final

from raftctl.controller.fencing import Fenced

DATAGRAM_BYTES_MAX: Final = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Renewal:
    """From the controller with process id `pid`, sent at `sent` by `raftctl.controller.clock`.

    `seconds`: from `sent` on, how long the controller answers for mysqld: the rest of the lease while mysqld may be
    `writable`, else a whole one. `ttl`: how long a lease lasts; 0.0 before the cluster is formed, when there is
    nothing to guard yet. `leaving`: the controller was told to stop, so it need not be restarted.
    """

    pid: int
    sent: float
    seconds: float
    ttl: float
    writable: bool
    leaving: bool = False


class GuardFiles:
    """Where the two meet. `directory` is the controller's own."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    @property
    def guard_socket(self) -> Path:
        return self._directory / "guard.sock"

    @property
    def controller_socket(self) -> Path:
        """Where the guard's answers go."""
        return self._directory / "guarded.sock"

    @property
    def memory(self) -> Path:
        """What the guard must know after a restart."""
        return self._directory / "guard.json"

    @property
    def fencings(self) -> Path:
        """Fencings that no controller has put into the history yet, one JSON object a line."""
        return self._directory / "fencings.jsonl"


def encode(renewal: Renewal) -> bytes:
    return json.dumps(dataclasses.asdict(renewal)).encode()


def decode(datagram: bytes) -> Renewal:
    """Raises ValueError."""
    try:
        return Renewal(**json.loads(datagram))
    except (TypeError, ValueError) as error:
        raise ValueError(f"not a renewal: {error}") from None


def encode_answers(pid: int, secrets: str) -> tuple[bytes, bytes]:
    """What the guard answers: its process id, and the fingerprint of its secrets. Each in a datagram of its own, since
    earlier controllers know only the first, and take a guard that sends anything else instead for a silent one."""
    return str(pid).encode(), b"secrets " + secrets.encode()


def decode_answer(datagram: bytes) -> int | str:
    """One of the two. Raises ValueError."""
    word, _, rest = datagram.decode().partition(" ")
    return rest if word == "secrets" else int(datagram)


def note_fencing(files: GuardFiles, *, by: str, why: str, fenced: Fenced) -> None:
    """Keep a fencing for the controller to report. Raises OSError."""
    kind = "fenced" if fenced.fenced else "fencing-failed"
    line = json.dumps({"kind": kind, "by": by, "why": why, "detail": fenced.detail()}) + "\n"
    descriptor = os.open(files.fencings, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a") as file:
        file.write(line)


def take_fencings(files: GuardFiles) -> list[dict[str, Any]]:
    """All fencings noted since the last call. Raises OSError, and ValueError for a file that is not ours."""
    taken = files.fencings.with_suffix(".taken")
    with contextlib.suppress(FileNotFoundError):
        files.fencings.rename(taken)
        noted = [json.loads(line) for line in taken.read_text().splitlines()]
        taken.unlink()
        return noted
    return []
