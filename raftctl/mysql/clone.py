"""Rebuilding a server from another one with the CLONE plugin: everything it has is replaced.

The donor should have no replication channel, as befits a primary: its configuration comes along without the relay
logs, and MySQL 9.7.4 then sometimes crashes once (std::bad_alloc) when performance_schema's replication tables
are first read.

Manual: https://dev.mysql.com/doc/refman/8.4/en/clone-plugin-remote.html
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection
from raftctl.mysql.errors import ConnectionLost, NotVerified
from raftctl.mysql.replication import Source, end_replication

_RESTART_FAILED = 3707  # ER_RESTART_SERVER_FAILED: cloned, and mysqld has no parent that would restart it


class AfterClone(enum.Enum):
    """What the cloned server does next. Either way it comes up again with the donor's data."""

    RESTARTS = "restarts"  # mysqld exits with status 16, for its supervisor to start it
    MUST_BE_STARTED = "must-be-started"  # it has shut down, or is about to


@dataclass(frozen=True)
class CloneProgress:
    """`state` is "In Progress", "Completed" or "Failed"; `stage` the latest one, such as "FILE COPY" or "RECOVERY".

    Bytes are those of all stages so far; the estimate grows as stages begin. `began` tells one CLONE from another: it
    is the server's time, and stays the same over its restarts."""

    state: str
    stage: str
    bytes_done: int
    bytes_estimated: int
    error: str = ""
    began: str = ""


def clone_from(conn: Connection, donor: Source, *, timeout: float, statement_timeout: float = 5.0) -> AfterClone:
    """Replace this server's data, accounts included, by the donor's. `timeout` bounds the CLONE itself.

    Replication ends first, and stays stopped: CLONE itself sends STOP REPLICA before it drops the data, which waits
    without end for the rest of a transaction that was received in part (9.7.4). The server is offline for clients
    meanwhile; super_read_only is off only because CLONE needs that. `donor.user` has BACKUP_ADMIN there and uses TLS.
    When the connection is lost, mysqld is taken to restart: ask `clone_progress` once it is up. Raises NotVerified
    when replication does not end: the server stays offline, and mysqld is to be ended. Raises MySQLError, with the
    server as it was before but for replication, when CLONE is refused.
    """
    conn.execute("SET GLOBAL offline_mode = ON", timeout=statement_timeout)
    try:
        end_replication(conn, timeout=statement_timeout)
    except MySQLError as error:  # refused, too, while the instance is locked for a backup
        raise NotVerified(f"replication does not end: {error}") from None
    conn.execute("SET GLOBAL clone_valid_donor_list = %s", (f"{donor.host}:{donor.port}",), timeout=statement_timeout)
    conn.execute("SET GLOBAL super_read_only = OFF", timeout=statement_timeout)
    try:
        conn.execute(
            "CLONE INSTANCE FROM %s@%s:%s IDENTIFIED BY %s REQUIRE SSL",
            (donor.user, donor.host, donor.port, donor.password),
            timeout=timeout,
        )
    except ConnectionLost:
        return AfterClone.RESTARTS
    except MySQLError as error:
        if error.code == _RESTART_FAILED:
            return AfterClone.MUST_BE_STARTED
        if conn.is_open:
            conn.execute("SET GLOBAL super_read_only = ON", timeout=statement_timeout)
            conn.execute("SET GLOBAL offline_mode = OFF", timeout=statement_timeout)
        raise
    return AfterClone.RESTARTS


def clone_progress(conn: Connection) -> CloneProgress | None:
    """The CLONE under way, or the last one, as the recipient tells it in another session; None without any."""
    rows = conn.query(
        "SELECT status.STATE AS state, status.ERROR_MESSAGE AS error, CAST(status.BEGIN_TIME AS CHAR) AS began,"
        " stage.STAGE AS stage,"
        " stage.DATA AS bytes_done, stage.ESTIMATE AS bytes_estimated"
        " FROM performance_schema.clone_status AS status"
        " JOIN performance_schema.clone_progress AS stage USING (ID)"
        " WHERE stage.STATE <> 'Not Started' ORDER BY stage.BEGIN_TIME"
    )
    if not rows:
        return None
    return CloneProgress(
        state=rows[-1]["state"],
        stage=rows[-1]["stage"],
        bytes_done=int(sum(row["bytes_done"] for row in rows)),
        bytes_estimated=int(sum(row["bytes_estimated"] for row in rows)),
        error=rows[-1]["error"],
        began=rows[-1]["began"] or "",
    )


def last_clone(conn: Connection) -> str:
    """`CloneProgress.began` of the last CLONE into this server, "" without any. Raises MySQLError."""
    return str(conn.scalar("SELECT CAST(BEGIN_TIME AS CHAR) FROM performance_schema.clone_status") or "")


def is_cloning(conn: Connection) -> bool:
    """Whether a CLONE is replacing this server's data, whoever began it: it goes on when its session has gone.

    Asked of a server with the plugin. Raises MySQLError."""
    return bool(conn.scalar("SELECT COUNT(*) FROM performance_schema.clone_status WHERE STATE = 'In Progress'"))
