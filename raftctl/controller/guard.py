"""The guard: fences mysqld when its controller does not keep it any more (rule R7). A process of its own, with the
standard library and PyMySQL only, so that it is small and has nothing in common with the controller that could hang.

    raftctl controller guard --config FILE

The controller renews its word several times a second. When it falls silent, crashed, frozen or deadlocked, the guard
has the service manager restart it after a third of a lease, and at its end climbs the fencing ladder if mysqld is
writable. A controller that speaks and whose lease is over fences by itself; the guard leaves it a few seconds for that.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from raftctl.controller import admin_port, clock
from raftctl.controller.fencing import Fenced, Ladder, is_worth_a_line
from raftctl.controller.guard_password import Password
from raftctl.controller.guard_protocol import (
    DATAGRAM_BYTES_MAX,
    GuardFiles,
    Renewal,
    decode,
    encode_answers,
    note_fencing,
)
from raftctl.controller.log_lines import log_to_stderr
from raftctl.errors import HostError
from raftctl.hosts.local_services import local_services
from raftctl.hosts.reviver import Reviver
from raftctl.hosts.services import ServiceManager, Unit
from raftctl.mysql.client import Endpoint

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.1
SILENT_SECONDS_MIN: Final = 1.0  # a shorter silence is no reason to restart a controller, however short its lease
SPEAKS_SECONDS: Final = 1.0  # a controller heard this recently is at work
OWN_LADDER_SECONDS: Final = 3.0  # which the controller gets to fence by itself
AWAY_SECONDS: Final = 1.0  # between two ticks
RETRY_SECONDS: Final = 0.5
FILE_RETRY_SECONDS: Final = 5.0
PREPARE_SECONDS: Final = 1.0  # between two looks whether the ladder's connection is still there
CALL_SECONDS: Final = 2.0
USUAL_LEASE_SECONDS: Final = 4.0
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # <bits/mman-linux.h>


class Watch:
    """What the guard knows of its controller, and what is due. Times are seconds of `raftctl.controller.clock`.

    A guard that starts knows from `remembered_ttl` (0.0: nothing) that there may be a lease, and not how long it still
    lasts: a whole one at most."""

    def __init__(self, *, remembered_ttl: float, now: float) -> None:
        self.ttl = remembered_ttl
        self.pid: int | None = None
        self.writable = True
        self._until = now + remembered_ttl
        self._heard = now
        self._leaving = False
        self._next_revival = now
        self._next_fencing = now

    def heard(self, renewal: Renewal, now: float) -> None:
        """A renewal counts from when it was sent: it may have waited here while this process was frozen."""
        sent = min(renewal.sent, now)
        self.pid, self.writable, self._leaving = renewal.pid, renewal.writable, renewal.leaving
        self._heard = max(self._heard, sent)
        if renewal.ttl:
            self.ttl = renewal.ttl
        if renewal.ttl and renewal.seconds > 0:
            self._until = max(self._until, sent + min(renewal.seconds, renewal.ttl))

    def revival_is_due(self, now: float) -> bool:
        """Whether the controller has been silent for so long that it should be restarted."""
        silence = now - self._heard
        silent = silence >= max(self.ttl / 3, SILENT_SECONDS_MIN)
        return bool(self.ttl) and silent and not self._leaving and now >= self._next_revival

    def revival_tried(self, now: float) -> None:
        self._next_revival = now + max(self.ttl, SILENT_SECONDS_MIN)

    def fencing_is_due(self, now: float) -> bool:
        """Whether a writable mysqld is to be fenced now."""
        grace = OWN_LADDER_SECONDS if now - self._heard < SPEAKS_SECONDS else 0.0
        return bool(self.ttl) and now >= max(self._until + grace, self._next_fencing)

    def fencing_tried(self, now: float) -> None:
        self._next_fencing = now + RETRY_SECONDS

    def fenced(self, since: float) -> None:
        """By a climb that began at `since`: a mysqld that does not say whether it is writable is not, then. Only the
        controller opens it again, whose word since then counts more."""
        if self._heard < since:
            self.writable = False

    def was_away(self, now: float) -> None:
        """The guard itself did not run for a while, frozen with its host perhaps: whether the controller is silent
        remains to be seen. A lease goes on running out meanwhile."""
        self._next_revival = max(self._next_revival, now + SILENT_SECONDS_MIN)

    def why(self, now: float) -> str:
        return f"the lease is over, and the controller was last heard {now - self._heard:.1f} s ago"


class Guard:
    """The loop. It only listens and looks at the clock; what may block runs in other threads: the ladder's, that of the
    service manager, and one for files, whose disk may stall when mysqld has to be fenced."""

    def __init__(
        self, *, node: str, files: GuardFiles, ladder: Ladder, services: ServiceManager, password: Password
    ) -> None:
        self._node = node
        self._files = files
        self._ladder = ladder
        self._password = password
        self._reviver = Reviver(services, Unit.CONTROLLER)
        self._reviving = ThreadPoolExecutor(1, thread_name_prefix="reviver")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._watch = Watch(remembered_ttl=recall(files), now=clock.now())
        self._remembered = self._watch.ttl
        self._busy: dict[str, Future[None]] = {}
        self._failures = 0  # of the ladder, since mysqld was last fenced
        self._next_preparation = 0.0
        self._socket = _bind(files.guard_socket)

    def run(self) -> None:
        """For ever."""
        known = f"a lease lasts {self._watch.ttl:g} s" if self._watch.ttl else "there is no cluster yet"
        logger.info("guards mysqld of %s; %s", self._node, known)
        before = clock.now()
        while True:
            self._listen()
            now = clock.now()
            if now - before > AWAY_SECONDS:
                self._watch.was_away(now)
            before = now
            self._act(now)

    def _act(self, now: float) -> None:
        watch = self._watch
        if self._is_free("ladder"):
            if watch.fencing_is_due(now):
                watch.fencing_tried(now)
                self._busy["ladder"] = self._ladder.executor.submit(self._fence, now, watch.why(now), watch.writable)
            elif watch.ttl and now >= self._next_preparation:
                self._next_preparation = now + PREPARE_SECONDS
                self._busy["ladder"] = self._ladder.executor.submit(self._ladder.prepare)
        if self._is_free("reviver") and watch.revival_is_due(now):
            watch.revival_tried(now)
            self._busy["reviver"] = self._reviving.submit(self._revive, watch.pid)
        if self._is_free("files") and watch.ttl != self._remembered:
            self._busy["files"] = self._writer.submit(self._remember, watch.ttl)

    def _is_free(self, worker: str) -> bool:
        """Whether the worker's last task has ended. What it did not expect ends this process."""
        last = self._busy.get(worker)
        if last is None:
            return True
        if last.done():
            last.result()
        return last.done()

    # --- the controller --------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Take everything that has arrived, and answer."""
        with contextlib.suppress(TimeoutError):
            while True:
                datagram, sender = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
                try:
                    renewal = decode(datagram)
                except ValueError as error:
                    logger.warning("a datagram that is %s", error)
                    continue
                self._watch.heard(renewal, clock.now())
                self._answer(sender)
                if clock.now() - renewal.sent < TICK_SECONDS:
                    return  # the newest one

    def _answer(self, sender: str) -> None:
        if sender:
            with contextlib.suppress(OSError):  # it is gone, or reads nothing: its silence is what counts
                for answer in encode_answers(os.getpid(), self._password.secrets):
                    self._socket.sendto(answer, socket.MSG_DONTWAIT, sender)

    def _remember(self, ttl: float) -> None:
        draft = self._files.memory.with_suffix(".tmp")
        try:
            with draft.open("w") as file:
                json.dump({"ttl": ttl}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._files.memory)
        except OSError as error:  # a full disk: this process knows it all the same
            logger.warning("cannot write %s: %s", self._files.memory, error.strerror)
            time.sleep(FILE_RETRY_SECONDS)
        else:
            self._remembered = ttl

    def _revive(self, silent_pid: int | None) -> None:
        try:
            found = self._reviver.revive(silent_pid=silent_pid, timeout=CALL_SECONDS)
        except HostError as error:
            logger.warning("the controller is silent and cannot be restarted: %s", error)
            return
        if found:
            logger.warning("the controller was silent: it %s; started again", found)

    # --- mysqld ----------------------------------------------------------------------------------------

    def _fence(self, now: float, why: str, writable_if_silent: bool) -> None:
        if not self._ladder.is_writable(if_silent=writable_if_silent):
            return
        logger.warning("fencing mysqld: %s", why)
        fenced = self._ladder.climb()
        logger.warning("fenced: %s", fenced)
        if fenced.fenced:
            self._watch.fenced(now)
        self._failures = 0 if fenced.fenced else self._failures + 1
        if is_worth_a_line(self._failures):
            self._writer.submit(self._note, why, fenced)

    def _note(self, why: str, fenced: Fenced) -> None:
        try:
            note_fencing(self._files, by=f"guard of {self._node}", why=why, fenced=fenced)
        except OSError as error:  # a full disk: the history lacks it, mysqld is fenced
            logger.warning("cannot write below %s: %s", self._files.memory.parent, error.strerror)


