"""Has the own mysqld fenced, from the event loop: one climb of the ladder at a time, tried again until it succeeds, and
told to the cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from raftctl.cluster.commands import Record
from raftctl.controller.fencing import Fenced, Ladder, is_worth_a_line

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0


class Fencer:
    """`record` gets a line for the cluster's history; `ended` is called after each climb."""

    def __init__(
        self,
        *,
        me: str,
        ladder: Ladder,
        epoch: Callable[[], int],
        record: Callable[[Record], None],
        ended: Callable[[], None],
    ) -> None:
        self._me = me
        self._ladder = ladder
        self._epoch = epoch
        self._record = record
        self._ended = ended
        self._climbing: asyncio.Task[bool] | None = None
        self._failures = 0  # in a row

    @property
    def is_busy(self) -> bool:
        return self._climbing is not None

    def fence(self, why: str) -> asyncio.Task[bool]:
        """Start climbing the ladder unless it is being climbed already. The task tells whether mysqld is fenced; when
        it is not, the next attempt is due at its end."""
        if self._climbing is None:
            logger.warning("fencing mysqld: %s", why)
            self._climbing = asyncio.get_running_loop().create_task(self._climb(why))
        return self._climbing

    async def prepare(self) -> None:
        """Have at hand what the ladder needs."""
        await asyncio.get_running_loop().run_in_executor(self._ladder.executor, self._ladder.prepare)

    async def _climb(self, why: str) -> bool:
        try:
            fenced = await asyncio.get_running_loop().run_in_executor(self._ladder.executor, self._ladder.climb)
            logger.warning("fenced: %s", fenced)
            self._failures = 0 if fenced.fenced else self._failures + 1
            if is_worth_a_line(self._failures):
                self._record(self._line(why, fenced))
            if not fenced.fenced:
                await asyncio.sleep(RETRY_SECONDS)
            return fenced.fenced
        finally:
            self._climbing = None
            self._ended()

    def _line(self, why: str, fenced: Fenced) -> Record:
        kind = "fenced" if fenced.fenced else "fencing-failed"
        why = f"{why}; {self._failures} attempts failed" if self._failures > 1 else why
        return Record(kind=kind, member=self._me, epoch=self._epoch(), why=why, by=self._me, detail=fenced.detail())
