"""`raftctl controller run`: the process that systemd starts on every host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The processes that systemd starts.")


@app.callback()
def _group() -> None:
    """Keeps `run` a subcommand while it is the only one."""


@app.command("run")
def run(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The controller's configuration.")],
) -> None:
    """Run this host's controller until it is told to stop."""
    from raftctl.controller.main import run as run_controller

    run_controller(config)
