"""The unacknowledged tail of a server that crashed as primary (rule R9): find it, save it, cut it off.

A commit that waits for acknowledgements is in the binary log and prepared in InnoDB. When the server starts again,
crash recovery commits what the last binary log file holds and rolls back what it lacks. So the file is truncated,
before the start, in front of the first transaction that the new primary lacks. Two things make that safe:

- Only what the new primary lacks goes. A transaction that it has would come back from it under this server's own server
  id, and a replica skips those in silence.
- The server gets a new UUID. Under the old one it would give the same numbers to other transactions later, and a member
  that was away with the removed ones would pass for having the new ones.

A commit that InnoDB has finished is not undone by that: its GTID stays in mysql.gtid_executed, and is found there after
the start. The server must not run meanwhile: `held_down` proves that it does not and keeps it from starting.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.durable_file import sync_directory
from raftctl.errors import HostError
from raftctl.mysql.binlog import (
    MAGIC,
    BinlogError,
    BinlogFile,
    Transaction,
    Unreadable,
    can_be_rolled_back,
    has,
    open_binlog,
)

if TYPE_CHECKING:  # the gate needs no connection, and starts sooner without the library
    from raftctl.mysql.client import Connection

_COPY_BYTES: Final = 1 << 20

_FILES = """
SELECT @@GLOBAL.datadir AS datadir, @@GLOBAL.log_bin_index AS binlog_index,
       COALESCE(@@GLOBAL.innodb_data_home_dir, '') AS innodb_home, @@GLOBAL.innodb_data_file_path AS innodb_files,
       @@GLOBAL.admin_address AS admin_address, @@GLOBAL.admin_port AS admin_port
"""


class ServerFiles(msgspec.Struct, frozen=True):
    """Where a server keeps what is needed here; absolute paths. `system_tablespace` is locked while the server runs.
    `admin_port` is on loopback, 0 for none."""

    datadir: str
    binlog_index: str
    system_tablespace: str
    admin_port: int = 0


def server_files(conn: Connection, *, timeout: float) -> ServerFiles:
    """Ask a running server. Raises MySQLError."""
    row = conn.query(_FILES, timeout=timeout)[0]
    datadir = Path(row["datadir"])
    first = row["innodb_files"].split(":")[0]
    return ServerFiles(
        datadir=str(datadir),
        binlog_index=str(datadir / row["binlog_index"]),
        system_tablespace=str(datadir / row["innodb_home"] / first),
        admin_port=row["admin_port"] if row["admin_address"] == "127.0.0.1" else 0,
    )


def directories_of(files: ServerFiles) -> tuple[Path, ...]:
    """Where a commit is written: the data directory and that of the binary log, often the same."""
    return tuple(dict.fromkeys((Path(files.datadir), Path(files.binlog_index).parent)))


# --- planning --------------------------------------------------------------------------------------------


class Reason(enum.StrEnum):
    """Why nothing is cut."""

    NOTHING_LACKS = "nothing-lacks"  # the new primary has everything
    CLEAN_SHUTDOWN = "clean-shutdown"  # nothing is left prepared, so nothing would be rolled back
    OLDER_FILE = "older-file"  # a tail in an earlier file was committed in a start since
    INTERLEAVED = "interleaved"  # something that the new primary has comes after it
    NOT_TRANSACTIONAL = "not-transactional"  # it cannot be rolled back
    UNREADABLE = "unreadable"
    ENCRYPTED = "encrypted"
    NOT_SAVED = "not-saved"


class NoCut(msgspec.Struct, frozen=True):
    reason: Reason
    text: str


class Cut(msgspec.Struct, frozen=True):
    """Truncate `file` at `offset`: that removes exactly the transactions `gtids`, which end at `end`."""

    file: str
    offset: int
    end: int
    gtids: GTIDSet
    first: Interval


def plan_cut(files: ServerFiles, keep: GTIDSet) -> Cut | NoCut:
    """What to cut from the server's last binary log file so that all that is left is in `keep`, or why nothing."""
    try:
        with open_binlog(last_file(files)) as binlog:
            return _plan(binlog, keep)
    except BinlogError as error:
        reason = Reason.ENCRYPTED if error.reason is Unreadable.ENCRYPTED else Reason.UNREADABLE
        return NoCut(reason, str(error))


