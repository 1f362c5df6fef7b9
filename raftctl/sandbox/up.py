"""From nothing to a bootstrapped cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from raftctl.sandbox.apt import Progress, ignore_progress
from raftctl.sandbox.cluster import Sandbox, exclusive, open_or_plan


def bring_up(
    directory: Path,
    *,
    nodes: int = 3,
    witnesses: int = 0,
    namespaces: bool = False,
    settings: Sequence[str] = (),
    progress: Progress = ignore_progress,
) -> Sandbox:
    """A sandbox in `directory` with everything running and bootstrapped; what is there already is kept.

    Raises:
        UsageError: bad arguments, or `directory` holds something else.
        HostError: this machine cannot do it, or a server does not start.
    """
    with exclusive(directory):
        sandbox = open_or_plan(directory, nodes=nodes, witnesses=witnesses, namespaces=namespaces, settings=settings)
        sandbox.write_inventory()
        sandbox.start_all(progress)
    return sandbox
