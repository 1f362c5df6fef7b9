"""Has the own mysqld's data replaced by a CLONE, and watches it: what `rebuilding` judges, done. Runs on the event
loop; the statements themselves run on the worker's thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Final

import msgspec

from raftctl.cluster.commands import Record
from raftctl.cluster.state import ClusterState
from raftctl.controller.actions import Hands
from raftctl.controller.fencing import KILL_SECONDS
from raftctl.controller.observer import Look
from raftctl.controller.rebuilding import Copy, Rebuilding
from raftctl.errors import HostError, MySQLError
from raftctl.hosts.services import ServiceManager, Unit
from raftctl.mysql.binlog import BinlogError
from raftctl.mysql.errors import NotVerified
from raftctl.planner import local as plan

logger = logging.getLogger(__name__)

_MIB: Final = 20  # bits


class Rebuilder:
    """`acting` is the thread of `hands`, `killing` the fencing ladder's. `verdict` tells whether InnoDB found the data
    of a server UUID sound, in the session of a look, None when that is not known yet. `ended` gets the failure of a
    CLONE that is over, "" without one."""

    def __init__(
        self,
        *,
        me: str,
        rebuilding: Rebuilding,
        hands: Hands,
        services: ServiceManager,
        acting: Executor,
        killing: Executor,
        verdict: Callable[[str, int], bool | None],
        record: Callable[[Record], None],
        ended: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._me = me
        self._rebuilding = rebuilding
        self._hands = hands
        self._services = services
        self._acting = acting
        self._killing = killing
        self._verdict = verdict
        self._record = record
        self._ended = ended
        self._clock = clock
        self._task: asyncio.Task[None] | None = None  # kept from the garbage collector

    @property
    def running(self) -> bool:
        """Whether the CLONE statement is under way: nothing else is done to mysqld meanwhile."""
        return self._rebuilding.running

    def begin(self, action: plan.Rebuild, state: ClusterState) -> bool:
        """Whether it began: the next attempt may not be due yet. Raises OSError."""
        if self._clock() < self._rebuilding.not_before:
            return False
        self._rebuilding.begin(donor=action.donor, why=action.why, now=self._clock())
        self._task = asyncio.get_running_loop().create_task(self._rebuild(action, state.epoch))
        return True

    async def _rebuild(self, action: plan.Rebuild, epoch: int) -> None:
        """CLONE takes its time, so the keeper goes on looking meanwhile."""
        failure = ""
        try:
            self._record(Record(kind="rebuild-started", member=self._me, epoch=epoch, why=action.why, by=self._me))
            await self._save_lost(action.donor, epoch)
            await asyncio.get_running_loop().run_in_executor(self._acting, self._hands.carry_out, action)
        except (MySQLError, HostError, OSError) as error:
            failure = f"CLONE from {action.donor}: {error}"
            self._rebuilding.failed(self._clock())
            logger.warning("rebuild failed: %s", error)
            if isinstance(error, NotVerified):
                # The applier does not end. It does with mysqld, and nothing starts it again before it is rebuilt.
                await self._end_mysqld()
        finally:
            self._rebuilding.running = False
            self._ended(failure)

    async def _save_lost(self, donor: str, epoch: int) -> None:
        """What the rebuild throws away and nobody else has. A copy that cannot be made does not hold the rebuild up."""
        try:
            saved = await asyncio.get_running_loop().run_in_executor(self._acting, self._hands.save_lost, donor)
        except (MySQLError, OSError, BinlogError) as error:
            why = f"what {donor} lacks could not be copied: {error}"
            record = Record(kind="errant-not-saved", member=self._me, epoch=epoch, why=why, by=self._me)
        else:
            if saved is None:
                return
            count = saved.gtids.count()
            why = f"{count} transactions that {donor} lacks; saved in {saved.path}"
            record = Record(kind="errant-saved", member=self._me, epoch=epoch, why=why, by=self._me)
            detail = {"count": count, "gtids": str(saved.gtids), "saved": saved.path}
            record = msgspec.structs.replace(record, detail=detail)
        self._record(record)

    async def watch(self, look: Look, state: ClusterState) -> Copy:
        """Notice that a CLONE is complete, or give it up: mysqld's end is what surely ends it."""
        rebuilding, now = self._rebuilding, self._clock()
        uuid = look.observation.server_uuid if look.observation else ""
        copy = rebuilding.state(look.clone, sound=self._verdict(uuid, look.session))
        if copy is Copy.COMPLETE:
            rebuilding.completed()
            took = f" in {now - rebuilding.began:.1f} s: {rebuilding.why}" if rebuilding.donor else ""
            why = f"CLONE from {rebuilding.donor or 'the primary'}{took}"
            self._record(Record(kind="rebuilt", member=self._me, epoch=state.epoch, why=why, by=self._me))
        if why := rebuilding.is_futile(state.primary, look.clone, now):
            logger.warning("gives the CLONE from %s up: %s", rebuilding.donor, why)
            await self._end_mysqld()
        return copy

    async def _end_mysqld(self) -> None:
        kill = partial(self._services.kill, Unit.MYSQLD, timeout=KILL_SECONDS)
        try:
            await asyncio.get_running_loop().run_in_executor(self._killing, kill)
        except HostError as error:
            logger.warning("mysqld cannot be ended: %s", error)

    def note(self, look: Look) -> str:
        """How far it got, for people; "" while nothing is copied."""
        progress = look.clone
        if not self.running or progress is None or not progress.bytes_estimated:
            return ""
        percent = 100 * progress.bytes_done // progress.bytes_estimated
        return f"CLONE: {progress.stage.lower()}, {percent} % of {progress.bytes_estimated >> _MIB} MiB"