def _bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(path))
    listening.settimeout(TICK_SECONDS)
    return listening


def recall(files: GuardFiles) -> float:
    """The lease's length as the last guard here knew it; 0.0 for none. A file that cannot be read says that there was
    one."""
    try:
        return float(json.loads(files.memory.read_text())["ttl"])
    except FileNotFoundError:
        return 0.0
    except (OSError, ValueError, KeyError, TypeError):
        return USUAL_LEASE_SECONDS


# --- the process ----------------------------------------------------------------------------------------


def stay_in_memory() -> None:
    """What was used once is not swapped out or dropped any more (mlockall(2)): when fencing is due, the disk that it
    would have to come back from may stall. A process that may not do that goes without."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        logger.info("may be swapped out: %s", os.strerror(ctypes.get_errno()))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the guard needs of the controller's configuration. Holds no secret: it stands in the process's argv."""

    node: str
    directory: str
    secrets_file: str
    mysql_socket: str
    mysql_user: str
    services_socket: str
    mysqld_unit: str


def main(settings: Settings) -> None:
    """Run the guard until it is killed. Raises OSError when it cannot listen."""
    os.umask(0o077)
    log_to_stderr(f"guard of {settings.node}")
    stay_in_memory()
    password = Password(Path(settings.secrets_file))
    password.watch()
    endpoint = Endpoint(
        user=settings.mysql_user,
        password=password.current,
        unix_socket=settings.mysql_socket,
        admin_port=partial(admin_port.remembered, settings.directory),
    )
    services = local_services(socket_path=settings.services_socket, mysqld_unit=settings.mysqld_unit)
    files = GuardFiles(settings.directory)
    ladder = Ladder(endpoint=endpoint, services=services)
    Guard(node=settings.node, files=files, ladder=ladder, services=services, password=password).run()


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])))
