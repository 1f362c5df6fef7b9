"""`raftctl config`: the policy that the running cluster follows, changed through the log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raftctl.cli.changes import DryRun, Yes, approve, show_plan
from raftctl.cli.options import Options, Output, with_options
from raftctl.errors import RaftctlError, RefusedError, UsageError

if TYPE_CHECKING:
    from raftctl.cli.cluster import Cluster
    from raftctl.cluster.state import ClusterState

app = typer.Typer(no_args_is_help=True, help="Show and change the cluster's policy.")

DECISION_SECONDS = 10.0

Changes = Annotated[
    list[str], typer.Argument(metavar="KEY=VALUE...", help="As in the inventory: failover.cooldown=30s.")
]


@app.command("show")
@with_options
def show(options: Options) -> None:
    """Show what the cluster follows, and the inventory says."""
    from raftctl.cli.cluster import open_cluster
    from raftctl.cli.render import Cell, Column, console, emit, line, table
    from raftctl.inventory.load import as_written

    cluster = open_cluster(options)
    state = _state(cluster, options)
    running, listed = as_written(state.settings), as_written(cluster.inventory.settings())
    if options.output is not Output.TABLE:
        differs = [name for name in running if running[name] != listed[name]]
        number = state.settings_number
        emit({"number": number, "settings": running, "inventory": listed, "differs": differs}, options.output)
        return
    rows = [
        [
            Cell(name),
            Cell(_text(value)),
            Cell("" if value == listed[name] else f"{_text(listed[name])} in the inventory has no effect", "yellow"),
        ]
        for name, value in running.items()
    ]
    screen = console()
    screen.print(table([Column("setting"), Column("value"), Column("")], rows, screen.width))
    line(f"change {state.settings_number} since the cluster was bootstrapped")


@app.command("set")
@with_options
def set_(options: Options, changes: Changes, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Change settings of the running cluster."""
    from raftctl.sandbox.layout import parse_settings

    _change(options, lambda _state: _parsed(parse_settings(changes)), dry_run=dry_run, yes=yes)


@app.command("undo")
@with_options
def undo(options: Options, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Return to the settings before the last change."""
    from raftctl.inventory.load import as_written

    def before(state: ClusterState) -> Mapping[str, Any]:
        if state.settings_before is None:
            raise RefusedError("the settings were never changed", reason="nothing-to-do")
        return as_written(state.settings_before)

    _change(options, before, dry_run=dry_run, yes=yes)


@app.command("edit")
@with_options
def edit(options: Options, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Change the settings in an editor ($EDITOR)."""
    import yaml

    from raftctl.inventory.load import as_written
    from raftctl.inventory.yaml_file import parse_yaml

    def edited(state: ClusterState) -> Mapping[str, Any]:
        text = yaml.safe_dump(as_written(state.settings), sort_keys=False)
        found = parse_yaml(_in_editor(text.encode()), name="what you wrote")
        if not isinstance(found, dict):
            raise UsageError("what you wrote holds no settings", hint="leave the lines as `name: value`")
        return found

    _change(options, edited, dry_run=dry_run, yes=yes)


def _in_editor(text: bytes) -> bytes:
    """What the user makes of `text`. Raises RaftctlError when the editor fails."""
    import os
    import shlex
    import subprocess
    import sys
    import tempfile

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("vi" if sys.stdin.isatty() else "")
    if not editor:
        raise UsageError("there is no terminal to edit in", hint="use `raftctl config set`, or set EDITOR")
    with tempfile.NamedTemporaryFile(prefix="raftctl-", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        try:
            done = subprocess.run([*shlex.split(editor), file.name], check=False)
        except (OSError, ValueError) as error:
            raise RaftctlError(f"cannot run the editor {editor}: {error}", hint="set EDITOR") from None
        if done.returncode != 0:
            raise RaftctlError(f"{editor} ended with status {done.returncode}, nothing was done")
        return Path(file.name).read_bytes()  # an editor may have replaced the file


def _change(options: Options, wanted: Any, *, dry_run: bool, yes: bool) -> None:
    from raftctl.cli.cluster import open_cluster, requester
    from raftctl.cli.render import emit, line
    from raftctl.inventory.load import as_written, changed_settings

    cluster = open_cluster(options)
    now = cluster.require_quorum(options.timeout)
    state = _state(cluster, options)
    settings = changed_settings(cluster.inventory.path, cluster.name, state.settings, wanted(state))
    plan = _differences(as_written(state.settings), as_written(settings))
    if dry_run:
        show_plan(plan or ["nothing: the cluster follows these settings already"], options.output)
        return
    if plan:
        approve(f"Change {cluster.name} so?", yes=yes, plan=plan, output=options.output)
        body = {"by": requester(), "replaces": state.settings_number, "settings": settings}
        cluster.post(now, "/v1/settings", body, options.timeout or DECISION_SECONDS)
    if options.output is not Output.TABLE:
        emit({"changed": bool(plan), "settings": as_written(settings)}, options.output)
        return
    for text in plan or ["nothing to do: the cluster follows these settings already"]:
        line(text)


def _state(cluster: Cluster, options: Options) -> ClusterState:
    """The newest that a member has applied. Raises NoQuorumError when nobody answers."""
    from raftctl.cluster.facts import MemberFacts

    now = cluster.status(options.timeout)
    facts = cluster.api.fetch(cluster.in_order(now), "/v1/member", options.timeout or DECISION_SECONDS, MemberFacts)
    return facts.state


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {_text(before[name])} -> {_text(value)}" for name, value in after.items() if value != before[name]
    ]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parsed(changes: Mapping[str, str]) -> dict[str, Any]:
    """Values as YAML reads them, so that `false` and `1` are what they are in the inventory."""
    from raftctl.inventory.yaml_file import parse_yaml

    return {name: parse_yaml(text.encode(), name=f"the value of {name}") for name, text in changes.items()}
