"""The controller's side of the guard: renews its word to it, sees that it lives, and puts its fencings into the
history."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from raftctl.controller.guard_protocol import (
    DATAGRAM_BYTES_MAX,
    GuardFiles,
    Renewal,
    decode_answer,
    encode,
    take_fencings,
)
from raftctl.errors import HostError
from raftctl.hosts.reviver import Reviver
from raftctl.hosts.services import ServiceManager, Unit

logger = logging.getLogger(__name__)

RENEW_SECONDS: Final = 0.2
SILENCE_SECONDS: Final = 3.0  # then a guard that answered before counts as hung
AWAY_SECONDS: Final = 1.0  # between two renewals
CALL_SECONDS: Final = 2.0


class GuardLink:
    """`renewal` says what is to be renewed now; `record` gets lines for the history: `kind`, `why` and `detail`.
    `secrets` is the fingerprint of those that the guard says it would log in with, "" as long as it does not say."""

    def __init__(
        self,
        *,
        files: GuardFiles,
        services: ServiceManager,
        renewal: Callable[[], Renewal],
        record: Callable[[str, str, dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._reviver = Reviver(services, Unit.GUARD)
        self._renewal = renewal
        self._record = record
        self._clock = clock
        self._heard = clock()
        self._pid: int | None = None
        self.secrets = ""
        self._lost = False
        self._reviving: asyncio.Task[None] | None = None
        self._socket = _bind(files)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._answered)
        before = self._clock()
        try:
            while True:
                now = self._clock()
                if now - before > AWAY_SECONDS:
                    self._heard = now  # it was this process that did not run
                before = now
                self.renew()
                self._take_fencings()
                if self._clock() - self._heard >= SILENCE_SECONDS and self._reviving is None:
                    self._reviving = loop.create_task(self._revive())
                await asyncio.sleep(RENEW_SECONDS)
        finally:
            loop.remove_reader(self._socket.fileno())

    def renew(self) -> None:
        """Send the guard a renewal now."""
        with contextlib.suppress(OSError):  # it is down, or reads nothing: its missing answers are what counts
            self._socket.sendto(encode(self._renewal()), str(self._files.guard_socket))

    def _answered(self) -> None:
        with contextlib.suppress(BlockingIOError, ValueError):
            answer = decode_answer(self._socket.recv(DATAGRAM_BYTES_MAX))
            if isinstance(answer, str):
                self.secrets = answer
            else:
                self._is_alive(answer)

    def _is_alive(self, pid: int) -> None:
        before, self._pid = self._pid, pid
        self._heard = self._clock()
        if before != pid:
            self.secrets = ""  # that was another process's word
        if before not in (None, pid):
            self._record("guard-restarted", f"process {before} is gone; {pid} guards mysqld", {})
        elif self._lost:
            self._record("guard-back", f"process {pid} guards mysqld", {})
        self._lost = False

    async def _revive(self) -> None:
        self.secrets = ""
        try:
            found = await asyncio.to_thread(self._reviver.revive, silent_pid=self._pid, timeout=CALL_SECONDS)
            logger.warning("the guard was silent: it %s", found or "is being restarted")
        except HostError as error:
            if not self._lost:
                logger.warning("there is no guard: %s", error)
                self._record("guard-down", f"nobody fences mysqld if this controller hangs: {error}", {})
            self._lost = True
        finally:
            self._heard = self._clock()  # gives it the time to start
            self._reviving = None

    def _take_fencings(self) -> None:
        try:
            for noted in take_fencings(self._files):
                self._record(str(noted["kind"]), f"{noted['why']} (by the {noted['by']})", dict(noted["detail"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("cannot read %s: %s", self._files.fencings, error)


def _bind(files: GuardFiles) -> socket.socket:
    files.controller_socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.controller_socket.unlink(missing_ok=True)
    answers = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    answers.setblocking(False)
    answers.bind(str(files.controller_socket))
    return answers
