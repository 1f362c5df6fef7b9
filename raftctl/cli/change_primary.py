"""`raftctl switchover` and `raftctl failover`: a change of primary, asked for, watched to its end and timed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from raftctl.cli.changes import DryRun, Yes, approve, require_a_name, show_plan
from raftctl.cli.options import Options, Output, with_options
from raftctl.errors import NoQuorumError, RaftctlError, RefusedError

if TYPE_CHECKING:
    from raftctl.cli.cluster import Cluster
    from raftctl.cluster.state import ClusterState
    from raftctl.cluster.status_model import ClusterStatus

CHANGE_SECONDS = 60.0  # for the whole change, unless --timeout says otherwise
POLL_SECONDS = 0.05

Target = Annotated[
    str | None, typer.Option("--to", metavar="NAME", help="The promotion target [default: the best member].")
]


@with_options
def switchover(options: Options, to: Target = None, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Change the primary as planned, without losing a write."""
    _change(options, "switchover", to, dry_run=dry_run, yes=yes)


@with_options
def failover(options: Options, to: Target = None, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Replace an unhealthy primary by hand."""
    _change(options, "failover", to, dry_run=dry_run, yes=yes)


def _change(options: Options, kind: str, to: str | None, *, dry_run: bool, yes: bool) -> None:
    from raftctl.cli.cluster import open_cluster, requester
    from raftctl.cli.progress import spinner

    require_a_name(to)
    cluster = open_cluster(options)
    timeout = options.timeout or CHANGE_SECONDS
    before = cluster.require_quorum(options.timeout)
    body = {"target": to, "by": requester()}
    plan = cluster.post(before, f"/v1/{kind}?dry_run=1", body, timeout)
    if dry_run:
        show_plan(plan.get("plan", []), options.output)
        return
    approve(f"Carry out this {kind} of {cluster.name}?", yes=yes, plan=plan.get("plan", []), output=options.output)
    if kind == "switchover":  # named, so that a request that arrives twice cannot change the primary twice
        body["target"] = to or plan.get("target")
    began = time.monotonic()
    with spinner(f"{kind} of {cluster.name}") as say:
        index = int(cluster.post(before, f"/v1/{kind}", body, timeout).get("index", 0))
        say(f"{kind} of {cluster.name} is committed, under way")
        after = _wait(cluster, before, index, began + timeout)
    if after is None:
        raise RaftctlError(
            f"the {kind} of {cluster.name} has not ended after {timeout:g} s; it goes on by itself",
            hint="see `raftctl status --watch` and `raftctl history`",
        )
    seconds = time.monotonic() - began
    if after.primary == before.primary or (to and after.primary != to):
        raise RefusedError(
            f"the {kind} ended after {seconds:.2f} s with {after.primary} as primary: {_why(cluster, index)}",
            reason="not-achieved",
            hint="see `raftctl history` and `raftctl status`",
        )
    _report(options.output, before, after, seconds)


def _wait(cluster: Cluster, before: ClusterStatus, index: int, deadline: float) -> ClusterState | None:
    """The state in which the change that was committed at `index` has come to its end; None when it has not yet."""
    from raftctl.api_client import CallError
    from raftctl.cluster.state import Phase

    order = list(cluster.in_order(before).values())
    while (left := deadline - time.monotonic()) > 0:
        try:
            facts = cluster.ask(order[0], min(left, 1.0))
        except CallError:  # it may be the host that is being replaced: ask another one
            order.append(order.pop(0))
        else:
            if facts.raft.applied_index >= index and facts.state.phase is Phase.STEADY:
                return facts.state
        time.sleep(POLL_SECONDS)
    return None


def _why(cluster: Cluster, index: int) -> str:
    """What the history says of a change that was committed at `index` and did not come to what was asked for."""
    from raftctl.cli.history import newest

    try:
        reasons = [entry.why for entry in newest(cluster) if entry.index > index and entry.kind.startswith("abort-")]
    except NoQuorumError as error:
        return str(error)
    return reasons[0] if reasons else "another member was the better target"


def _report(output: Output, before: ClusterStatus, after: ClusterState, seconds: float) -> None:
    from raftctl.cli.render import emit, line

    if output is Output.TABLE:
        line(f"{after.primary} is the primary of {after.cluster} now, epoch {after.epoch}; it took {seconds:.2f} s")
        return
    result = {
        "primary": after.primary,
        "before": before.primary,
        "epoch": after.epoch,
        "seconds": round(seconds, 3),
    }
    emit(result, output)
