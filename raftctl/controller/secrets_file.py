"""This node's secrets, read again whenever their file changes: `raftctl rotate passwords` needs no restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from raftctl.controller.config import Secrets, dump_secrets, load_secrets
from raftctl.errors import UsageError
from raftctl.secret import fingerprint

logger = logging.getLogger(__name__)

WATCH_SECONDS: Final = 0.5


class _Stamp(NamedTuple):
    """Of a file that is only ever replaced as a whole."""

    inode: int
    modified_ns: int


class SecretsFile:
    """`secrets` are for whatever is begun from now on. `in_use` is the fingerprint of those that everything here uses,
    connections that were made before included. Both may be older than the file, which is harmless: whoever replaces it
    leaves the earlier secrets valid until every member says that it uses the new ones."""

    def __init__(self, path: str, secrets: Secrets) -> None:
        self._path = path
        self.secrets = secrets
        self.in_use = fingerprint(dump_secrets(secrets))
        self._stamp: _Stamp | None = None  # nothing yet: the file may have changed since it was read
        self._complaint = ""

    async def watch(self, changed: Callable[[Secrets, Secrets], Awaitable[None]]) -> None:
        """Tell of other secrets: those before, and the new ones, which are in use when `changed` returns. For ever."""
        while True:
            found = await asyncio.to_thread(self._look)  # a disk may stand still
            if found is not None and found != self.secrets:
                before, self.secrets = self.secrets, found
                await changed(before, found)
                self.in_use = fingerprint(dump_secrets(found))
                logger.info("uses other secrets now")
            await asyncio.sleep(WATCH_SECONDS)

    def _look(self) -> Secrets | None:
        """What is in the file if that has changed and can be used."""
        try:
            found = Path(self._path).stat()
            if (stamp := _Stamp(found.st_ino, found.st_mtime_ns)) == self._stamp:
                return None
            secrets = load_secrets(self._path)  # later than the stamp: what is replaced in between is read again
        except (OSError, UsageError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.warning("the secrets in use are kept: %s", error)
            return None
        self._stamp, self._complaint = stamp, ""
        return secrets
