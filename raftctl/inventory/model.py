"""The inventory as the rest of raftctl sees it: clusters, their hosts and their settings, all checked."""

from __future__ import annotations

import enum
from collections.abc import Collection
from pathlib import Path

import msgspec

from raftctl.cluster.state import Engine, Member, MemberRole, Settings
from raftctl.errors import UsageError

MYSQL_PORT = 3306
RAFT_PORT = 8007
API_PORT = 8008
DIRECTORY = "/var/lib/raftctl"
MYSQL_SOCKET = "/run/mysqld/mysqld.sock"
MYSQL_SERVICE = "mysql.service"
ADMIN_PASSWORD_VARIABLE = "RAFTCTL_MYSQL_PASSWORD"  # noqa: S105  (a name, not a password)


class Connection(enum.StrEnum):
    """`ansible_connection`: how the operator's machine reaches a host."""

    SSH = "ssh"
    LOCAL = "local"


class DurabilityPolicy(enum.StrEnum):
    """Whether the required acknowledgements may be lowered when replicas are lost (rule R6)."""

    STRICT = "strict"
    AVAILABLE = "available"


class SSHAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever is "" (or port 22) is decided by the user's SSH configuration. `jump` is written as ssh's -J takes it,
    `known_hosts` are files separated by blanks, `config_file` replaces the usual two. `become`: commands run by
    sudo when the user is not root."""

    host: str
    port: int = 22
    user: str = ""
    key_file: str = ""
    jump: str = ""
    known_hosts: str = ""
    config_file: str = ""
    become: bool = True


class InventoryHost(msgspec.Struct, frozen=True, kw_only=True):
    """One host of a cluster. `address` is where the other members reach it (an IP address or a name without a
    port); `services` is the socket of a sandbox's supervisor, "" for systemd, which knows mysqld as `mysql_service`."""

    name: str
    role: MemberRole
    connection: Connection
    ssh: SSHAccess
    address: str
    mysql_port: int
    mysql_socket: str
    mysql_service: str
    raft_port: int
    api_port: int
    directory: str
    services: str
    zone: str
    priority: int

    @property
    def member(self) -> Member:
        """The host as the cluster state knows it."""
        return Member(
            name=self.name,
            role=self.role,
            raft=join_address(self.address, self.raft_port),
            api=join_address(self.address, self.api_port),
            mysql=join_address(self.address, self.mysql_port) if self.has_mysql else None,
            zone=self.zone,
            priority=self.priority,
        )

    @property
    def has_mysql(self) -> bool:
        return self.role is not MemberRole.WITNESS


class AdminLogin(msgspec.Struct, frozen=True, kw_only=True):
    """The MySQL account that bootstrap creates raftctl's own accounts with. The password is not here: it
    comes from the environment variable ADMIN_PASSWORD_VARIABLE, else from `password_file` (mode 0600), else
    there is none (authentication by the unix socket)."""

    user: str = "root"
    password_file: str = ""


class ClusterInventory(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster of an inventory file."""

    name: str
    path: Path
    hosts: tuple[InventoryHost, ...]
    engine: Engine
    durability: str
    durability_policy: DurabilityPolicy
    election_timeout: float
    heartbeat_interval: float
    log_batch_size: int
    failover_automatic: bool
    failover_cooldown: float
    monitoring: bool
    admin: AdminLogin
    hooks: dict[str, str]

    @property
    def credentials(self) -> Path:
        """The operator's directory for this cluster: ca.crt, client.crt, client.key, secrets.json."""
        return self.path.absolute().parent / ".raftctl" / self.name

    def host(self, name: str) -> InventoryHost:
        """Raises UsageError when the cluster has no such host."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise UsageError(
            f"{name} is not a member of {self.name}",
            hint=f"its members are {', '.join(host.name for host in self.hosts)}",
        )

    def members(self) -> dict[str, Member]:
        return {host.name: host.member for host in self.hosts}

    def settings(self) -> Settings:
        """The policy that goes into the replicated log."""
        return Settings(
            durability=self.durability,
            durability_policy=self.durability_policy.value,
            failover_automatic=self.failover_automatic,
            failover_cooldown=self.failover_cooldown,
            election_timeout=self.election_timeout,
            heartbeat_interval=self.heartbeat_interval,
        )


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """A whole inventory file: at least one cluster."""

    path: Path
    clusters: dict[str, ClusterInventory]

    def cluster(self, name: str | None = None) -> ClusterInventory:
        """The named cluster, or the only one. Raises UsageError when that is not a choice."""
        names = list(self.clusters)
        if name is None:
            if len(names) > 1:
                raise UsageError(
                    f"{self.path} holds several clusters: {', '.join(names)}", hint="choose one with -c NAME"
                )
            return self.clusters[names[0]]
        if name not in self.clusters:
            raise UsageError(f"{self.path} has no cluster {name}", hint=f"its clusters are {', '.join(names)}")
        return self.clusters[name]


def join_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def data_names(hosts: Collection[InventoryHost]) -> tuple[str, ...]:
    return tuple(sorted(host.name for host in hosts if host.role is MemberRole.DATA))
