"""A cluster of fake controllers, and the program as users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fake_controllers import Credentials, FakeCluster, fake_cluster, make_credentials

Raftctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def credentials() -> Credentials:
    return make_credentials()


@pytest.fixture
def orders(tmp_path: Path, credentials: Credentials) -> Iterator[FakeCluster]:
    """A cluster named orders, without members yet."""
    with fake_cluster(tmp_path, credentials) as cluster:
        yield cluster


@pytest.fixture
def raftctl(orders: FakeCluster) -> Raftctl:
    """`raftctl("status", "-o", "json")` runs the program on that cluster, without a terminal, 120 columns wide.

    The timeout is generous unless the test gives its own: the machine may be busy.
    """

    def run(*arguments: str, columns: int = 120, inventory: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "COLUMNS": str(columns),
            "HOME": str(orders.directory),
            "SUDO_USER": "eve",
            "RAFTCTL_INVENTORY": str(orders.inventory) if inventory else "",
        }
        return subprocess.run(
            [sys.executable, "-m", "raftctl", "--timeout", "30s", *arguments],
            env=environment,
            cwd=orders.directory / ".raftctl",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run
