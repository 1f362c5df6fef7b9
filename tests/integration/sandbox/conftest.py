"""Sandboxes of mysqlds alone: no controller is configured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.sandbox.cluster import Sandbox, open_or_plan
from raftctl.sandbox.distribution import MySQLDistribution


@pytest.fixture(scope="module")
def sandbox_directory(distribution: MySQLDistribution) -> Iterator[Path]:
    """A directory with a path short enough for unix sockets; needs a MySQL server."""
    with tempfile.TemporaryDirectory(prefix="sb-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def sandbox(sandbox_directory: Path) -> Iterator[Sandbox]:
    """db1, db2 and w1 on loopback."""
    sandbox = open_or_plan(sandbox_directory, nodes=2, witnesses=1, namespaces=False, settings=[])
    try:
        sandbox.start_all()
        yield sandbox
    finally:
        sandbox.down(purge=False)
