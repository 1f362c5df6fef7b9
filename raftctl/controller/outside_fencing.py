"""Fencing a silent primary from outside, by the Raft leader: through its MySQL, else by the operator's program.

Best effort and more than is needed: a promotion rests on the proof that nobody can acknowledge the old primary (rule
R3), and never waits for this. What it adds is that clients which still reach the old primary are told sooner, before
its own guard or lease does it. The program (`hooks.fence`) may switch a machine off by IPMI, a hypervisor or SSH.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final

from raftctl.api_client import split_address
from raftctl.cluster.commands import Cause, Record
from raftctl.cluster.state import ClusterState, Phase
from raftctl.controller.hooks import Hooks
from raftctl.errors import MySQLError
from raftctl.mysql import fencing
from raftctl.mysql.client import Endpoint, Password, connect

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 1.0
OFFLINE_SECONDS: Final = 1.0
SESSIONS_SECONDS: Final = 1.0
READ_ONLY_SECONDS: Final = 2.0


class OutsideFence:
    """`me`: this member; `leads`: whether it leads now; `connected`: whose controllers it hears; `login`: user and
    password of raftctl's account; `record` gets a line of history for what was tried."""

    def __init__(
        self,
        *,
        me: str,
        login: tuple[str, Password],
        hooks: Hooks,
        leads: Callable[[], bool],
        connected: Callable[[], Collection[str]],
        state: Callable[[], ClusterState],
        record: Callable[[Record], None],
    ) -> None:
        self._me = me
        self._login = login
        self._hooks = hooks
        self._leads = leads
        self._connected = connected
        self._state = state
        self._record = record
        self._running: set[asyncio.Task[None]] = set()

    def state_changed(self, before: ClusterState, after: ClusterState) -> None:
        """For `ClusterLog.listen`: a failover has begun from a primary whose controller cannot fence it, it seems."""
        begins = after.phase is Phase.FAILOVER and after.epoch != before.epoch
        if not begins or not self._leads() or after.previous_primary not in after.members:
            return
        if after.previous_primary == self._me:
            return  # nobody is nearer to it than this controller, and the program would switch its own host off
        if after.failover_cause == Cause.HOST_SILENT or after.previous_primary not in self._connected():
            task = asyncio.get_running_loop().create_task(self._fence(after))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _fence(self, state: ClusterState) -> None:
        member = state.members[state.previous_primary]
        assert member.mysql is not None
        outcome, fenced = await asyncio.to_thread(self._through_mysql, member.name, member.mysql)
        detail: dict[str, str | int | float | bool] = {"mysql": outcome}
        again = self._state().primary == member.name  # the program must not switch the new primary off
        if not fenced and not again and (program := self._hooks.program("fence")):
            host = split_address(member.raft)[0]
            about = {"RAFTCTL_FENCE_MEMBER": member.name, "RAFTCTL_FENCE_ADDRESS": host}
            status, outcome = await self._hooks.run("fence", program, state, about)
            fenced, detail["hook"] = status == 0, outcome
        why = f"{'fenced' if fenced else 'not reached'}: {outcome}"
        logger.warning("%s, from outside: %s", member.name, why)
        self._record(Record(kind="fence-from-outside", member=member.name, epoch=state.epoch, why=why, detail=detail))

    def _through_mysql(self, member: str, address: str) -> tuple[str, bool]:
        """What came of it, in words, and whether that mysqld takes no writes any more. Blocking, a few seconds at
        most."""
        user, password = self._login
        host, port = split_address(address)
        there = Endpoint(user=user, password=password, host=host, port=port)
        try:
            with connect(there, connect_timeout=CONNECT_SECONDS, timeout=READ_ONLY_SECONDS) as conn:
                if self._state().primary == member:
                    return "it is the primary again", False
                fencing.set_offline(conn, timeout=OFFLINE_SECONDS)
                fencing.end_client_sessions(conn, timeout=SESSIONS_SECONDS)
                if fencing.set_super_read_only(conn, timeout=READ_ONLY_SECONDS):
                    return "its mysqld is offline and read-only", True
                return "its mysqld is offline; commits wait there that nobody acknowledges", True
        except MySQLError as error:
            return f"its mysqld: {error}", False
