"""Somebody with many privileges, whose sessions raftctl does not take for its own."""

from __future__ import annotations

import dataclasses

from raftctl.cluster.gtid import GTIDSet
from raftctl.mysql.client import Endpoint, connect
from raftctl.secret import Secret
from tests.support.stage import Stage
from tests.support.waiting import wait_until

_PASSWORD = Secret("of-a-test-0")
_PRIVILEGES = (
    "BACKUP_ADMIN",
    "CONNECTION_ADMIN",
    "PERSIST_RO_VARIABLES_ADMIN",
    "RELOAD",
    "SYSTEM_VARIABLES_ADMIN",
)


def dba_of(stage: Stage, member: str) -> Endpoint:
    """A login there that offline mode does not end, that may back up, lock, and set system variables."""
    primary = stage.status().primary
    assert primary
    with connect(stage.own_endpoint(primary), timeout=30.0) as conn:
        conn.execute("CREATE USER IF NOT EXISTS dba IDENTIFIED BY %s", (_PASSWORD,))
        conn.execute(f"GRANT {', '.join(_PRIVILEGES)} ON *.* TO dba")
        made = GTIDSet.parse(conn.scalar("SELECT @@GLOBAL.gtid_executed"))
    wait_until(lambda: made <= stage.executed(member), what=f"{member} has the account")
    return dataclasses.replace(stage.own_endpoint(member), user="dba", password=_PASSWORD)
