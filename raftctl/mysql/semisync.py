"""Semi-synchronous replication: how many replicas must acknowledge a commit, and who does (rules R2, R6, R8).

The source's flag belongs on the primary alone: on a replica the applier itself would wait for an acknowledgement.
Turning it off acknowledges every waiting commit, falsely unless the log holds k = 0: only `stop_waiting` does that.
Manual: https://dev.mysql.com/doc/refman/8.4/en/replication-semisync.html
"""

from __future__ import annotations

from raftctl.mysql.client import Connection
from raftctl.mysql.errors import NotVerified
from raftctl.mysql.relay_log import UNSYNCED_EVENTS, sync_relay_logs
from raftctl.mysql.replication import receiver_state, start_receiver
from raftctl.mysql.server_config import SEMI_SYNC_TIMEOUT_MS
from raftctl.mysql.waiting import require

_SOURCE_STATE = """
SELECT @@GLOBAL.rpl_semi_sync_source_enabled AS enabled,
       @@GLOBAL.rpl_semi_sync_source_wait_for_replica_count AS required_acks,
       @@GLOBAL.rpl_semi_sync_source_timeout AS timeout_ms,
       @@GLOBAL.rpl_semi_sync_source_wait_point AS wait_point,
       @@GLOBAL.rpl_semi_sync_source_wait_no_replica AS wait_no_replica
"""


def become_source(conn: Connection, required_acks: int, *, timeout: float) -> None:
    """Make every commit wait for `required_acks` (1 or more) replicas, before the server becomes writable.

    The number is set before the flag: a commit between the two would wait for the old number. With no
    acknowledgements required (k = 0) do not call this: the flag stays off. Raises NotVerified."""
    assert required_acks >= 1, required_acks
    conn.execute("SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = %s", (required_acks,), timeout=timeout)
    conn.execute("SET GLOBAL rpl_semi_sync_source_timeout = %s", (SEMI_SYNC_TIMEOUT_MS,), timeout=timeout)
    conn.execute("SET GLOBAL rpl_semi_sync_source_wait_point = AFTER_SYNC", timeout=timeout)
    conn.execute("SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON", timeout=timeout)
    if _has_fallen_back(conn):
        conn.execute("SET GLOBAL rpl_semi_sync_source_enabled = OFF", timeout=timeout)
    conn.execute("SET GLOBAL rpl_semi_sync_source_enabled = ON", timeout=timeout)
    state = conn.query(_SOURCE_STATE, timeout=timeout)[0]
    wanted = {
        "enabled": 1,
        "required_acks": required_acks,
        "timeout_ms": SEMI_SYNC_TIMEOUT_MS,
        "wait_point": "AFTER_SYNC",
        "wait_no_replica": 1,
    }
    if state != wanted:
        raise NotVerified(f"{conn.endpoint}: semi-sync is {state}, wanted {wanted}")
    require(conn, "semi-sync to be in force", lambda: _status(conn, "source_status") == "ON", timeout)


def require_acks(conn: Connection, required_acks: int, *, timeout: float) -> None:
    """Raises NotVerified unless every commit waits for exactly `required_acks` replicas; 0 means the flag is off."""
    waits = waits_for(conn, timeout=timeout)
    if waits != required_acks:
        raise NotVerified(f"{conn.endpoint}: commits wait for {waits} acknowledgements, not for {required_acks}")


def set_required_acks(conn: Connection, required_acks: int, *, timeout: float) -> None:
    """Change the number of acknowledgements, 1 or more, on a semi-sync source.

    It holds at once, also for commits that wait: raising it makes them wait for more, lowering it lets those go that
    have enough. The order of this and the log's decision is rule R6's."""
    assert required_acks >= 1, required_acks
    conn.execute("SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = %s", (required_acks,), timeout=timeout)
    state = conn.query(_SOURCE_STATE, timeout=timeout)[0]
    if state["required_acks"] != required_acks:
        raise NotVerified(f"{conn.endpoint}: waits for {state['required_acks']} acknowledgements, not {required_acks}")


def waits_for(conn: Connection, *, timeout: float) -> int:
    """How many acknowledgements a commit waits for now; 0 when the server is no semi-sync source or has fallen back."""
    state = conn.query(_SOURCE_STATE, timeout=timeout)[0]
    return int(state["required_acks"]) if state["enabled"] and not _has_fallen_back(conn) else 0


def _has_fallen_back(conn: Connection) -> bool:
    """Whether somebody's shorter timeout was over once: no commit waits then until a replica has caught up. Turning the
    flag off and on ends that at once, and lets no commit go, as none waits."""
    enabled = conn.scalar("SELECT @@GLOBAL.rpl_semi_sync_source_enabled")
    return bool(enabled) and _status(conn, "source_status") != "ON"


