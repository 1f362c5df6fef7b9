"""`raftctl controller gate`: what systemd (ExecStartPre) or a sandbox's supervisor runs before every start of mysqld.

It ends with status 0 when mysqld may start. After a clean shutdown that is at once; after a crash it asks the
controller on this host, and cuts the unacknowledged tail off when the controller names another primary (rule R9). It
holds mysqld back for a bounded time only: an ungated mysqld is read-only and replicates from nobody, so the worst that
follows is a CLONE.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from raftctl.cluster.codec import from_json, to_json
from raftctl.controller import config
from raftctl.controller import gate_protocol as protocol
from raftctl.controller.gate_protocol import Answer, Compared, MayCut, MayStart, Question, Tell
from raftctl.errors import HostError
from raftctl.mysql import tail
from raftctl.mysql.binlog import BinlogError, open_binlog
from raftctl.planner.gate import Start, Wait

POLL_SECONDS: Final = 0.05
ANSWER_SECONDS: Final = 10.0  # a confirmation by a majority and a look at the primary


class Gate:
    """One start of mysqld. `directory` is the controller's own, `seconds` the longest time to hold mysqld back."""

    def __init__(self, directory: Path, *, seconds: float) -> None:
        self._directory = directory
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._said = ""

    def pass_through(self) -> None:
        """Returns when mysqld may start. Raises HostError when a mysqld runs on these files already, and OSError."""
        files = self._files()
        if files is None:
            return self._say("starts: no controller has seen it with data yet")
        with tail.held_down(files):
            if (self._directory / protocol.NEW_UUID).exists():
                tail.renew_uuid(files)
                (self._directory / protocol.NEW_UUID).unlink()
                return self._say("starts with a new server UUID: its data was replaced")
            if not _crashed(files):
                return self._say("starts: nothing is left of a crash")
            return self._ask(files)

    def _files(self) -> tail.ServerFiles | None:
        """None when there are no data yet, or nobody knows where."""
        try:
            files = msgspec.json.decode((self._directory / protocol.FILES).read_bytes(), type=tail.ServerFiles)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return files if Path(files.system_tablespace).exists() else None

    def _ask(self, files: tail.ServerFiles) -> None:
        while not self._released():
            try:
                with _connection(self._directory / protocol.SOCKET) as talk:
                    if self._converse(talk, files):
                        return
            except (OSError, EOFError, msgspec.DecodeError) as error:
                self._say(f"waits: the controller does not answer: {error}")
                time.sleep(POLL_SECONDS)

    def _released(self) -> bool:
        """Whether nothing holds mysqld back any more, decided or not."""
        override = self._directory / protocol.OPEN
        if override.exists():
            override.unlink()
            self._say(f"starts: {override} is there")
            return True
        if time.monotonic() >= self._deadline:
            self._say(f"starts: not decided within {self._seconds:g} s")
            return True
        return False

    def _converse(self, talk: _Talk, files: tail.ServerFiles) -> bool:
        """True when mysqld may start, False when the time is over."""
        while not self._released():
            match talk.ask(MayStart()):
                case Start(why):
                    self._say(f"starts: {why}")
                    return True
                case Wait(why):
                    self._say(f"waits: {why}")
                case Compared() as compared:
                    if self._compare(talk, files, compared):
                        return True
            time.sleep(POLL_SECONDS)
        return False

    def _compare(self, talk: _Talk, files: tail.ServerFiles, compared: Compared) -> bool:
        """Cut what the primary lacks. False when it is to be asked again."""
        plan = tail.plan_cut(files, compared.held)
        if isinstance(plan, tail.Cut):
            try:
                saved = tail.save(plan, self._directory / protocol.TAILS)
            except OSError as error:
                plan = tail.NoCut(tail.Reason.NOT_SAVED, f"the tail cannot be saved: {error}")
        if isinstance(plan, tail.NoCut):
            self._say(f"starts: nothing is cut: {plan.text}")
            if plan.reason is not tail.Reason.NOTHING_LACKS:
                talk.ask(Tell("tail-not-cut", plan.text, {"reason": plan.reason.value}))
            return True
        if not isinstance(talk.ask(MayCut(compared.epoch)), Start):
            return False
        tail.apply(plan, files)
        count = plan.gtids.count()
        self._say(f"starts: {count} transactions were cut off: {plan.gtids}; saved in {saved}")
        why = f"{count} transactions that nobody acknowledged and {compared.primary} lacks"
        talk.ask(Tell("tail-cut", why, {"count": count, "gtids": str(plan.gtids), "saved": str(saved)}))
        return True

    def _say(self, text: str) -> None:
        if text != self._said:
            print(f"gate: mysqld {text}", file=sys.stderr, flush=True)  # noqa: T201 (the service's log)
            self._said = text


class _Talk:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers = connection.makefile("rb")

    def ask(self, question: Question) -> Answer:
        """Raises OSError, EOFError."""
        self._connection.sendall(to_json(question) + b"\n")
        line = self._answers.readline(protocol.LINE_BYTES_MAX)
        if not line.endswith(b"\n"):
            raise EOFError("it hung up")
        answer: Answer = from_json(line, Answer)
        return answer


@contextlib.contextmanager
def _connection(path: Path) -> Iterator[_Talk]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(path))
        yield _Talk(connection)


def _crashed(files: tail.ServerFiles) -> bool:
    """Whether the last binary log file was left open. An unreadable one counts: what to do is decided with the rest."""
    try:
        with open_binlog(tail.last_file(files)) as binlog:
            return binlog.in_use
    except BinlogError:
        return True


def run(config_path: Path) -> None:
    """Raises RaftctlError: mysqld must not start."""
    if not config_path.exists():
        return  # the host is not a member of a cluster yet
    settings = config.load(config_path)
    if settings.mysql is None:
        return
    try:
        Gate(Path(settings.directory), seconds=settings.mysql.gate_seconds).pass_through()
    except OSError as error:
        raise HostError(f"the gate of mysqld cannot work: {error}") from error