def last_file(files: ServerFiles) -> Path:
    """The file that the server wrote last: the last one of the index. Raises BinlogError."""
    index = Path(files.binlog_index)
    try:
        names = index.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BinlogError(index, Unreadable.NO_FILE, f"cannot be read: {error}") from None
    written = [name for name in names if name]
    if not written:
        raise BinlogError(index, Unreadable.NO_FILE, "names no file")
    return Path(files.datadir) / written[-1]


def _plan(binlog: BinlogFile, keep: GTIDSet) -> Cut | NoCut:
    older = binlog.previous - keep
    if older:
        return NoCut(Reason.OLDER_FILE, f"{older} are in earlier files than {binlog.path}")
    tail: list[Transaction] = []
    for transaction in binlog.transactions():
        if not has(keep, transaction.gtid):
            tail.append(transaction)
        elif tail:
            return NoCut(Reason.INTERLEAVED, f"{_text(transaction.gtid)} comes after {_text(tail[0].gtid)}")
    if not tail:
        return NoCut(Reason.NOTHING_LACKS, "the new primary has everything")
    if not binlog.in_use:
        return NoCut(Reason.CLEAN_SHUTDOWN, f"{binlog.path} was closed by its server")
    return _check_contents(binlog, tail)


def _check_contents(binlog: BinlogFile, tail: list[Transaction]) -> Cut | NoCut:
    for transaction in tail:
        events = binlog.events(transaction)
        if events is None:
            return NoCut(Reason.UNREADABLE, f"{binlog.path} is damaged in {_text(transaction.gtid)}")
        if not can_be_rolled_back(events):
            return NoCut(Reason.NOT_TRANSACTIONAL, f"{_text(transaction.gtid)} cannot be rolled back")
    return Cut(
        file=str(binlog.path),
        offset=tail[0].offset,
        end=tail[-1].end,
        gtids=GTIDSet(transaction.gtid for transaction in tail),
        first=tail[0].gtid,
    )


def _text(gtid: Interval) -> str:
    return str(GTIDSet([gtid]))


# --- saving and cutting ----------------------------------------------------------------------------------


def save(cut: Cut, directory: Path) -> Path:
    """Write the tail to a file of its own that mysqlbinlog reads, on disk when this returns; saving again changes
    nothing. Its name is unique: no GTID is given twice. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    first = _text(cut.first).replace(":", "-")
    path = directory / f"{Path(cut.file).name}-at-{cut.offset}-{first}"
    draft = path.with_name(f".{path.name}.tmp")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    with open_binlog(Path(cut.file)) as binlog, draft.open("wb") as file:
        file.write(MAGIC + binlog.description)
        begins = range(cut.offset, cut.end, _COPY_BYTES)
        file.writelines(binlog.read(begin, min(begin + _COPY_BYTES, cut.end)) for begin in begins)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(directory)
    return path


def apply(cut: Cut, files: ServerFiles) -> None:
    """Cut. The tail must have been saved. A crash at any point leaves the tail whole or gone, and a server that starts
    without it has a new UUID. Raises OSError."""
    renew_uuid(files)
    with Path(cut.file).open("r+b") as file:
        file.truncate(cut.offset)
        os.fsync(file.fileno())


def renew_uuid(files: ServerFiles) -> None:
    """Have the server choose a new UUID at its next start. Raises OSError."""
    datadir = Path(files.datadir)
    (datadir / "auto.cnf").unlink(missing_ok=True)
    sync_directory(datadir)


@contextlib.contextmanager
def held_down(files: ServerFiles) -> Iterator[None]:
    """Hold InnoDB's own lock, so that no server runs on these files and none starts. Without a system tablespace there
    are no data to run on. Raises HostError when a server runs."""
    path = Path(files.system_tablespace)
    with path.open("r+b") if path.exists() else contextlib.nullcontext() as tablespace:
        if tablespace is not None:
            try:
                fcntl.lockf(tablespace, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HostError(f"a server runs on {files.datadir}") from None
        yield
