"""The incarnation that this host belongs to (rule R10), and the log that belongs to the incarnation.

A forced change of membership begins a new incarnation, and every incarnation has a log of its own in a directory of its
own. So one small file decides, in one step, that the old log is not used again: whoever was excluded begins with
nothing, and what it voted and promised before binds nobody. The old logs are kept.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from raftctl.errors import CorruptLogError

FILE: Final = "incarnation.json"
FIRST: Final = 1


class _Kept(msgspec.Struct, frozen=True):
    incarnation: int


def current(directory: Path) -> int:
    """`directory` is the controller's own. Raises CorruptLogError, OSError."""
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept).incarnation
    except FileNotFoundError:
        return FIRST
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLogError(f"{path}: {error}", hint="the cluster's incarnation is in `raftctl status`") from None


def log_directory(directory: Path, incarnation: int) -> Path:
    return directory / ("raft" if incarnation == FIRST else f"raft-{incarnation}")


def adopt(directory: Path, incarnation: int) -> None:
    """Belong to `incarnation` from the next start on, with what is in its log directory, and nothing if that is not
    there. On disk when this returns. Raises OSError."""
    assert incarnation > current(directory), "incarnations only grow"
    draft = directory / f".{FILE}.tmp"
    with draft.open("wb") as file:
        file.write(msgspec.json.encode(_Kept(incarnation)))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(directory / FILE)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """A new name is on disk only when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
