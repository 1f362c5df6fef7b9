"""`raftctl controller`: the processes that systemd starts on every host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from raftctl.controller.programs import PROGRAMS

app = typer.Typer(no_args_is_help=True, help="The processes that systemd starts.")

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The controller's configuration.")]


@app.command("run")
def run(config: Config) -> None:
    """Run this host's controller until it is told to stop."""
    PROGRAMS["run"](config)


@app.command("gate")
def gate(config: Config) -> None:
    """Wait until mysqld may start; cut an unacknowledged tail.

    Run before every start of mysqld.

    To start it undecided, make the file gate-open in the controller's directory: it counts for one start."""
    PROGRAMS["gate"](config)


@app.command("guard")
def guard(config: Config) -> None:
    """Run the guard: it fences mysqld in the controller's stead."""
    PROGRAMS["guard"](config)


Incarnation = Annotated[int, typer.Argument(metavar="INCARNATION")]
Branch = Annotated[str, typer.Argument(metavar="BRANCH")]


@app.command("log-end", hidden=True)
def log_end(config: Config) -> None:
    """Print where the log of this host's stopped controller ends, as JSON."""
    from raftctl.cluster.codec import to_json
    from raftctl.controller.forced import log_end as end_of

    typer.echo(to_json(end_of(config)))


@app.command("log-state", hidden=True)
def log_state(config: Config) -> None:
    """Print the state of the cluster by the whole log of this host's controller, as JSON."""
    from raftctl.cluster.codec import to_json
    from raftctl.controller.forced import logged_state

    typer.echo(to_json(logged_state(config)))


@app.command("go-on-alone", hidden=True)
def go_on_alone(config: Config) -> None:
    """Make this host's stopped controller the only voter, with the decision that stands on standard input as JSON."""
    from raftctl.cluster.codec import from_json, to_json
    from raftctl.cluster.commands import ForceMembers
    from raftctl.controller.forced import go_on_alone as branch

    typer.echo(to_json(branch(config, from_json(sys.stdin.buffer.read(), ForceMembers))))


@app.command("begin-anew", hidden=True)
def begin_anew(config: Config, incarnation: Incarnation, branch: Branch) -> None:
    """Have this host's stopped controller join a later incarnation with an empty log."""
    from raftctl.controller.forced import begin_anew as begin

    begin(config, incarnation, branch)


@app.command("hand-over")
def hand_over(
    config: Config,
    stop: Annotated[bool, typer.Option("--stop", help="Then stop mysqld: cleanly when nothing can be lost.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for the hand-over; fencing may take some more.")] = 30.0,
) -> None:
    """Hand over before a planned stop, or fence mysqld.

    Of this host or its mysqld: another member becomes primary first where one can.
    """
    from raftctl.controller.hand_over import hand_over as hand_over_primary

    for line in hand_over_primary(config, stop=stop, timeout=timeout):
        typer.echo(line)
