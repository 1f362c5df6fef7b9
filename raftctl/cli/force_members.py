"""`raftctl force-members NAME...`: go on with the survivors when the majority is lost for good (rule R10)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from raftctl.cli.changes import DryRun, Yes, require_a_name, say_plan, show_plan
from raftctl.cli.options import Options, Output, with_options
from raftctl.errors import RaftctlError, RefusedError, UsageError

if TYPE_CHECKING:
    from raftctl.planner.forced import Census, ForcePlan, ForceRefusal

Survivors = Annotated[list[str], typer.Argument(metavar="NAME...", help="All members that are left.")]
Target = Annotated[
    str | None, typer.Option("--to", metavar="NAME", help="The primary [default: the survivor that has most].")
]
Fence = Annotated[bool, typer.Option("--fence", help="Fence excluded hosts that can be reached, instead of refusing.")]
Confirm = Annotated[
    str | None, typer.Option("--confirm", metavar="CLUSTER", help="The cluster's name, instead of typing it.")
]


@with_options
def force_members(
    options: Options,
    survivors: Survivors,
    to: Target = None,
    fence: Fence = False,
    confirm: Confirm = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Go on with the survivors of a lost majority.

    Shows what may be lost first, and refuses while an excluded host answers."""
    from raftctl.bootstrap import force as forced
    from raftctl.cli.cluster import requester
    from raftctl.cli.progress import shown
    from raftctl.cli.render import emit, line
    from raftctl.cluster.state import Engine
    from raftctl.inventory.load import find_inventory, load_inventory
    from raftctl.planner.forced import judge_force

    require_a_name(to)
    cluster = load_inventory(find_inventory(options.inventory)).cluster(options.cluster)
    names = tuple(sorted({cluster.host(name).name for name in survivors}))
    if cluster.engine is Engine.GROUP:
        raise RefusedError("force-members works on semi-sync clusters", reason="engine", hint="see the manual of MySQL")
    with shown() as progress:
        progress("asking every host by API, MySQL and SSH", None)
        if not dry_run:
            forced.wake(cluster, names)
        census = forced.take_census(cluster, names)
    plan = judge_force(cluster.members(), census, survivors=names, target=to or "", may_fence=fence)
    _show_census(census, names)
    if isinstance(plan, list):
        raise _refused(plan)
    steps = forced.describe(plan)
    if dry_run:
        show_plan(steps, options.output)
        _show_losses(plan)
        return
    if confirm is None:
        say_plan(steps, options.output)
    _show_losses(plan)
    _require_name(cluster.name, confirm, yes=yes)
    with shown() as progress:
        forced.force(
            cluster,
            plan,
            by=requester(),
            progress=lambda what: progress(what, None),
            timeout=options.timeout or forced.TIMEOUT_SECONDS,
        )
    if options.output is Output.TABLE:
        line(f"{plan.target} is the primary of {cluster.name} now, in incarnation {plan.incarnation}")
    else:
        emit({"primary": plan.target, "incarnation": plan.incarnation, "known_lost": plan.known_lost}, options.output)


def _show_census(census: Mapping[str, Census], survivors: tuple[str, ...]) -> None:
    """On stderr: it is for a person, whatever the form of the output."""
    from raftctl.bootstrap.force import comment

    for name, (api, mysql, ssh) in comment(census).items():
        place = "survivor" if name in survivors else "excluded"
        typer.echo(f"{name} ({place}): API: {api}; MySQL: {mysql}; SSH: {ssh}", err=True)


def _show_losses(plan: ForcePlan) -> None:
    for text in plan.losses:
        typer.echo(f"may be lost: {text}", err=True)


def _refused(refusals: list[ForceRefusal]) -> RefusedError:
    from raftctl.planner.forced import ForceReason

    first = refusals[0]
    hints = {
        ForceReason.EXCLUDED_ANSWERS: "it is not lost: mend it, or fence what can be reached with --fence",
        ForceReason.SURVIVOR_SILENT: "name those that are up; start the controller and mysqld of a survivor first",
        ForceReason.UNKNOWN_MEMBER: "name members only, and take former ones out of the inventory",
        ForceReason.UNSOUND_DATA: "add a survivor whose data are sound, or restore one: docs/majority-lost.md",
        ForceReason.MAJORITY_LEFT: "see `raftctl status`: they elect a leader by themselves",
    }
    return RefusedError(
        "; ".join(r.text for r in refusals), reason=first.reason.value, hint=hints.get(first.reason, "")
    )


def _require_name(name: str, given: str | None, *, yes: bool) -> None:
    """`--yes` alone is not enough for this. Raises UsageError when nobody can type, RaftctlError for another name."""
    if given is None:
        if yes or not sys.stdin.isatty():
            raise UsageError("this gives up what the lost members have", hint=f"say --confirm {name}")
        given = typer.prompt(f"Type the cluster's name ({name}) to go on", err=True, default="", show_default=False)
    if given != name:
        raise RaftctlError(f"{given!r} is not the cluster's name, {name}: nothing was done")
