"""A lost primary whose MySQL still answers: the leader ends its sessions, also those whose commits wait."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from raftctl.cluster.commands import Cause, Record
from raftctl.cluster.state import Phase
from raftctl.controller.hooks import Hooks
from raftctl.controller.outside_fencing import OutsideFence
from raftctl.inventory.model import join_address
from raftctl.mysql.accounts import ADMIN_USER
from raftctl.mysql.errors import ConnectionLost
from raftctl.mysql.observe import observe
from tests.support.mysql_members import DEADLINE_S, PASSWORD, MySQLMember, Writers, start_members
from tests.support.mysqld import MySQLFactory
from tests.support.planner_builders import a_change, a_state
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


def fenced_from_outside(member: MySQLMember) -> list[Record]:
    """What the history says after a failover from `member`, whose controller is silent, has begun."""
    records: list[Record] = []
    state = msgspec.structs.replace(a_change(Phase.FAILOVER), failover_cause=Cause.HOST_SILENT.value)
    address = join_address(member.server.address, member.server.port)
    lost = msgspec.structs.replace(state.members["db1"], mysql=address)
    state = msgspec.structs.replace(state, members=state.members | {"db1": lost})

    async def tell() -> None:
        fence = OutsideFence(
            me="db2",
            login=(ADMIN_USER, PASSWORD),
            hooks=Hooks(me="db2", programs={"fence": "/never"}, is_current=lambda: True, record=records.append),
            leads=lambda: True,
            connected=lambda: (),
            state=lambda: state,
            record=records.append,
        )
        fence.state_changed(a_state(), state)
        await asyncio.gather(*(t for t in asyncio.all_tasks() if t is not asyncio.current_task()))

    asyncio.run(tell())
    return records


def test_waiting_clients_get_an_error(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)
    with db1.admin() as conn:
        commit = writers.write(db1, 1)
        wait_until(lambda: observe(conn).gtid_owned.count() == 1, what="the commit waits")
        (record,) = fenced_from_outside(db1)
        assert record.why == "fenced: its mysqld is offline; commits wait there that nobody acknowledges"
        assert isinstance(commit.exception(timeout=DEADLINE_S), ConnectionLost)
        assert not observe(conn).writable
    db1.server.kill()
