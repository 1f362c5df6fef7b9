"""Sandbox hosts whose units are small shell programs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from raftctl.sandbox.host import SandboxHost


class HostMaker(Protocol):
    def __call__(self, **units: dict[str, Any]) -> SandboxHost: ...


@pytest.fixture
def make_host() -> Iterator[HostMaker]:
    """`make_host(mysqld={"argv": [...]}, ...)` powers a host with these units on; it is killed at the end."""
    hosts: list[SandboxHost] = []
    with tempfile.TemporaryDirectory(prefix="host-") as home:  # short: a unix socket's path has 107 bytes

        def make(**units: dict[str, Any]) -> SandboxHost:
            host = SandboxHost(Path(home) / f"h{len(hosts)}")
            hosts.append(host)
            host.configure(units)
            host.power_on(timeout=30)
            return host

        yield make
        for host in hosts:
            host.power_off(timeout=10)
