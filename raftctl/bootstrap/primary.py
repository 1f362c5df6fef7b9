"""Who becomes the first primary of a new cluster, and who must be seeded from it. Pure.

The first primary must have every transaction that any data member has: what it lacked would be thrown away on the
member that has it. Two members that each have something of their own are therefore refused, not merged.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import msgspec

from raftctl.bootstrap.survey import MySQLSurvey
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import MemberRole
from raftctl.errors import RefusedError
from raftctl.inventory.model import InventoryHost


class PrimaryRefusal(enum.StrEnum):
    DIVERGED = "diverged"
    SEVERAL_WRITABLE = "several-writable"
    DATA_WITHOUT_GTIDS = "data-without-gtids"
    FOREIGN_SOURCE = "foreign-source"


class FirstPrimary(msgspec.Struct, frozen=True):
    """`seeds` are the members that get a copy of the primary's data by CLONE before they replicate; the others have
    some of it already, or there is nothing to copy. `resets` are unused servers whose installations left GTIDs that the
    others lack: they begin without any."""

    name: str
    why: str
    seeds: tuple[str, ...] = ()
    resets: tuple[str, ...] = ()


def choose_primary(hosts: Sequence[InventoryHost], servers: Mapping[str, MySQLSurvey]) -> FirstPrimary:
    """`servers` has every host with MySQL. Raises RefusedError with a PrimaryRefusal."""
    _check_sources(hosts, servers)
    _check_tables(servers)
    with_history = tuple(name for name, server in servers.items() if server.gtid_executed)
    servers = {name: _without_installation(server) for name, server in servers.items()}
    data = [host for host in hosts if host.role is MemberRole.DATA]
    complete = [
        host
        for host in data
        if all(server.gtid_executed <= servers[host.name].gtid_executed for server in servers.values())
    ]
    if not complete:
        raise _refused(PrimaryRefusal.DIVERGED, _divergence(data, servers), _DIVERGED_HINT)
    if not servers[complete[0].name].gtid_executed:
        chosen = min(complete, key=_rank)
        return FirstPrimary(chosen.name, "no member has any data", resets=with_history)
    chosen, why = _of_complete(complete, data, servers)
    seeds = _seeds(hosts, servers, chosen)
    return FirstPrimary(chosen.name, why, seeds)


def _without_installation(server: MySQLSurvey) -> MySQLSurvey:
    """What the installation of an unused server wrote is nobody's data."""
    if not server.unused:
        return server
    return msgspec.structs.replace(server, gtid_executed=GTIDSet(), gtid_purged=GTIDSet())


_DIVERGED_HINT = (
    "decide whose data is right; the others must be emptied (RESET BINARY LOGS AND GTIDS, or a new instance)"
)


def _rank(host: InventoryHost) -> tuple[int, str]:
    return -host.priority, host.name


def _check_sources(hosts: Sequence[InventoryHost], servers: Mapping[str, MySQLSurvey]) -> None:
    """An existing replica may follow another member, nobody else: the cluster would not have all its source writes."""
    members = {(host.address, host.mysql_port) for host in hosts} | {(host.ssh.host, host.mysql_port) for host in hosts}
    for name, server in servers.items():
        for channel in server.channels:
            if (channel.source_host, channel.source_port) not in members:
                raise _refused(
                    PrimaryRefusal.FOREIGN_SOURCE,
                    f"{name} replicates from {channel.source_host}:{channel.source_port}, which is no member",
                    "add that server to the inventory under the same address, or RESET REPLICA ALL when it is gone",
                )


def _check_tables(servers: Mapping[str, MySQLSurvey]) -> None:
    for name, server in servers.items():
        if server.tables is not None and server.tables.total and not server.gtid_executed:
            raise _refused(
                PrimaryRefusal.DATA_WITHOUT_GTIDS,
                f"{name} has {server.tables.total} tables and no GTID: they came before gtid_mode, or unlogged",
                f"write anything on {name} if its data is right (so that it has a GTID), or empty it",
            )


def _of_complete(
    complete: Sequence[InventoryHost], data: Sequence[InventoryHost], servers: Mapping[str, MySQLSurvey]
) -> tuple[InventoryHost, str]:
    """Several members have everything: an existing primary and its replicas. The primary is the one that takes writes,
    else the one that follows nobody."""
    if len(complete) == 1:
        others = "the only member with data" if _only_one_with_data(data, servers) else "it has what all others have"
        return complete[0], others
    writable = [host for host in complete if servers[host.name].variables.get("read_only", "") in ("OFF", "0")]
    if len(writable) > 1:
        names = " and ".join(host.name for host in writable)
        raise _refused(
            PrimaryRefusal.SEVERAL_WRITABLE,
            f"{names} have the same data and both take writes",
            "SET GLOBAL super_read_only = ON on those that are not to be the primary",
        )
    if writable:
        return writable[0], "it has everything and takes the writes"
    sources = [host for host in complete if not servers[host.name].channels]
    return min(sources or complete, key=_rank), "it has everything"


def _only_one_with_data(data: Sequence[InventoryHost], servers: Mapping[str, MySQLSurvey]) -> bool:
    return sum(bool(servers[host.name].gtid_executed) for host in data) == 1


def _seeds(
    hosts: Sequence[InventoryHost], servers: Mapping[str, MySQLSurvey], primary: InventoryHost
) -> tuple[str, ...]:
    """Members without data, and those that lack what the primary's binary logs no longer have."""
    purged = servers[primary.name].gtid_purged
    return tuple(
        host.name
        for host in hosts
        if host.name in servers
        and host.name != primary.name
        and (not servers[host.name].gtid_executed or not purged <= servers[host.name].gtid_executed)
    )


def _divergence(data: Sequence[InventoryHost], servers: Mapping[str, MySQLSurvey]) -> str:
    """Name two members each of which has something that the other lacks."""
    owners = [name for name, server in servers.items() if server.gtid_executed]
    for first in owners:
        for second in owners:
            alone = servers[first].gtid_executed - servers[second].gtid_executed
            other = servers[second].gtid_executed - servers[first].gtid_executed
            if alone and other:
                return (
                    f"{first} has {alone.count()} transactions that {second} lacks, "
                    f"and {second} has {other.count()} that {first} lacks"
                )
    holder = max(servers, key=lambda name: servers[name].gtid_executed.count())
    return f"{holder} has transactions that no data member has ({', '.join(host.name for host in data)})"


def _refused(reason: PrimaryRefusal, message: str, hint: str) -> RefusedError:
    return RefusedError(message, reason=reason.value, hint=hint)
