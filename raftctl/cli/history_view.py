"""How the history is drawn, and how long each change of primary took."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from raftctl.cli.render import Cell, Column, table
from raftctl.cluster.state import HistoryEntry

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLUMNS = (
    Column("TIME (UTC)"),
    Column("EVENT"),
    Column("MEMBER", rank=2),
    Column("EPOCH", rank=5, right=True),
    Column("PRIMARY", rank=1),
    Column("TOOK", rank=3, right=True),
    Column("BY", rank=4),
    Column("WHY", rank=6),
)
_BEGINS = ("begin-failover", "begin-switchover")
_STEPS = ("promote", "complete-promotion")
_TOLD_WITH_DETAIL = ("change-settings", "set-member")  # nothing else says what was changed


class TimedEntry(msgspec.Struct, frozen=True):
    """A line of the history. `at` is UTC. `seconds`: since the change of primary that this step belongs to began, by
    the proposers' wall clocks; None for other entries, and when those clocks disagree."""

    index: int
    at: str
    at_ms: int
    kind: str
    epoch: int
    by: str
    member: str
    why: str
    before: str
    after: str
    seconds: float | None
    detail: dict[str, object]


def timed(entries: Sequence[HistoryEntry]) -> list[TimedEntry]:
    """The entries with the time of day and, for steps of a change of primary, the time since it began."""
    began = {entry.epoch: entry.at_ms for entry in entries if entry.kind in _BEGINS}
    return [
        TimedEntry(
            index=entry.index,
            at=_utc(entry.at_ms),
            at_ms=entry.at_ms,
            kind=entry.kind,
            epoch=entry.epoch,
            by=entry.by,
            member=entry.member,
            why=entry.why,
            before=entry.before,
            after=entry.after,
            seconds=_since(began.get(entry.epoch), entry),
            detail=entry.detail,
        )
        for entry in entries
    ]


def _utc(at_ms: int) -> str:
    when = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _since(began_ms: int | None, entry: HistoryEntry) -> float | None:
    if began_ms is None or entry.kind not in _STEPS or entry.at_ms < began_ms:
        return None
    return round((entry.at_ms - began_ms) / 1000, 3)


def draw(entries: Sequence[TimedEntry], width: int) -> RenderableType:
    """The history for a terminal of `width` characters, oldest first."""
    return table(_COLUMNS, [_cells(entry) for entry in entries], width)


def _cells(entry: TimedEntry) -> list[Cell]:
    changed = f"{entry.before or '-'} -> {entry.after or '-'}" if entry.before != entry.after else entry.after
    return [
        Cell(entry.at.replace("T", " ").removesuffix("Z")),
        Cell(entry.kind),
        Cell(entry.member),
        Cell(str(entry.epoch)),
        Cell(changed),
        Cell("" if entry.seconds is None else f"{entry.seconds:.3f}s"),
        Cell(entry.by),
        Cell(_why(entry)),
    ]


def _why(entry: TimedEntry) -> str:
    details = [f"{name}: {value}" for name, value in entry.detail.items()] if entry.kind in _TOLD_WITH_DETAIL else []
    return " ".join("; ".join(filter(None, [entry.why, *details])).split())
