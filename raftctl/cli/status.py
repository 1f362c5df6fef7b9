"""`raftctl status`: the table, or the same as JSON or YAML."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from raftctl.cli.options import Options, Output, seconds, with_options

if TYPE_CHECKING:
    from raftctl.cluster.status_model import ClusterStatus

NO_QUORUM = 3


@with_options
def status(
    options: Options,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="DURATION", parser=seconds, help="Between two looks, with --watch.")
    ] = 1.0,
) -> None:
    """Show members, primary, quorum, and what is wrong."""
    from raftctl.cli.cluster import open_cluster

    cluster = open_cluster(options)
    if watch:
        _watch(options, lambda: cluster.status(options.timeout), interval)
        return
    now = cluster.status(options.timeout)
    _show(now, options.output)
    if not now.quorum.ok:
        raise typer.Exit(NO_QUORUM)


def _show(now: ClusterStatus, output: Output, *, compact: bool = False) -> None:
    from raftctl.cli import render, status_view

    if output is Output.TABLE:
        screen = render.console()
        screen.print(status_view.draw(now, screen.width))
    else:
        render.emit(now, output, compact=compact)


def _watch(options: Options, look: Callable[[], ClusterStatus], interval: float) -> None:
    from raftctl.cli import render, status_view

    if options.output is Output.TABLE:
        render.watch(lambda width: status_view.draw(look(), width), lambda: time.sleep(interval))
    while True:
        _show(look(), options.output, compact=True)
        time.sleep(interval)
