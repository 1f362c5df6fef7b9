"""`raftctl history`: every decision, with who, why, before, after and how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftctl.cli.options import Options, Output, with_options
from raftctl.errors import NoQuorumError

if TYPE_CHECKING:
    from raftctl.cli.cluster import Cluster
    from raftctl.cluster.state import HistoryEntry


@with_options
def history(
    options: Options,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Show only the last N; 0 shows all.")] = 20,
) -> None:
    """Show every decision: who, why, and how long it took."""
    from raftctl.cli import render
    from raftctl.cli.cluster import open_cluster
    from raftctl.cli.history_view import draw, timed

    entries = timed(newest(open_cluster(options), options.timeout))[-last:]
    if options.output is Output.TABLE:
        screen = render.console()
        screen.print(draw(entries, screen.width))
    else:
        render.emit(entries, options.output)


def newest(cluster: Cluster, timeout: float | None = None) -> list[HistoryEntry]:
    """The longest history that a member has applied, oldest first. Raises NoQuorumError when nobody answers."""
    from raftctl.cluster.state import HistoryEntry

    answers = cluster.fetch_all("/v1/history", timeout, list[HistoryEntry])
    found = [answer for answer in answers.values() if not isinstance(answer, str)]
    if not found:
        errors = "; ".join(f"{name}: {answer}" for name, answer in answers.items())
        raise NoQuorumError(f"no controller of {cluster.name} answers: {errors}", hint="see `raftctl status`")
    return max(found, key=lambda entries: entries[-1].index if entries else 0)
