"""From a host of the inventory to the objects that reach it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from raftctl.hosts.base import Host
from raftctl.hosts.local import LocalHost
from raftctl.hosts.services import ServiceManager
from raftctl.hosts.supervised import SupervisorServices
from raftctl.hosts.systemd import Outcome, SystemdServices
from raftctl.inventory.model import Connection, InventoryHost


def reach(host: InventoryHost) -> Host:
    """The host. Connections over SSH are made when they are first needed, kept, and shared by all who ask."""
    if host.connection is Connection.LOCAL:
        return LocalHost(host.name)
    from raftctl.hosts.ssh import SSHHost, shared_connections

    return SSHHost(host.name, host.ssh, shared_connections())


def mysql_dialer(host: InventoryHost) -> Callable[[float], socket.socket] | None:
    """Connects to the socket of the host's mysqld in so many seconds; None when it is this machine's."""
    if host.connection is Connection.LOCAL:
        return None
    machine = reach(host)
    return lambda timeout: machine.dial_unix(host.mysql_socket, timeout=timeout)


def services_of(host: InventoryHost) -> ServiceManager:
    """Who runs the host's units: a sandbox's supervisor, or systemd."""
    if host.services:
        return SupervisorServices(Path(host.services))
    machine = reach(host)

    def run(argv: Sequence[str], timeout: float) -> Outcome:
        result = machine.run(argv, timeout=timeout, check=False)
        return Outcome(result.status, result.stdout, result.stderr)

    return SystemdServices(run, mysqld_unit=host.mysql_service)
