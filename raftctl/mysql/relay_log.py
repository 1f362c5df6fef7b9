"""The relay log on disk: what a replica has received and not yet applied."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection

# After how many events MySQL syncs the relay log of a replica that acknowledges nothing: seldom. It is its default.
UNSYNCED_EVENTS: Final = 10_000


def sync_relay_logs(conn: Connection) -> None:
    """Make durable everything that was received until now; cheap when it is already.

    An fsync has no deadline: on a disk that stalls this does not return, and so nothing is promised on it. Call it
    where fencing does not wait. Only a stopped receiver, or one that syncs every event (sync_relay_log = 1), adds
    nothing that is left out. The server runs on this host. Raises MySQLError when the files cannot be read. Manual:
    https://dev.mysql.com/doc/refman/8.4/en/replication-options-replica.html#sysvar_sync_relay_log"""
    row = conn.query("SELECT @@GLOBAL.relay_log_index AS place, @@GLOBAL.datadir AS datadir")[0]
    index = Path(row["datadir"], row["place"] or "")
    try:
        names = index.read_text().splitlines() if index.is_file() else []
        for path in (*(Path(row["datadir"], name) for name in names), index.parent):
            _sync(path)
    except OSError as error:
        raise MySQLError(
            f"{conn.endpoint}: the relay log cannot be synced: {error}", hint="raftctl needs to read MySQL's files"
        ) from error


def _sync(path: Path) -> None:
    """A relay log that was applied and removed meanwhile needs no sync."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