def stop_waiting(conn: Connection, *, timeout: float) -> None:
    """Commit without acknowledgements from now on, and let go whatever waits for one.

    Those commits are answered OK: only after the log holds k = 0, which says that the primary alone is enough and
    nobody else may take over (rule R6). Raises NotVerified."""
    conn.execute("SET GLOBAL rpl_semi_sync_source_enabled = OFF", timeout=timeout)
    require(conn, "semi-sync to be off", lambda: waits_for(conn, timeout=timeout) == 0, timeout)


def source_off_if_idle(conn: Connection, *, timeout: float) -> bool:
    """Turn the source's flag off; False, and nothing done, when a commit waits or the server is not read-only.

    While SET GLOBAL super_read_only = ON hangs it reads ON already and read_only still OFF: a commit under way would be
    acknowledged falsely then. Takes up to a second."""
    state = conn.query(
        "SELECT @@GLOBAL.rpl_semi_sync_source_enabled AS enabled, @@GLOBAL.gtid_owned AS owned,"
        " @@GLOBAL.read_only AND @@GLOBAL.super_read_only AS read_only",
        timeout=timeout,
    )[0]
    if not state["enabled"]:
        return True
    if not state["read_only"] or state["owned"] or waiting_sessions(conn):
        return False
    conn.execute("SET GLOBAL rpl_semi_sync_source_enabled = OFF", timeout=timeout)
    return True


def become_replica(conn: Connection, *, acknowledging: bool, timeout: float) -> None:
    """Acknowledge, or do not, what is received from now on.

    One that acknowledges syncs its relay log after every event (rule R2), which limits it to a fraction of what a busy
    primary writes; one that does not leaves that to the operating system, and so catches up. The flag counts when the
    receiver connects, so a running receiver that behaves otherwise is restarted. When this returns, a replica that
    shall not acknowledge does not, and one that shall has everything on disk that it ever received; it acknowledges as
    soon as it is connected to a semi-sync source."""
    synced = conn.scalar("SELECT @@GLOBAL.sync_relay_log") == 1
    was_told = bool(conn.scalar("SELECT @@GLOBAL.rpl_semi_sync_replica_enabled"))
    receives = receiver_state(conn) != "OFF"
    if not acknowledging or not synced:
        conn.execute("SET GLOBAL rpl_semi_sync_replica_enabled = OFF", timeout=timeout)
    acknowledges = _status(conn, "replica_status") == "ON"
    as_wanted = was_told == acknowledges == acknowledging and (synced or not acknowledging)
    # A receiver that was connecting when the flag changed may have read it before and acknowledge all the same, or die
    # of it a moment later (error 13117): what it says of itself now proves nothing.
    restart = receives and not as_wanted
    if restart:
        conn.execute("STOP REPLICA IO_THREAD", timeout=timeout)
        require(conn, "the receiver to stop", lambda: receiver_state(conn) == "OFF", timeout)
    if acknowledging:
        # The flag comes last: when the disk does not take it in time, nobody may find everything as it should be.
        conn.execute("SET GLOBAL sync_relay_log = 1", timeout=timeout)
        sync_relay_logs(conn, timeout=timeout)
        conn.execute("SET GLOBAL rpl_semi_sync_replica_enabled = ON", timeout=timeout)
    else:
        conn.execute("SET GLOBAL sync_relay_log = %s", (UNSYNCED_EVENTS,), timeout=timeout)
    if restart:
        start_receiver(conn, timeout=timeout)
    if not acknowledging and _status(conn, "replica_status") == "ON":
        raise NotVerified(f"{conn.endpoint}: still acknowledges")


def nudge(conn: Connection, *, timeout: float) -> None:
    """Write a transaction that changes nothing, so that replicas acknowledge what they already have.

    A replica that lost its connection between receiving a transaction and acknowledging it (or began to acknowledge
    later) holds it; so it is not sent to it again, and never acknowledged by itself: with a single client that
    waits for it, writes stop for good, although enough members have it. An acknowledgement of any later
    transaction counts for all before. Call this on the primary when commits wait, `clients` is at least the
    required number and `gtid_owned` stays the same; in a session that may wait as long as they do."""
    conn.execute("FLUSH OPTIMIZER_COSTS", timeout=timeout)  # goes into the binary log; reads a few cached constants


def waiting_sessions(conn: Connection) -> int:
    """How many sessions wait for an acknowledgement now. Those queued behind them in the commit do not count."""
    return int(_status(conn, "source_wait_sessions") or 0)


def _status(conn: Connection, name: str) -> str | None:
    """The value of the status variable Rpl_semi_sync_`name`; None when the plugin is not loaded."""
    value: str | None = conn.scalar(
        "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = %s",
        (f"Rpl_semi_sync_{name}",),
    )
    return value
