"""What must hold between the settings of a cluster, and between the hosts of all clusters in a file."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from raftctl.cluster.durability import required_acks
from raftctl.cluster.membership import NAME_LENGTH_MAX
from raftctl.errors import UsageError
from raftctl.inventory.fields import fault, format_duration
from raftctl.inventory.model import ClusterInventory, Connection, InventoryHost, data_names, join_address


def check(clusters: Mapping[str, ClusterInventory]) -> None:
    """Raises UsageError, with the path, for the first relation that does not hold."""
    _check_one_cluster_each(clusters)
    for cluster in clusters.values():
        _check_members(cluster)
        _check_durability(cluster)
        _check_times(cluster)
        _check_reachable(cluster)
    _check_nothing_shared(clusters)


def _check_one_cluster_each(clusters: Mapping[str, ClusterInventory]) -> None:
    owner: dict[str, str] = {}
    for cluster in clusters.values():
        for host in cluster.hosts:
            if host.name in owner:
                fault((cluster.name, host.name), f"is also a member of {owner[host.name]}: a host has one cluster")
            owner[host.name] = cluster.name


def _check_members(cluster: ClusterInventory) -> None:
    if not cluster.hosts:
        fault((cluster.name,), "has no hosts")
    if not data_names(cluster.hosts):
        fault((cluster.name,), "has no host with raftctl_role data, so none could be the primary")
    for host in cluster.hosts:
        if host.has_mysql and len(host.name) > NAME_LENGTH_MAX:
            fault(
                (cluster.name, host.name),
                f"the name is longer than {NAME_LENGTH_MAX} characters: its MySQL account is named after it",
                hint="a short name here and the long one as ansible_host",
            )


def require_odd_number(cluster: ClusterInventory) -> None:
    """A cluster does not begin with an even number of voters; one that runs may have it while its members change.

    Raises UsageError."""
    if complaint := even_number(len(cluster.hosts)):
        hint = "add a host (raftctl_role: witness needs no MySQL) or remove one"
        fault((cluster.name,), f"has {complaint}", hint=hint)


def even_number(voters: int) -> str:
    """What is wrong with an even number of voters, "" for an odd one."""
    if voters % 2:
        return ""
    survived = (voters - 1) // 2
    return (
        f"{voters} voters: an even number survives the loss of {survived}, as {voters - 1} would; half can do nothing"
    )


def _check_durability(cluster: ClusterInventory) -> None:
    try:
        required_acks(cluster.settings(), data_names(cluster.hosts))
    except UsageError as error:
        raise UsageError(f"{cluster.name} -> raftctl -> {error}", hint=error.hint) from None


def _check_times(cluster: ClusterInventory) -> None:
    if cluster.heartbeat_interval >= cluster.election_timeout:
        fault(
            (cluster.name, "raftctl", "raft"),
            f"heartbeat_interval ({format_duration(cluster.heartbeat_interval)}) must be below "
            f"election_timeout ({format_duration(cluster.election_timeout)})",
            hint="ten heartbeats to one election timeout is usual",
        )


def _check_reachable(cluster: ClusterInventory) -> None:
    """Members of several machines reach each other by address: a loopback address reaches nobody else."""
    if len({_machine(host) for host in cluster.hosts}) == 1:
        return
    for host in cluster.hosts:
        if _is_loopback(host.address):
            fault(
                (cluster.name, host.name),
                f"the other members cannot reach it at {host.address}",
                hint="raftctl_address is the address for the other members when ansible_host cannot be",
            )


def _check_nothing_shared(clusters: Mapping[str, ClusterInventory]) -> None:
    taken: dict[tuple[str, str], tuple[str, str]] = {}
    for cluster in clusters.values():
        for host in cluster.hosts:
            for setting, place, thing in _places(host):
                if (place, thing) in taken:
                    other, other_setting = taken[place, thing]
                    fault(
                        (cluster.name, host.name, setting),
                        f"{thing} is taken by {other}'s {other_setting}"
                        if other != host.name
                        else f"{thing} is also this host's {other_setting}",
                    )
                taken[place, thing] = (host.name, setting)


def _places(host: InventoryHost) -> Iterator[tuple[str, str, str]]:
    """(setting, where it counts, value): what two hosts or two services cannot both have."""
    ports = [("raftctl_raft_port", host.raft_port), ("raftctl_api_port", host.api_port)]
    if host.has_mysql:
        ports.append(("raftctl_mysql_port", host.mysql_port))
    for setting, port in ports:
        yield setting, "network", join_address(host.address, port)
    yield "raftctl_dir", _machine(host), host.directory
    if host.has_mysql:
        yield "raftctl_mysql_socket", _machine(host), host.mysql_socket
    if host.services:
        yield "raftctl_services", _machine(host), host.services


def _machine(host: InventoryHost) -> str:
    if host.connection is Connection.LOCAL:
        return "this machine"
    return join_address(host.ssh.host, host.ssh.port)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost" or address.startswith("localhost.")
