"""The ways to a controller's API: directly, or from the member's own host, through SSH."""

from __future__ import annotations

import socket
from collections.abc import Collection

from raftctl.api_client import Dial, dial_directly, split_address
from raftctl.cluster.state import Member
from raftctl.errors import HostError, UsageError
from raftctl.hosts.reach import reach
from raftctl.inventory.model import ClusterInventory, Connection


def dial_from_host(inventory: ClusterInventory) -> Dial:
    """Connects to a member's API from its own host: through SSH, or from here where that is the host."""

    def dial(member: Member, timeout: float) -> socket.socket:
        try:
            host = inventory.host(member.name)
        except UsageError as error:
            raise HostError(f"{error}: no way there is known") from None
        address, port = split_address(member.api)
        return reach(host).dial_tcp(address, port, timeout=timeout)

    return dial


def dial_either_way(inventory: ClusterInventory) -> Dial:
    """Connects directly, and from the member's own host where that does not work. For commands that log in there
    anyway: the API's network may be closed to where they run."""
    by_ssh = {host.name for host in inventory.hosts if host.connection is Connection.SSH}
    return either(dial_directly, dial_from_host(inventory), by_ssh)


def either(direct: Dial, from_host: Dial, by_ssh: Collection[str]) -> Dial:
    """`direct` for everybody, and `from_host` for those of `by_ssh` for whom it was what worked."""
    tunnelled: set[str] = set()

    def dial(member: Member, timeout: float) -> socket.socket:
        if member.name not in by_ssh:
            return direct(member, timeout)
        if member.name in tunnelled:
            return from_host(member, timeout)
        try:
            return direct(member, timeout / 2)
        except OSError as error:
            try:
                connection = from_host(member, timeout / 2)
            except HostError:
                raise error from None
        tunnelled.add(member.name)
        return connection

    return dial
