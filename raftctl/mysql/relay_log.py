"""The relay log on disk: what a replica has received and not yet applied."""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection
from raftctl.mysql.errors import NotVerified

# After how many events MySQL syncs the relay log of a replica that acknowledges nothing: seldom. It is its default.
UNSYNCED_EVENTS: Final = 10_000

_INDEX_SECONDS: Final = 2.0  # for the server to put its new index in the place of the old one
_LOOK_SECONDS: Final = 0.005

# An fsync has no deadline and cannot be ended: on a disk that stalls, this thread waits and nobody else.
_syncing = ThreadPoolExecutor(1, thread_name_prefix="relay-log")


def sync_relay_logs(conn: Connection, *, timeout: float) -> None:
    """Make durable everything that was received until now; cheap when it is already.

    Only a stopped receiver, or one that syncs every event (sync_relay_log = 1), adds nothing that is left out. The
    server runs on this host. Raises NotVerified when the disk did not take it within `timeout` seconds, and MySQLError
    when the files cannot be read. Manual:
    https://dev.mysql.com/doc/refman/8.4/en/replication-options-replica.html#sysvar_sync_relay_log"""
    row = conn.query("SELECT @@GLOBAL.relay_log_index AS place, @@GLOBAL.datadir AS datadir")[0]
    done = _syncing.submit(_sync_all, Path(row["datadir"]), row["place"] or "")
    try:
        done.result(timeout)
    except TimeoutError:
        done.cancel()
        raise NotVerified(f"{conn.endpoint}: the disk did not take the relay log within {timeout:g} s") from None
    except OSError as error:
        raise MySQLError(
            f"{conn.endpoint}: the relay log cannot be synced: {error}", hint="raftctl needs to read MySQL's files"
        ) from error


def _sync_all(datadir: Path, place: str) -> None:
    index = datadir / place
    missing = {name for name in _names(index) if not _sync(datadir / name)}
    _sync(index.parent)
    # One that was applied and removed meanwhile is not in the index any more. What else is missing was perhaps never
    # applied: nobody can tell, so nothing can be promised.
    if lost := missing.intersection(_names(index)):
        raise FileNotFoundError(errno.ENOENT, f"{index} names {', '.join(sorted(lost))}, which is gone")


def _names(index: Path) -> list[str]:
    """The relay logs, none on a server that never was a replica. The server replaces its index by deleting it and then
    renaming another file: a missing one says nothing yet. Raises OSError when it stays away."""
    attempts = int(_INDEX_SECONDS / _LOOK_SECONDS)
    for _ in range(attempts):
        try:
            return index.read_text().splitlines()
        except FileNotFoundError:
            if not any(file.name.startswith(f"{index.stem}.") for file in index.parent.iterdir()):
                return []
            time.sleep(_LOOK_SECONDS)
    raise FileNotFoundError(errno.ENOENT, f"{index} is gone, and relay logs are there")


def _sync(path: Path) -> bool:
    """False when it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True
