"""The incarnation that this host belongs to (rule R10), and the log that belongs to the incarnation.

A forced change of membership begins a new incarnation, and every incarnation has a log of its own in a directory of its
own. So one small file decides, in one step, that the old log is not used again: whoever was excluded begins with
nothing, and what it voted and promised before binds nobody. The old logs are kept.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from raftctl.durable_file import write_durably
from raftctl.errors import CorruptLogError
from raftctl.raftnode import wire
from raftctl.raftnode.wal import FILE_NAME

FILE: Final = "incarnation.json"
UNDECIDED: Final = wire.UNDECIDED
BEGUN: Final = "log.json"
FIRST: Final = 1


class Kept(msgspec.Struct, frozen=True):
    """`branch` is random, and tells forced memberships of one number apart: two people, each with other survivors."""

    incarnation: int = FIRST
    branch: str = ""


class Begun(msgspec.Struct, frozen=True):
    """Whose log there is: `uid` tells hosts of one name apart (`raftctl.cluster.state.Member`)."""

    incarnation: int
    uid: str


def current(directory: Path) -> int:
    """`directory` is the controller's own. Raises CorruptLogError, OSError."""
    return read(directory).incarnation


def read(directory: Path) -> Kept:
    """As `current`, with the branch."""
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLogError(f"{path}: {error}", hint="the cluster's incarnation is in `raftctl status`") from None


def log_directory(directory: Path, incarnation: int) -> Path:
    return directory / ("raft" if incarnation == FIRST else f"raft-{incarnation}")


def adopt(directory: Path, incarnation: int, branch: str) -> None:
    """Belong to a branch of `incarnation` from the next start on, with what is in its log directory, and nothing if
    that is not there. On disk when this returns. Raises OSError."""
    before = read(directory)
    decides = (incarnation, UNDECIDED) == (before.incarnation, before.branch)
    assert incarnation > before.incarnation or decides, "incarnations only grow"
    write_durably(directory / FILE, msgspec.json.encode(Kept(incarnation, branch)))


def remember_log(directory: Path, begun: Begun) -> None:
    """There is a log from now on."""
    if _begun(directory) != begun:
        with contextlib.suppress(OSError):  # as in _begun
            write_durably(directory / BEGUN, msgspec.json.encode(begun))


def require_log(directory: Path, begun: Begun) -> None:
    """Raises CorruptLogError when this host had a log and it is gone: with an empty one it would vote a second time,
    and deny what it acknowledged."""
    log = log_directory(directory, begun.incarnation) / FILE_NAME
    if _begun(directory) == begun and not log.exists():
        raise CorruptLogError(
            f"{log} is gone: this host has voted and acknowledged decisions that it does not know any more",
            hint="put the very same one back, never an older copy, which lacks votes as well; or take the host out and "
            "in again: `raftctl member remove NAME`, `... add NAME`",
        )


def _begun(directory: Path) -> Begun | None:
    try:
        return msgspec.json.decode((directory / BEGUN).read_bytes(), type=Begun)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # it guards against a mistake of people; nothing else depends on it
