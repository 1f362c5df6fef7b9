"""Watches for damage that InnoDB itself reports: on a thread and a connection of its own, and it changes nothing.

What was said once stays true of the data until they are replaced, which gives the server another UUID: a restart of
mysqld or of the controller does not make it forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from raftctl.cluster.commands import Record
from raftctl.controller.cluster_log import ClusterLog
from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.error_log import innodb_corruption

logger = logging.getLogger(__name__)

FILE: Final = "corruption.json"
LOOK_SECONDS: Final = 5.0
FIRST_LOOK_SECONDS: Final = 0.5  # a CLONE counts as done only when its mysqld was looked at
_CALL_SECONDS: Final = 2.0


class Damage(msgspec.Struct, frozen=True):
    """What InnoDB said (`text`) about the data of the server that has this UUID."""

    server_uuid: str
    text: str


class CorruptionWatch:
    """`session` is the observer's: a new one may mean a new mysqld. `on_change` is called when something is learned."""

    def __init__(
        self,
        *,
        me: str,
        log: ClusterLog,
        endpoint: Endpoint,
        directory: Path,
        session: Callable[[], int],
        record: Callable[[Record], None],
        on_change: Callable[[], None],
    ) -> None:
        self._me = me
        self._log = log
        self._endpoint = endpoint
        self._file = directory / FILE
        self._session = session
        self._record = record
        self._on_change = on_change
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="corruption")
        self._conn: Connection | None = None
        self._damage = self._remembered()
        self._clean_session = 0

    def of(self, server_uuid: str) -> str:
        """What is known to be damaged in the data of this server, "" for nothing."""
        return self._damage.text if self._damage is not None and self._damage.server_uuid == server_uuid else ""

    def verdict(self, server_uuid: str, session: int) -> bool | None:
        """Whether mysqld came up with sound data as far as InnoDB says; None when it was not asked since."""
        if self.of(server_uuid):
            return False
        return True if self._clean_session == session else None

    async def run(self) -> None:
        while True:
            session = self._session()
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._looking, self._look)
                self._found(found, session)
            except MySQLError as error:
                logger.debug("the error log was not read: %s", error)
            await asyncio.sleep(LOOK_SECONDS if self._clean_session == self._session() else FIRST_LOOK_SECONDS)

    def _look(self) -> Damage:
        if self._conn is None or self._conn.has_hung_up():
            self._conn = connect(self._endpoint, connect_timeout=_CALL_SECONDS, timeout=_CALL_SECONDS)
        uuid = self._conn.scalar("SELECT @@server_uuid")
        return Damage(uuid, innodb_corruption(self._conn))

    def _found(self, found: Damage, session: int) -> None:
        """`session`: the observer's before the look, so that nothing is said about a mysqld that came after it."""
        if not found.text:
            if self._clean_session != session:
                self._clean_session = session
                self._on_change()
            return
        if self.of(found.server_uuid):
            return
        self._damage = found
        logger.warning("InnoDB reports damaged data: %s", found.text)
        try:
            self._file.write_bytes(msgspec.json.encode(found))
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._file, error)
        why = f"InnoDB reports damaged data: {found.text}"
        self._record(Record(kind="data-damaged", member=self._me, epoch=self._log.state.epoch, why=why, by=self._me))
        self._on_change()

    def _remembered(self) -> Damage | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Damage)
        except (OSError, msgspec.DecodeError):
            return None
