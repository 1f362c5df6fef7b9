"""What the gate of mysqld and the controller on its host say to each other: one JSON object a line, over a unix socket
in the controller's directory. The gate asks, the controller answers.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from raftctl.cluster.gtid import GTIDSet
from raftctl.controller.admin_port import FILES
from raftctl.mysql.tail import ServerFiles
from raftctl.planner.gate import Start, Wait

SOCKET = "gate.sock"
OPEN = "gate-open"  # a person made this file: the next start is not held up
NEW_UUID = "new-server-uuid"  # mysqld's next start needs a new server UUID, and nothing else
TAILS = "tails"  # where removed transactions are saved
LINE_BYTES_MAX = 16 << 20  # GTID sets of very old clusters are long


class MayStart(msgspec.Struct, frozen=True, tag="may-start"):
    """Answered with Start, Wait or Compared."""


class MayCut(msgspec.Struct, frozen=True, tag="may-cut"):
    """Is this epoch's primary still the primary? Answered with Start or Wait."""

    epoch: int


class Tell(msgspec.Struct, frozen=True, tag="tell"):
    """Something for the cluster's history. Answered with Start, which means nothing here."""

    kind: str
    why: str
    detail: dict[str, str | int | float | bool] = {}


class Compared(msgspec.Struct, frozen=True, tag="compared"):
    """`held` is what the primary of `epoch` has."""

    primary: str
    epoch: int
    held: GTIDSet


def remember(directory: Path, files: ServerFiles) -> None:
    """Keep for the gate where the running mysqld has its files: it needs them when mysqld is down. Raises OSError."""
    draft = directory / f".{FILES}.tmp"
    draft.write_bytes(msgspec.json.encode(files))
    draft.replace(directory / FILES)


Question = MayStart | MayCut | Tell
Answer = Start | Wait | Compared
