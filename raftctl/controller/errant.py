"""Finds transactions that a replica executed and its primary does not have: somebody wrote to the replica itself.

The replica's own set is read first, then the primary's: whatever came from the primary is in the latter, so there is no
race. This runs beside the keeper's loop, on a thread and a connection of its own, and changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from raftctl.cluster.commands import Record
from raftctl.cluster.facts import MemberReport, MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import Phase
from raftctl.controller.cluster_log import ClusterLog
from raftctl.errors import MySQLError

logger = logging.getLogger(__name__)

FIRST_SECONDS: Final = 2.0  # after the start, when what the process before knew is lost
COMPARE_SECONDS: Final = 30.0
_MEND: Final = (
    "it is not promoted. Rebuild it, or, when the transactions are harmless, commit empty ones with the same GTIDs"
    " on the primary (SET gtid_next)"
)


class ErrantWatch:
    """`known` are the errant transactions found here. `held_by` reads what a member has, from any thread."""

    def __init__(
        self,
        *,
        me: str,
        log: ClusterLog,
        report: Callable[[], MemberReport],
        held_by: Callable[[str], GTIDSet],
        record: Callable[[Record], None],
        on_change: Callable[[], None],
    ) -> None:
        self._me = me
        self._log = log
        self._report = report
        self._held_by = held_by
        self._record = record
        self._on_change = on_change
        self._comparing = ThreadPoolExecutor(1, thread_name_prefix="compare")
        self.known = GTIDSet()

    async def run(self) -> None:
        pause = FIRST_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                await self._compare()
            except MySQLError as error:
                logger.info("not compared with the primary: %s", error)
            pause = COMPARE_SECONDS

    async def _compare(self) -> None:
        state, mysql = self._log.state, self._report().mysql
        follows = mysql is not None and mysql.state is MySQLState.REPLICA and mysql.observation is not None
        if state.phase is not Phase.STEADY or not follows:
            return
        assert mysql is not None
        assert mysql.observation is not None
        before = mysql.observation.gtid_executed
        there = await asyncio.get_running_loop().run_in_executor(self._comparing, self._held_by, state.primary)
        if self._log.state.version == state.version:
            self._found(before - there, state.primary, state.epoch)

    def _found(self, errant: GTIDSet, primary: str, epoch: int) -> None:
        if errant == self.known:
            return
        self.known = errant
        kind = "errant-transactions" if errant else "errant-transactions-gone"
        why = f"{errant.count()} transactions that {primary} lacks: {errant}; {_MEND}" if errant else ""
        self._record(Record(kind=kind, member=self._me, epoch=epoch, why=why, by=self._me))
        self._on_change()
