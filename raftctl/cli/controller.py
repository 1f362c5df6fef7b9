"""`raftctl controller run`: the process that systemd starts on every host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The processes that systemd starts.")


@app.command("run")
def run(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The controller's configuration.")],
) -> None:
    """Run this host's controller until it is told to stop."""
    from raftctl.controller.main import run as run_controller

    run_controller(config)


@app.command("gate")
def gate(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The controller's configuration.")],
) -> None:
    """Wait until mysqld may start, and cut what a crash left unacknowledged. Run before every start of mysqld.

    To start it undecided, make the file gate-open in the controller's directory: it counts for one start."""
    from raftctl.controller.gate import run as pass_gate

    pass_gate(config)
