"""The observation from recorded rows: what each row means, without a server."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import Channel, ReceiverState
from raftctl.mysql.observe import parse_observation, parse_owned

DB1 = "f8adc571-e672-11f1-b496-02fc00000001"
DB2 = "f91fdc33-e672-11f1-8c3d-02fc00000001"

NOW = Decimal("1795351693.345118")

# Recorded from MySQL 9.7.4.
NO_CHANNEL = {
    "gtid_owned": "",
    "now_s": NOW,
    "source_host": None,
    "source_port": None,
    "source_user": None,
    "source_uuid": None,
    "receiver_state": None,
    "receiver_error_code": None,
    "receiver_error": None,
    "gtid_received": None,
    "queued_s": None,
    "heard_s": None,
    "applier_state": None,
    "coordinator_error_code": None,
    "coordinator_error": None,
    "processing_s": None,
    "worker_error_code": None,
    "worker_error": None,
    "applying_s": None,
}
IDLE_WORKER = {
    "gtid_owned": "",
    "now_s": NOW,
    "source_host": "127.0.0.1",
    "source_port": 53511,
    "source_user": "raftctl_repl_db2",
    "source_uuid": DB1,
    "receiver_state": "ON",
    "receiver_error_code": 0,
    "receiver_error": "",
    "gtid_received": f"{DB1}:1-5",
    "queued_s": Decimal("1795351691.704041"),
    "heard_s": NOW - Decimal("0.5"),
    "applier_state": "ON",
    "coordinator_error_code": 0,
    "coordinator_error": "",
    "processing_s": None,
    "worker_error_code": 0,
    "worker_error": "",
    "applying_s": None,
}
STATUS = {
    "Rpl_semi_sync_replica_status": "ON",
    "Rpl_semi_sync_source_clients": "0",
    "Rpl_semi_sync_source_status": "OFF",
    "Rpl_semi_sync_source_wait_sessions": "0",
    "Threads_connected": "7",
    "Uptime": "3",
}
SETTINGS = {
    "server_uuid": DB2,
    "server_id": 2,
    "version": "9.7.4-2",
    "read_only": 1,
    "super_read_only": 1,
    "offline_mode": 0,
    "relay_log_synced": 1,
    "connections_max": 500,
    "gtid_purged": "",
    "gtid_executed": f"{DB1}:1-5",
    "source_enabled": 0,
    "required_acks": 1,
    "replica_enabled": 1,
}


def status_rows(dump_threads: tuple[str, ...] = (), **changes: str) -> list[dict[str, Any]]:
    rows = [{"name": name, "value": value} for name, value in (STATUS | changes).items()]
    return rows + [{"name": "dump thread", "value": user} for user in dump_threads]


def channel_of(*workers: dict[str, Any], executed: str = f"{DB1}:1-5") -> Channel:
    rows = [IDLE_WORKER | worker for worker in workers]
    channel = parse_observation(rows, status_rows(), SETTINGS | {"gtid_executed": executed}).channel
    assert channel is not None
    return channel


def test_a_replica() -> None:
    seen = parse_observation([IDLE_WORKER] * 4, status_rows(), SETTINGS)
    assert (seen.server_uuid, seen.server_id, seen.uptime_seconds) == (DB2, 2, 3)
    assert (seen.connections, seen.connections_max) == (7, 500)
    assert (seen.read_only, seen.super_read_only, seen.offline_mode) == (True, True, False)
    assert seen.gtid_received == seen.gtid_executed == GTIDSet.parse(f"{DB1}:1-5")
    assert (seen.semi_sync.replica_enabled, seen.semi_sync.replica_status) == (True, True)
    assert seen.channel == Channel(
        source_host="127.0.0.1",
        source_port=53511,
        source_user="raftctl_repl_db2",
        source_uuid=DB1,
        receiver=ReceiverState.ON,
        applier_running=True,
        apply_lag_seconds=0.0,
        heard_seconds=0.5,
    )


def test_a_primary_with_waiting_commits() -> None:
    rows = [NO_CHANNEL | {"gtid_owned": f"{DB1}:8#16:7#17:6#15"}]
    status = status_rows(
        ("raftctl_repl_db3", "raftctl_repl_db2"),
        Rpl_semi_sync_source_status="ON",
        Rpl_semi_sync_source_clients="2",
        Rpl_semi_sync_source_wait_sessions="1",
    )
    writable = {"read_only": 0, "super_read_only": 0, "source_enabled": 1, "required_acks": 2}
    seen = parse_observation(rows, status, SETTINGS | writable)
    assert seen.writable
    assert seen.channel is None
    assert not seen.gtid_received
    assert seen.gtid_owned == GTIDSet.parse(f"{DB1}:6-8")
    assert seen.receivers == ("raftctl_repl_db2", "raftctl_repl_db3")
    semi_sync = seen.semi_sync
    assert (semi_sync.source_status, semi_sync.required_acks) == (True, 2)
    assert (semi_sync.clients, semi_sync.wait_sessions) == (2, 1)


def test_a_server_without_the_semi_sync_plugins() -> None:
    settings = {
        name: value
        for name, value in SETTINGS.items()
        if name not in ("source_enabled", "required_acks", "replica_enabled")
    }
    semi_sync = parse_observation([NO_CHANNEL], [{"name": "Uptime", "value": "9"}], settings).semi_sync
    assert not any((semi_sync.source_enabled, semi_sync.source_status, semi_sync.replica_enabled))
    assert (semi_sync.required_acks, semi_sync.clients, semi_sync.wait_sessions) == (0, 0, 0)


def test_lag_is_the_age_of_the_oldest_transaction_under_way() -> None:
    behind = f"{DB1}:1-3"
    assert channel_of({"applying_s": NOW - 4}, {"applying_s": NOW - 9}, executed=behind).apply_lag_seconds == 9.0
    assert channel_of({"applying_s": NOW - 4, "processing_s": NOW - 2}, executed=behind).apply_lag_seconds == 4.0
    assert channel_of({"processing_s": NOW - 2}, executed=behind).apply_lag_seconds == 2.0
    assert channel_of({"queued_s": NOW - 1}, executed=behind).apply_lag_seconds == 1.0


@pytest.mark.parametrize(
    ("worker", "executed", "lag"),
    [
        ({"applying_s": NOW - 4}, f"{DB1}:1-6", 0.0),
        ({"applier_state": "OFF"}, f"{DB1}:1-6", 0.0),
        ({"applier_state": "OFF", "applying_s": NOW - 4}, f"{DB1}:1-3", None),
        ({"queued_s": None}, f"{DB1}:1-3", None),
        ({"queued_s": Decimal("0.000000")}, f"{DB1}:1-3", None),
        ({"applying_s": NOW + 5}, f"{DB1}:1-3", 0.0),
    ],
    ids=["all applied", "stopped but all applied", "stopped", "after a restart", "zero timestamp", "clocks differ"],
)
def test_lag_is_zero_when_all_is_applied_and_none_when_unknown(
    worker: dict[str, Any], executed: str, lag: float | None
) -> None:
    assert channel_of(worker, executed=executed).apply_lag_seconds == lag


def test_a_workers_error_wins_over_the_coordinators() -> None:
    coordinator = {"coordinator_error_code": 1032, "coordinator_error": "Coordinator stopped because ..."}
    failed = {"worker_error_code": 1032, "worker_error": "Can't find record in 't'"}
    channel = channel_of(coordinator, coordinator | failed)
    assert (channel.applier_error_code, channel.applier_error) == (1032, "Can't find record in 't'")
    assert channel_of(coordinator).applier_error == "Coordinator stopped because ..."


@pytest.mark.parametrize(
    ("text", "owned"),
    [
        ("", ""),
        (f"{DB1}:7#17", f"{DB1}:7"),
        (f"{DB1}:11#21:10#20:9#19,\n{DB2}:1#4", f"{DB1}:9-11,{DB2}:1"),
        (f"{DB1}:red:3#5", f"{DB1}:red:3"),
        # recorded: nothing separates the sources
        (f"{DB1}:385#53{DB2}:7#9", f"{DB1}:385,{DB2}:7"),
        (f"{DB1}:1#1:2#9{'9' + DB2[1:]}:7#9:8#10", f"{DB1}:1-2,{'9' + DB2[1:]}:7-8"),
    ],
)
def test_owned_transactions_carry_their_threads(text: str, owned: str) -> None:
    assert parse_owned(text) == GTIDSet.parse(owned)
