"""The program `raftctl`: its commands, and how errors become exit codes.

    0  done
    1  refused or failed
    2  bad usage or inventory
    3  no quorum, or nothing reachable

Only typer is imported at the top, here and in every command's file: `raftctl --version` must stay fast.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Annotated, Any

import typer
import typer.core

from raftctl import __version__
from raftctl.cli import config, controller, member, rotate, sandbox
from raftctl.cli.bootstrap import bootstrap
from raftctl.cli.change_primary import failover, switchover
from raftctl.cli.check import CheckCommand, check, unknown
from raftctl.cli.demo import demo
from raftctl.cli.doctor import doctor
from raftctl.cli.explain import explain
from raftctl.cli.force_members import force_members
from raftctl.cli.history import history
from raftctl.cli.logs import logs
from raftctl.cli.options import CommandLineError, root_options
from raftctl.cli.pause import pause, resume
from raftctl.cli.status import status
from raftctl.errors import RaftctlError


class _Program(typer.core.TyperGroup):
    """All commands. What is wrong in front of `check` is told like what is wrong behind it."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> Any:
        command = next((word for word in args if word in self.commands), "")
        try:
            return super().make_context(info_name, args, *rest, **more)
        except CommandLineError as error:
            if command != "check":
                raise
            unknown(error.format_message())


app = typer.Typer(
    name="raftctl",
    cls=_Program,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raftctl {__version__}")
        raise typer.Exit


@app.callback()
@root_options
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Automatic failover for MySQL without split brain and without losing an acknowledged write."""


app.command("bootstrap")(bootstrap)
app.command("status")(status)
app.command("switchover")(switchover)
app.command("failover")(failover)
app.command("force-members")(force_members)
app.command("pause")(pause)
app.command("resume")(resume)
app.command("check", cls=CheckCommand)(check)
app.command("history")(history)
app.command("logs")(logs)
app.command("explain")(explain)
app.command("doctor")(doctor)
app.add_typer(config.app, name="config")
app.add_typer(member.app, name="member")
app.add_typer(rotate.app, name="rotate")
app.add_typer(controller.app, name="controller")
sandbox.app.command("demo")(demo)
app.add_typer(sandbox.app, name="sandbox")


def main() -> None:
    """Entry point: run the command and exit with its code; errors are lines on stderr, not tracebacks (but with -v)."""
    verbose = not {"-v", "--verbose"}.isdisjoint(sys.argv[1:])
    try:
        app(prog_name="raftctl")
    except RaftctlError as error:
        if verbose:
            traceback.print_exc()
        _fail(error)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  outermost edge: a bug must not show a traceback to an operator
        if verbose:
            traceback.print_exc()
        _fail(_unexpected(error))


def _unexpected(error: Exception) -> RaftctlError:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        what = f"cannot write {error.filename or 'the output'}: {error.strerror}"
        return RaftctlError(what, hint="make room there and run it again")
    if isinstance(error, PermissionError) and error.filename:
        what = f"cannot use {error.filename}: {error.strerror}"
        return RaftctlError(what, hint="run this as a user who may, or mend the permissions")
    return RaftctlError(f"internal error: {error!r}", hint="please report it with the output of the same with -v")


def _fail(error: RaftctlError) -> None:
    from raftctl.cli import render

    render.fail(error)
    sys.exit(error.exit_code)
