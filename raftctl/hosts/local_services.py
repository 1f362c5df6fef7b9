"""Who runs this host's units. Standard library only: the guard imports this."""

from __future__ import annotations

from pathlib import Path

from raftctl.hosts.services import ServiceManager
from raftctl.hosts.supervised import SupervisorServices
from raftctl.hosts.systemd import SystemdServices


def local_services(*, socket_path: str, mysqld_unit: str) -> ServiceManager:
    """Who runs this host's units, as the controller's configuration says (`services`): a sandbox's supervisor that
    listens on `socket_path`, or, without one, systemd."""
    if socket_path:
        return SupervisorServices(Path(socket_path))
    return SystemdServices(mysqld_unit=mysqld_unit)
