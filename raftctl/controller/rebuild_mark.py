"""The mark that a CLONE began here and is not known to be complete: a file in the controller's directory.

The controller makes it and takes it away; the gate, which mysqld passes at every start, counts starts in it. It
outlives mysqld, controller and host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from raftctl.durable_file import sync_directory, write_durably

FILE: Final = "rebuilding"


class Mark(msgspec.Struct, frozen=True):
    """`before` tells the CLONE that the server knew of before this one was sent ("" for none), None when this one was
    not sent. `starts` are mysqld's since: the first one finishes the CLONE, and it must come to its end."""

    donor: str
    before: str | None = None
    starts: int = 0


def load(directory: Path) -> Mark | None:
    """None without a mark. One that cannot be read stands for a CLONE that has to be begun again."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Mark)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return Mark(donor="")


def save(directory: Path, mark: Mark) -> None:
    """It is on disk when this returns. Raises OSError."""
    write_durably(directory / FILE, msgspec.json.encode(mark))


def remove(directory: Path) -> None:
    """It is gone for good when this returns. Raises OSError."""
    (directory / FILE).unlink(missing_ok=True)
    sync_directory(directory)


def count_start(directory: Path) -> bool:
    """mysqld is about to start; whether there is a mark. Raises OSError."""
    mark = load(directory)
    if mark is None:
        return False
    save(directory, msgspec.structs.replace(mark, starts=mark.starts + 1))
    return True
