"""One story out of many files: what the nemesis did, what the cluster decided, when no client got on, what the
controllers, the supervisors and the servers logged, in the order of time.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from raftctl.cluster.state import HistoryEntry
from tests.chaos.journal import Happened, Operation, Outcome, Work

GAP_SECONDS: Final = 1.0
LOGS: Final = ("controller.log", "guard.log", "supervisor.log", "mysqld.err")
_STAMP: Final = re.compile(r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[,.](\d{1,6}))?(Z?)\d*\S* (.*)$")
_BORING: Final = re.compile(r"\[(System|Warning|Note)\] (?!.*(ready for connections|starting as process|Received))")

Line = tuple[float, str, str]  # monotonic time, source, text


def write(
    path: Path,
    *,
    began: float,
    wall_ahead: float,
    deeds: Sequence[Happened],
    history: Sequence[HistoryEntry],
    operations: Sequence[Operation],
    logs: Path,
    violations: Sequence[str],
) -> None:
    """`began` is second 0; `wall_ahead` the wall clock less the monotonic one; `logs` has a directory per member."""
    lines: list[Line] = [(d.at, "NEMESIS", f"{d.what} {d.whom} {d.detail}".strip()) for d in deeds]
    lines += [(e.at_ms / 1000 - wall_ahead, "DECIDED", _decision(e)) for e in history]
    lines += _gaps(operations)
    lines += _logged(logs, wall_ahead)
    ordered = sorted(lines, key=lambda line: line[0])
    head = "".join(f"VIOLATION {text}\n" for text in violations)
    path.write_text(head + "".join(f"{at - began:+9.3f}  {source:<15}  {text}\n" for at, source, text in ordered))


def _decision(entry: HistoryEntry) -> str:
    change = f" {entry.before or '-'} -> {entry.after or '-'}" if entry.before != entry.after else ""
    detail = f" {entry.detail}" if entry.detail else ""
    return f"{entry.kind} {entry.member} epoch {entry.epoch}{change}: {entry.why}{detail} (by {entry.by})"


def _gaps(operations: Sequence[Operation]) -> Iterator[Line]:
    acknowledged = [op for op in operations if op.outcome is Outcome.OK and op.work is not Work.TOTAL]
    for before, after in itertools.pairwise(acknowledged):
        if after.ended - before.ended >= GAP_SECONDS:
            yield before.ended, "CLIENTS", f"last acknowledgement, by {before.member}"
            seconds = after.ended - before.ended
            yield after.ended, "CLIENTS", f"first acknowledgement after {seconds:.1f} s, by {after.member}"


def _logged(logs: Path, wall_ahead: float) -> Iterator[Line]:
    for member in sorted(logs.iterdir()):
        for name in LOGS:
            path = member / "log" / name
            if path.exists():
                source = f"{member.name} {name.split('.')[0]}"
                yield from _parse(path.read_text(errors="replace").splitlines(), source, wall_ahead)


def _parse(texts: Iterable[str], source: str, wall_ahead: float) -> Iterator[Line]:
    """Lines without a time of their own, such as a traceback's, belong to the line before."""
    at = 0.0
    for text in texts:
        if match := _STAMP.match(text):
            day, clock, fraction, utc, rest = match.groups()
            moment = dt.datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0'):0<6}")
            at = (moment.replace(tzinfo=dt.UTC) if utc else moment.astimezone()).timestamp() - wall_ahead
            text = rest
        if not _BORING.search(text):
            yield at, source, text
