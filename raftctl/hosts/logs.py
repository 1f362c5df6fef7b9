"""What raftctl and MySQL logged on a host: systemd's journal, or the files of a sandbox host.

A mysqld that writes its error log to a file of its own is in the journal with its starts and ends only. Every line has
the time of the host's own clock; hosts whose clocks differ interleave wrongly, and `raftctl doctor` says so.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from raftctl.errors import HostError
from raftctl.hosts.reach import reach
from raftctl.hosts.systemd import CONTROLLER_UNIT, GUARD_UNIT
from raftctl.inventory.model import InventoryHost

CALL_SECONDS: Final = 30.0
SANDBOX_FILES: Final = {
    "controller.log": "controller",
    "guard.log": "guard",
    "mysqld.log": "mysqld",
    "mysqld.err": "mysqld",
    "supervisor.log": "supervisor",
}


class LogLine(msgspec.Struct, frozen=True):
    """`unit` is controller, guard, mysqld or supervisor."""

    at: dt.datetime
    host: str
    unit: str
    text: str


def read_logs(host: InventoryHost, *, since: float | None, last: int) -> list[LogLine]:
    """The last `last` lines of a host, oldest first, not older than `since` seconds. Raises HostError."""
    lines = _from_files(host, last) if host.services else _from_journal(host, since, last)
    if since is not None:
        earliest = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=since)
        lines = [line for line in lines if line.at >= earliest]
    return sorted(lines, key=lambda line: line.at)[-last:]


class Unseen:
    """Tells what is new in one reading of a host's last lines after another; equal lines are counted."""

    def __init__(self, shown: Sequence[LogLine]) -> None:
        self._seen = Counter(shown)
        self._newest = max((line.at for line in shown), default=None)

    def of(self, lines: Sequence[LogLine]) -> list[LogLine]:
        """Those that were not there the last time. Lines of before the first reading, which asked for fewer, are not
        new."""
        left = Counter(self._seen)
        new = []
        for line in lines:
            if left[line] > 0:
                left[line] -= 1
            elif self._newest is None or line.at >= self._newest:
                new.append(line)
        self._seen = Counter(lines)
        return new


# --- systemd ------------------------------------------------------------------------------------------


def _from_journal(host: InventoryHost, since: float | None, last: int) -> list[LogLine]:
    units = {CONTROLLER_UNIT: "controller", GUARD_UNIT: "guard", host.mysql_service: "mysqld"}
    argv = ["journalctl", "--output=json", "--no-pager", f"--lines={last}"]
    argv += [f"--unit={unit}" for unit in units]
    if since is not None:
        argv.append(f"--since=-{since:.0f}s")
    output = reach(host).run(argv, timeout=CALL_SECONDS).stdout
    return list(parse_journal(output, host=host.name, units=units))


class _Entry(msgspec.Struct, frozen=True):
    """systemd.journal-fields(7); a message that is not UTF-8 is an array of bytes."""

    at: str = msgspec.field(name="__REALTIME_TIMESTAMP")
    message: str | list[int] | None = msgspec.field(name="MESSAGE", default=None)
    unit: str = msgspec.field(name="_SYSTEMD_UNIT", default="")
    about: str = msgspec.field(name="UNIT", default="")  # systemd itself says something of the unit


def parse_journal(output: bytes, *, host: str, units: dict[str, str]) -> Iterator[LogLine]:
    """`journalctl --output=json`, an entry a line. Raises HostError."""
    for line in output.splitlines():
        try:
            entry = msgspec.json.decode(line, type=_Entry)
            at = dt.datetime.fromtimestamp(int(entry.at) / 1e6, dt.UTC)
        except (msgspec.DecodeError, ValueError) as error:
            raise HostError(f"{host}: journalctl says what cannot be read: {error}") from None
        text = bytes(entry.message).decode(errors="replace") if isinstance(entry.message, list) else entry.message
        unit = entry.unit if entry.unit in units else entry.about
        yield LogLine(at, host, units.get(unit, unit), _plain(text or "", host))


# --- a sandbox host -----------------------------------------------------------------------------------


def _from_files(host: InventoryHost, last: int) -> list[LogLine]:
    found: list[LogLine] = []
    machine = reach(host)
    zone = dt.datetime.now().astimezone().tzinfo
    for name, unit in SANDBOX_FILES.items():
        data = machine.read_file(f"{host.directory}/log/{name}")
        texts = (data or b"").decode(errors="replace").splitlines()[-last:]
        found += parse_file(texts, host=host.name, unit=unit, zone=zone)
    return found


_STAMP: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?(Z|[+-]\d\d:\d\d)?\s+(.*)", re.DOTALL
)


def parse_file(texts: Sequence[str], *, host: str, unit: str, zone: dt.tzinfo | None) -> Iterator[LogLine]:
    """Lines that begin with a time, in `zone` where they do not say which; one that does not (a traceback) belongs to
    the line before it. What comes before the first time is left out."""
    at: dt.datetime | None = None
    for text in texts:
        if match := _STAMP.fullmatch(text):
            day, clock, fraction, offset, _ = match.groups()
            written = f"{day}T{clock}.{(fraction or '0').ljust(6, '0')}{(offset or '').replace('Z', '+00:00')}"
            parsed = dt.datetime.fromisoformat(written)
            at = (parsed if offset else parsed.replace(tzinfo=zone)).astimezone(dt.UTC)
        if at is not None:
            yield LogLine(at, host, unit, _plain(text, host))


def _plain(text: str, host: str) -> str:
    """Without the time and the host's name, which the line has anyway."""
    match = _STAMP.fullmatch(text)
    return (match[5] if match else text).removeprefix(f"{host} ")
