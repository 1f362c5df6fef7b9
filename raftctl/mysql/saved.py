"""Copies of transactions that are about to be thrown away: of a running server, from whichever of its binary logs.

A copy is a binary log file of its own: `mysqlbinlog FILE` shows it, and what is wanted after all can be applied again.
The tail of a crashed server is saved before mysqld starts: see `raftctl.mysql.tail`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from raftctl.cluster.gtid import GTIDSet
from raftctl.mysql.binlog import MAGIC, BinlogError, BinlogFile, Unreadable, has, open_binlog
from raftctl.mysql.tail import ServerFiles

_COPY_BYTES: Final = 1 << 20


class Saved(msgspec.Struct, frozen=True):
    """The transactions `gtids` are in the file `path`."""

    path: str
    gtids: GTIDSet


def save_transactions(files: ServerFiles, gtids: GTIDSet, directory: Path) -> Saved:
    """Write these transactions to a file in `directory`, on disk when this returns. What is not in the binary logs any
    more, or not whole, is left out: see `Saved.gtids`. Raises OSError, BinlogError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    first = next(iter(gtids.intervals()))
    path = directory / f"errant-{first.uuid}-{first.first}-{gtids.count()}"
    draft = path.with_name(f".{path.name}.tmp")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    found = GTIDSet()
    with draft.open("wb") as out:
        for file in _files_with(files, gtids):
            with open_binlog(file) as binlog:
                if not out.tell():
                    out.write(MAGIC + binlog.description)
                for transaction in binlog.transactions():
                    if has(gtids, transaction.gtid) and binlog.events(transaction) is not None:
                        _copy(binlog, transaction.offset, transaction.end, out)
                        found |= GTIDSet([transaction.gtid])
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return Saved(str(path), found)


def newest(directory: Path) -> str:
    """The latest file of removed transactions, "" without any."""
    try:
        files = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(directory) if entry.name[0] != "."]
    except OSError:
        return ""
    return max(files, default=(0.0, ""))[1]


def _copy(binlog: BinlogFile, begin: int, end: int, out: BinaryIO) -> None:
    out.writelines(binlog.read(at, min(at + _COPY_BYTES, end)) for at in range(begin, end, _COPY_BYTES))


def _files_with(files: ServerFiles, gtids: GTIDSet) -> list[Path]:
    """The binary log files that may hold some of them. Each says what all earlier ones hold."""
    index = Path(files.binlog_index)
    try:
        names = [Path(files.datadir) / name for name in index.read_text().split("\n") if name]
    except (OSError, UnicodeDecodeError) as error:
        raise BinlogError(index, Unreadable.NO_FILE, f"cannot be read: {error}") from None
    found: list[Path] = []
    after: GTIDSet | None = None  # what the file and all before it hold
    for path in reversed(names):
        with open_binlog(path) as binlog:
            here = gtids - binlog.previous if after is None else (gtids & after) - binlog.previous
            after = binlog.previous
        if here:
            found.append(path)
        if not gtids & after:
            break
    return found[::-1]
