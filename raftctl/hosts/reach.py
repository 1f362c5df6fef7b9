"""From a host of the inventory to the objects that reach it."""

from __future__ import annotations

from pathlib import Path

from raftctl.errors import HostError
from raftctl.hosts.base import Host
from raftctl.hosts.local import LocalHost
from raftctl.hosts.services import ServiceManager, SupervisorServices
from raftctl.inventory.model import Connection, InventoryHost


def reach(host: InventoryHost) -> Host:
    """Raises HostError when the host's connection is of a kind that raftctl cannot use."""
    if host.connection is Connection.SSH:
        raise HostError(
            f"{host.name}: hosts behind SSH cannot be changed yet",
            hint="run raftctl on the host itself with ansible_connection: local, or use a sandbox",
        )
    return LocalHost(host.name)


def services_of(host: InventoryHost) -> ServiceManager:
    """Raises HostError when nobody is known who runs the host's services."""
    if not host.services:
        raise HostError(
            f"{host.name}: services run by systemd cannot be managed yet",
            hint="raftctl_services names the socket of a sandbox's supervisor",
        )
    return SupervisorServices(Path(host.services))
