"""`raftctl pause` and `raftctl resume`: no automatic failover for a while, cluster-wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftctl.cli.changes import DryRun, Yes, approve, show_plan
from raftctl.cli.options import Options, Output, with_options

if TYPE_CHECKING:
    from raftctl.cluster.status_model import ClusterStatus

DECISION_SECONDS = 10.0

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; shown in status and history.")]


@with_options
def pause(options: Options, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False) -> None:
    """Pause automatic failover, cluster-wide."""
    _change(options, paused=True, reason=reason, dry_run=dry_run, yes=yes)


@with_options
def resume(options: Options, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Resume automatic failover."""
    _change(options, paused=False, reason="", dry_run=dry_run, yes=yes)


def _change(options: Options, *, paused: bool, reason: str, dry_run: bool, yes: bool) -> None:
    from raftctl.cli.cluster import open_cluster, requester
    from raftctl.cli.render import emit, line

    cluster = open_cluster(options)
    now = cluster.require_quorum(options.timeout)
    done = f"automatic failover of {cluster.name} is {'paused' if paused else 'on'}"
    if now.paused == paused:
        plan = [f"nothing: {done} already{_since(now)}"]
    else:
        plan = [f"{'pause' if paused else 'resume'} automatic failover of {cluster.name}"]
    if dry_run:
        show_plan(plan, options.output)
        return
    if now.paused != paused:
        approve(f"{'Pause' if paused else 'Resume'} automatic failover of {cluster.name}?", yes=yes)
        body = {"by": requester()} | ({"reason": reason} if paused else {})
        timeout = options.timeout or DECISION_SECONDS
        cluster.post(now, "/v1/pause" if paused else "/v1/resume", body, timeout)
    if options.output is Output.TABLE:
        line(done + (f" already{_since(now)}" if now.paused == paused else ""))
    else:
        emit({"paused": paused, "changed": now.paused != paused}, options.output)


def _since(now: ClusterStatus) -> str:
    return f", by {now.pause.by}: {now.pause.reason or 'no reason given'}" if now.pause else ""
