"""`raftctl explain [NAME]`: what would happen if that member's host were lost now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftctl.cli.options import Options, Output, with_options

if TYPE_CHECKING:
    from raftctl.planner.explain import Explanation

ASK_SECONDS = 5.0

Lost = Annotated[str, typer.Argument(metavar="[NAME]", help="The member to be lost [default: the primary].")]


@with_options
def explain(options: Options, name: Lost = "") -> None:
    """Say what the loss of a member would do, and why."""
    from raftctl.cli import render
    from raftctl.cli.cluster import open_cluster
    from raftctl.errors import UsageError
    from raftctl.planner.explain import Explanation

    cluster = open_cluster(options)
    now = cluster.require_quorum(options.timeout)
    if name and name not in {row.name for row in now.members}:
        raise UsageError(f"{name} is not a member of {cluster.name}", hint="see `raftctl status`")
    path = f"/v1/explain?member={name}"
    found = cluster.api.fetch(cluster.in_order(now), path, options.timeout or ASK_SECONDS, Explanation)
    if options.output is Output.TABLE:
        _show(found)
    else:
        render.emit(found, options.output)


def _show(found: Explanation) -> None:
    from raftctl.cli.render import Cell, Column, console, line, table

    line(f"if {found.member} ({found.role}) were lost now:")
    for number, text in enumerate(found.outcome, start=1):
        line(f"{number}. {text}")
    line("writes go on" if found.serving else "writes stop", "green" if found.serving else "red")
    if not found.candidates:
        return
    rows = [
        [
            Cell(one.name, "bold" if one.name == found.promoted else ""),
            Cell("yes" if one.eligible else "no", "green" if one.eligible else "red"),
            Cell(f"{one.text} ({one.reason})" if one.reason else "chosen" if one.name == found.promoted else ""),
        ]
        for one in found.candidates
    ]
    screen = console()
    screen.print(table([Column("candidate"), Column("eligible"), Column("why")], rows, screen.width))
