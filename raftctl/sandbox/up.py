"""From nothing to a bootstrapped cluster."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from raftctl.bootstrap.application import create_application
from raftctl.bootstrap.run import TIMEOUT_SECONDS, bootstrap
from raftctl.inventory import load_inventory
from raftctl.inventory.model import ClusterInventory
from raftctl.sandbox.apt import Progress, ignore_progress
from raftctl.sandbox.cluster import AnySandbox, exclusive, open_or_plan
from raftctl.sandbox.layout import CLUSTER
from raftctl.secret import Secret

APPLICATION: Final = "app"  # user and database


def bring_up(
    directory: Path,
    *,
    nodes: int = 3,
    witnesses: int = 0,
    namespaces: bool = False,
    settings: Sequence[str] = (),
    image: str = "",
    timeout: float | None = None,
    progress: Progress = ignore_progress,
) -> AnySandbox:
    """A sandbox in `directory` with everything running and bootstrapped; what is there already is kept. With `image`,
    its hosts are containers upon that image, else local processes. `timeout`: seconds for a leader, and for health.

    Raises:
        UsageError: bad arguments, or `directory` holds something else.
        HostError: this machine cannot do it, or a server does not start.
        RaftctlError: the cluster does not become healthy.
    """
    with exclusive(directory):
        sandbox = open_or_plan(
            directory, nodes=nodes, witnesses=witnesses, namespaces=namespaces, settings=settings, image=image
        )
        sandbox.write_inventory()
        cluster = load_inventory(sandbox.inventory).cluster(CLUSTER)  # refuses a wrong --set before anything starts
        sandbox.start_all(progress)
        bootstrap(cluster, progress=lambda what: progress(what, None), timeout=timeout or TIMEOUT_SECONDS)
        if not sandbox.option_file.exists():
            _create_application(sandbox, cluster)
    return sandbox


def _create_application(sandbox: AnySandbox, cluster: ClusterInventory) -> None:
    password = secrets.token_urlsafe(18)
    create_application(cluster, database=APPLICATION, user=APPLICATION, password=Secret(password))
    text = f"[client]\nuser={APPLICATION}\npassword={password}\ndatabase={APPLICATION}\n"
    descriptor = os.open(sandbox.option_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
