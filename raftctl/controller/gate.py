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
from raftctl.controller import admin_port, config, rebuild_mark
from raftctl.controller import gate_protocol as protocol
from raftctl.controller.gate_protocol import Answer, Compared, MayCut, MayStart, Question, Tell
from raftctl.errors import HostError
from raftctl.mysql import tail
from raftctl.mysql.binlog import BinlogError, Unreadable, open_binlog
from raftctl.planner.gate import Start, Wait

POLL_SECONDS: Final = 0.05
ANSWER_SECONDS: Final = 10.0  # a confirmation by a majority and a look at the primary


class Gate:
    """One start of mysqld. `directory` is the controller's own, `seconds` the longest time to hold mysqld back."""

    def __init__(self, directory: Path, *, seconds: float) -> None:
        self._directory = directory
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._open = False
        self._said = ""

    def pass_through(self) -> None:
        """Returns when mysqld may start. Raises HostError when a mysqld runs on these files already, and OSError."""
        files = self._files()
        if files is None:
            self._start("no controller has seen it yet")
            return
        with tail.held_down(files):
            mark = self._directory / protocol.NEW_UUID
            rebuilt = rebuild_mark.count_start(self._directory)
            if mark.exists():
                tail.renew_uuid(files)
                mark.unlink()
                self._start("with a new server UUID: its data were replaced")
            elif rebuilt:
                self._start("its data are to be replaced once more: a CLONE did not come to its end")
            elif not _crashed(files):
                self._start("it was shut down cleanly")
            else:
                self._ask(files)

    def _files(self) -> tail.ServerFiles | None:
        """None when no controller has seen this mysqld run."""
        try:
            return msgspec.json.decode((self._directory / admin_port.FILES).read_bytes(), type=tail.ServerFiles)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _ask(self, files: tail.ServerFiles) -> None:
        while not self._is_open():
            try:
                with _connection(self._directory / protocol.SOCKET) as talk:
                    self._converse(talk, files)
            except (OSError, EOFError, msgspec.DecodeError) as error:
                self._say(f"waits: the controller does not answer: {error}")
                time.sleep(POLL_SECONDS)

    def _is_open(self) -> bool:
        """Whether mysqld may start, decided or not."""
        override = self._directory / protocol.OPEN
        if not self._open and override.exists():
            override.unlink()
            self._start(f"{override} is there")
        if not self._open and time.monotonic() >= self._deadline:
            self._start(f"not decided within {self._seconds:g} s")
        return self._open

    def _start(self, why: str) -> None:
        self._open = True
        self._say(f"starts: {why}")

    def _converse(self, talk: _Talk, files: tail.ServerFiles) -> None:
        while not self._is_open():
            match talk.ask(MayStart()):
                case Start(why):
                    self._start(why)
                case Wait(why):
                    self._say(f"waits: {why}")
                    time.sleep(POLL_SECONDS)
                case Compared() as compared:
                    self._compare(talk, files, compared)

    def _compare(self, talk: _Talk, files: tail.ServerFiles, compared: Compared) -> None:
        """Cut what the primary lacks, unless it is not the primary any more: then ask again."""
        plan = tail.plan_cut(files, compared.held)
        if isinstance(plan, tail.Cut):
            try:
                saved = tail.save(plan, self._directory / protocol.TAILS)
            except OSError as error:
                plan = tail.NoCut(tail.Reason.NOT_SAVED, f"the tail cannot be saved: {error}")
        if isinstance(plan, tail.NoCut):
            self._start(f"nothing is cut: {plan.text}")
            if plan.reason is not tail.Reason.NOTHING_LACKS:
                talk.ask(Tell("tail-not-cut", plan.text, {"reason": plan.reason.value}))
        elif isinstance(talk.ask(MayCut(compared.epoch)), Start):
            tail.apply(plan, files)
            count = plan.gtids.count()
            self._start(f"{count} transactions were cut off: {plan.gtids}; saved in {saved}")
            why = f"{count} transactions that nobody acknowledged and {compared.primary} lacks; saved in {saved}"
            talk.ask(Tell("tail-cut", why, {"count": count, "gtids": str(plan.gtids), "saved": str(saved)}))

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
    """Whether the last binary log file was left open, or cannot be read: then nothing is cut, and that is recorded."""
    try:
        with open_binlog(tail.last_file(files)) as binlog:
            return binlog.in_use
    except BinlogError as error:
        return error.reason is not Unreadable.NO_FILE


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
