"""One cluster on container hosts for all tests that leave it healthy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.container_hosts import ContainerHosts, container_hosts
from tests.support.stage import Stage


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerHosts]:
    """db1 to db3, bootstrapped."""
    with container_hosts(tmp_path_factory.mktemp("hosts"), subnet="10.213.78") as running:
        for name in ("db1", "db2", "db3"):
            running.wait_for_units(name, "mysql")
        running.raftctl("--timeout", "300s", "bootstrap", "--yes")
        running.create_application()
        yield running


@pytest.fixture
def orders(hosts: ContainerHosts) -> Stage:
    stage = hosts.stage()
    stage.wait_healthy()
    return stage
