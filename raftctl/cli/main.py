"""The commands of `raftctl`.

Only typer is imported at the top, here and in every command's file: `raftctl --version` must stay fast.
"""

from __future__ import annotations

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
from raftctl.cli.edge import run_and_exit
from raftctl.cli.explain import explain
from raftctl.cli.force_members import force_members
from raftctl.cli.history import history
from raftctl.cli.logs import logs
from raftctl.cli.options import CommandLineError, root_options
from raftctl.cli.pause import pause, resume
from raftctl.cli.status import status


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
    """Run the command and exit with its code."""
    run_and_exit(lambda: app(prog_name="raftctl"))
