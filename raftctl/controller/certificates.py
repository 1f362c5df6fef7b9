"""This node's certificate and the authorities that it trusts, read again whenever their files change.

So a rotation needs no restart: `raftctl rotate certificates` writes files, and asks the API which of them are in use.
Files that do not fit together, such as a certificate whose key is not there yet, are left alone until they do.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from raftctl import tls
from raftctl.cluster.facts import CertificateFacts
from raftctl.controller.config import ApiConfig
from raftctl.errors import UsageError
from raftctl.raftnode.transport import TLSContexts

logger = logging.getLogger(__name__)

WATCH_SECONDS: Final = 0.5
DAY_SECONDS: Final = 86400.0


class Contexts(NamedTuple):
    """`api` is the API's server side, `peers` both sides between controllers."""

    api: ssl.SSLContext
    peers: TLSContexts


class Certificates:
    """Raises UsageError when the files cannot be loaded; an expired certificate can."""

    def __init__(self, member: str, files: ApiConfig) -> None:
        self._member = member
        self._files = files
        self._stamp = self._stamps()
        self.contexts = _load(files)
        self._own: tls.Certificate | None = None
        try:
            self._own = _try_out(member, self.contexts)
        except UsageError as error:
            logger.error("%s", error)

    @property
    def facts(self) -> CertificateFacts | None:
        """None when the trusted authorities do not accept the own certificate."""
        if self._own is None:
            return None
        now, trusts = time.time(), self.contexts.peers.client
        end = tls.authorities_expire(trusts)
        return CertificateFacts(
            serial=self._own.serial,
            days_left=(self._own.expires - now) / DAY_SECONDS,
            authorities=tls.authorities(trusts),
            authority_days_left=(end - now) / DAY_SECONDS if end is not None else None,
        )

    async def watch(self, changed: Callable[[Contexts], Awaitable[None]]) -> None:
        """Tell of other contexts once they are loaded. Never returns."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if (stamp := self._stamps()) == self._stamp:
                continue
            try:
                contexts = _load(self._files)
                own = _try_out(self._member, contexts)
            except UsageError as error:
                logger.warning("the new certificates are not taken yet: %s", error)
                continue
            await changed(contexts)
            self._stamp, self.contexts, self._own = stamp, contexts, own
            logger.info("uses the certificate %s now", own.serial)

    def _stamps(self) -> list[tuple[int, int]]:
        """Raises nothing: a file that is missing for a moment is a change."""
        stamps = []
        for path in (self._files.ca, self._files.cert, self._files.key):
            try:
                found = Path(path).stat()
            except OSError:
                stamps.append((0, 0))
            else:
                stamps.append((found.st_ino, found.st_mtime_ns))
        return stamps


def _load(files: ApiConfig) -> Contexts:
    return Contexts(
        api=tls.server_context(files.cert, files.key, files.ca),
        peers=TLSContexts(
            server=tls.server_context(files.cert, files.key, files.ca, mutual=True),
            client=tls.client_context(files.ca, files.cert, files.key),
        ),
    )


def _try_out(member: str, contexts: Contexts) -> tls.Certificate:
    """Raises UsageError when the certificate is not what these authorities accept."""
    return tls.try_out(contexts.peers.server, contexts.peers.client, member)
