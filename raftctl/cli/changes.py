"""What all commands that change something share: `--dry-run`, `--yes`, the plan, the question."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from raftctl.cli.options import Output
from raftctl.errors import RaftctlError, UsageError

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def show_plan(lines: Sequence[str], output: Output) -> None:
    """The plan on stdout, a step a line."""
    from raftctl.cli import render

    if output is not Output.TABLE:
        render.emit({"plan": list(lines)}, output)
        return
    for number, text in enumerate(lines, start=1):
        render.line(f"{number}. {text}")


def approve(question: str, *, yes: bool) -> None:
    """Ask unless `yes`. Raises UsageError when nobody can answer, RaftctlError when the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this changes the cluster and nobody is there to be asked", hint="say --yes")
    if not typer.confirm(question, err=True):
        raise RaftctlError("not confirmed, nothing was done")
