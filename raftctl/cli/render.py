"""The one door to the terminal. Rich is imported only here, and only when something is drawn for a person.

JSON and YAML are written plainly. Tables drop their least important columns on a narrow terminal; there are
colours only on a terminal.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

import msgspec
import typer

from raftctl.cli.options import Output
from raftctl.cluster.codec import enc_hook, to_json
from raftctl.errors import RaftctlError, RefusedError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_GAP = 2  # blanks between columns
_UNLIMITED = 10_000


@dataclasses.dataclass(frozen=True)
class Column:
    """`rank`: the higher it is, the earlier the column goes when the terminal is narrow; 0 stays."""

    title: str
    rank: int = 0
    right: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    text: str
    style: str = ""


def console(file: TextIO | None = None, width: int | None = None) -> Console:
    """A Rich console on stdout (or `file`) that prints text as it is: no markup, no highlighting.

    A pipe or a file has no width of its own: nothing is dropped or folded there, unless COLUMNS says otherwise."""
    from rich.console import Console

    file = file or sys.stdout
    if width is None and not file.isatty() and "COLUMNS" not in os.environ:
        width = _UNLIMITED
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def emit(value: object, output: Output, *, compact: bool = False) -> None:
    """Write `value` as JSON or YAML."""
    if output is Output.JSON:
        data = to_json(value)
        sys.stdout.write((data if compact else msgspec.json.format(data, indent=2)).decode() + "\n")
    else:
        import yaml

        plain = msgspec.to_builtins(value, enc_hook=enc_hook)
        sys.stdout.write("---\n" if compact else "")
        yaml.safe_dump(plain, sys.stdout, sort_keys=False, allow_unicode=True, width=120)
    sys.stdout.flush()


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> RenderableType:
    """A plain table, no lines, of the columns that fit into `width`."""
    from rich.table import Table
    from rich.text import Text

    kept = _fitting(columns, rows, width)
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for at in kept:
        column = columns[at]
        drawn.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(row[at].text, style=row[at].style) for at in kept))
    return drawn


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    widths = [
        max([len(column.title), *(len(row[at].text) for row in rows)]) + _GAP for at, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    while sum(widths[at] for at in kept) - _GAP > width:
        droppable = [at for at in kept if columns[at].rank]
        if not droppable:
            break
        kept.remove(max(droppable, key=lambda at: columns[at].rank))
    return kept


def line(text: str, style: str = "") -> None:
    """One line for a person on stdout."""
    console().print(text, style=style or None, soft_wrap=True)


def watch(draw: Callable[[int], RenderableType], pause: Callable[[], None]) -> None:
    """Draw again and again in place until the user interrupts; `draw` gets the width, `pause` waits between."""
    from rich.live import Live

    screen = console()
    with Live(draw(screen.width), console=screen, auto_refresh=False) as live:
        while True:
            pause()
            live.update(draw(screen.width), refresh=True)


def fail(error: RaftctlError) -> None:
    """An error for a person on stderr: one line of what and why, one of what to do."""
    reason = f" ({error.reason})" if isinstance(error, RefusedError) else ""
    _labelled("error: ", "red", f"{error}{reason}")
    if error.hint:
        _labelled("hint: ", "cyan", error.hint)


def _labelled(label: str, colour: str, text: str) -> None:
    shown = label if "NO_COLOR" in os.environ else typer.style(label, fg=colour)  # echo strips it off a terminal
    typer.echo(shown + _one_line(text), err=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())
