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
    """The plan on stdout, as the result of a `--dry-run`."""
    from raftctl.cli import render

    if output is Output.TABLE:
        say_plan(lines, output)
    else:
        render.emit({"plan": list(lines)}, output)


def say_plan(lines: Sequence[str], output: Output) -> None:
    """The plan for whoever is asked; on stderr when stdout is for a program."""
    for number, text in enumerate(lines, start=1):
        typer.echo(f"{number}. {text}", err=output is not Output.TABLE)


def approve(question: str, *, yes: bool, plan: Sequence[str] = (), output: Output = Output.TABLE) -> None:
    """Show the plan and ask, unless `yes`. Raises UsageError when nobody can answer, RaftctlError when the answer is
    no."""
    if yes:
        return
    say_plan(plan, output)
    if not sys.stdin.isatty():
        raise UsageError("this changes the cluster and nobody is there to be asked", hint="say --yes")
    if not typer.confirm(question, err=True):
        raise RaftctlError("not confirmed, nothing was done")


def require_a_name(target: str | None) -> None:
    """An empty `--to` is a script's empty variable, and not "anybody". Raises UsageError."""
    if target is not None and not target.strip():
        raise UsageError("--to names nobody", hint="name a member, or leave --to out for the best one")
