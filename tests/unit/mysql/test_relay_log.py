"""The relay logs are found whatever the server does with their index meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from raftctl.errors import MySQLError
from raftctl.mysql.relay_log import sync_relay_logs


class Server:
    """As much of a connection as is asked for."""

    endpoint = "db1"

    def __init__(self, datadir: Path) -> None:
        self._row = {"datadir": str(datadir), "place": "relay-bin.index"}

    def query(self, _statement: str, _args: Sequence[Any] = ()) -> list[dict[str, str]]:
        return [self._row]


def sync(datadir: Path) -> None:
    sync_relay_logs(Server(datadir), timeout=10.0)  # type: ignore[arg-type]


def test_a_server_that_never_was_a_replica_has_nothing_to_sync(tmp_path: Path) -> None:
    (tmp_path / "binlog.index").write_text("./binlog.000001\n")
    sync(tmp_path)


def test_an_index_that_is_being_replaced_is_waited_for(tmp_path: Path) -> None:
    """It names a log that is not there, which is only found by reading it."""
    draft = tmp_path / "relay-bin.index_crash_safe"
    draft.write_text("./relay-bin.000001\n")
    with ThreadPoolExecutor(1) as other:
        syncing = other.submit(sync, tmp_path)
        draft.rename(tmp_path / "relay-bin.index")
        with pytest.raises(MySQLError, match=r"names \./relay-bin\.000001, which is gone"):
            syncing.result(10)


def test_an_index_that_stays_away_is_no_proof_of_anything(tmp_path: Path) -> None:
    (tmp_path / "relay-bin.000001").write_bytes(b"events")
    with pytest.raises(MySQLError, match="is gone, and relay logs are there"):
        sync(tmp_path)


def test_all_that_it_names_is_synced(tmp_path: Path) -> None:
    (tmp_path / "relay-bin.000001").write_bytes(b"events")
    (tmp_path / "relay-bin.index").write_text("./relay-bin.000001\n")
    sync(tmp_path)
