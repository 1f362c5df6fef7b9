"""What one host still lacks: accounts, files, a running controller. Worked out first, carried out afterwards."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Mapping, Sequence

import msgspec

from raftctl.bootstrap.credentials import Credentials
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.mysqld_options import option_file, server_id
from raftctl.bootstrap.preflight import differing, is_to_be_configured, serves
from raftctl.bootstrap.survey import HostSurvey, MySQLSurvey
from raftctl.bootstrap.system import HostFile, SystemPlan, plan_system
from raftctl.bootstrap.tls import KeyPair, is_current, issue_node
from raftctl.cluster.state import Member, Settings
from raftctl.controller import config as c
from raftctl.hosts.base import Host
from raftctl.inventory.model import ClusterInventory, InventoryHost, join_address
from raftctl.mysql.accounts import ADMIN_USER, create_admin, create_replication_account, replication_user
from raftctl.mysql.client import Connection


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`accounts` are the members whose replication account is missing. `files` are in the order of writing: the
    configuration last, since a supervisor starts the controller once it is there. `reopen`: applications write to this
    mysqld, so after its restart it takes writes again until the cluster begins. `server_id` is to be set while mysqld
    runs, None when it stays or a restart sets it."""

    host: InventoryHost
    system: SystemPlan
    admin_account: bool
    accounts: tuple[str, ...]
    files: tuple[HostFile, ...]
    start: bool
    restart: bool
    reopen: bool = False
    server_id: int | None = None

    @property
    def changes(self) -> list[str]:
        """One line for each kind of thing to be done."""
        lines = self.system.changes
        users = [*([ADMIN_USER] if self.admin_account else []), *map(replication_user, self.accounts)]
        names = [file.path.removeprefix(f"{self.host.directory}/") for file in self.files]
        if self.reopen:
            lines.append("mysqld takes writes again after its restart")
        if self.server_id is not None:
            lines.append(f"server_id set to {self.server_id}, without a restart")
        if users:
            lines.append(f"MySQL accounts created: {', '.join(users)}")
        if names:
            lines.append(f"files written to {self.host.directory}: {', '.join(names)}")
        if self.start or self.restart:
            lines.append("controller started" if self.start else "controller restarted with its new files")
        return [f"{self.host.name}: {line}" for line in lines]


def plan_host(
    cluster: ClusterInventory,
    host: InventoryHost,
    machine: Host,
    found: HostSurvey,
    credentials: Credentials,
    *,
    now: dt.datetime,
    members: Mapping[str, Member] | None = None,
    joins: bool = False,
    settings: Settings | None = None,
) -> HostPlan:
    """Reads the host's files, changes nothing. `members` are all of the cluster, by default those of the inventory;
    `joins`: this one is added to those that run; `settings` are what a running cluster follows, whatever the inventory
    says. Raises HostError."""
    members = members or cluster.members()
    passwords = credentials.secrets.replication_passwords
    replicating = [m.name for m in members.values() if m.mysql and not m.uid and m.name in passwords]
    config = controller_config(cluster, host, cluster_id=credentials.secrets.cluster_id)
    times = settings or cluster.settings()
    config = msgspec.structs.replace(
        config,
        raft=msgspec.structs.replace(
            config.raft, election_timeout=times.election_timeout, heartbeat_interval=times.heartbeat_interval
        ),
        peers=dict(members),
        joins=found.config.joins if found.config else joins,
    )
    files = tuple(_outdated(machine, _files(config, host, machine, credentials, now=now)))
    system = _system(host, machine, found, credentials)
    wanted_id = server_id(credentials.secrets.cluster_id, host.name)
    return HostPlan(
        host=host,
        system=system,
        admin_account=found.mysql is not None and not found.mysql.own_account,
        accounts=tuple(member for member in replicating if _lacks_account(found.mysql, member)),
        files=files,
        start=not found.controller_active,
        restart=found.controller_active and bool(files or system.replaces_controller or found.restart_pending),
        reopen=system.restart_mysqld and found.mysql is not None and serves(found.mysql),
        server_id=wanted_id if not system.restart_mysqld and _wants_another_id(found, wanted_id) else None,
    )


def _lacks_account(mysql: MySQLSurvey | None, member: str) -> bool:
    """Without raftctl's own account, which is made last, one that is there may not have its privileges yet."""
    return mysql is not None and (not mysql.own_account or member not in mysql.accounts)


def _system(host: InventoryHost, machine: Host, found: HostSurvey, credentials: Credentials) -> SystemPlan:
    if found.platform is None:
        return SystemPlan()
    options, restart = None, False
    if found.mysql is not None:
        cluster_id, variables = credentials.secrets.cluster_id, found.mysql.variables
        options = option_file(host, cluster_id, version=found.mysql.version, variables=variables)
        restart = is_to_be_configured(found) and _needs_restart(host, found, server_id(cluster_id, host.name))
    return plan_system(host, machine, found.platform, options=options, restart_mysqld=restart)


def _needs_restart(host: InventoryHost, found: HostSurvey, wanted_id: int) -> bool:
    """A primary at work that is set up well is left running: its server_id can change meanwhile, and the option file
    says what it starts with."""
    assert found.mysql is not None
    return bool(differing(host, found.mysql)) or (not serves(found.mysql) and _wants_another_id(found, wanted_id))


def _wants_another_id(found: HostSurvey, wanted_id: int) -> bool:
    return (
        is_to_be_configured(found)
        and found.mysql is not None
        and found.mysql.variables.get("server_id") != str(wanted_id)
    )


def create_accounts(conn: Connection, plan: HostPlan, secrets: c.Secrets) -> None:
    """raftctl's own account last: when it works, the others are there. Raises MySQLError."""
    for member in plan.accounts:
        create_replication_account(conn, member, secrets.replication_passwords[member])
    if plan.admin_account:
        create_admin(conn, secrets.admin_password)


def write_files(machine: Host, plan: HostPlan) -> None:
    """Raises HostError."""
    layout = Layout(plan.host.directory)
    for directory in (layout.directory, layout.tls, layout.state):
        machine.make_dir(directory, mode=0o700)
    for file in plan.files:
        machine.write_file(file.path, file.data, mode=file.mode)


def controller_config(cluster: ClusterInventory, host: InventoryHost, *, cluster_id: str) -> c.ControllerConfig:
    """The configuration of the controller on `host`."""
    layout = Layout(host.directory)
    mysql = c.MySQLConfig(socket=host.mysql_socket, host=host.address, port=host.mysql_port)
    return c.ControllerConfig(
        cluster=cluster.name,
        cluster_id=cluster_id,
        node=host.name,
        directory=layout.state,
        secrets_file=layout.secrets,
        raft=c.RaftConfig(
            listen=_listen(host.address, host.raft_port),
            election_timeout=cluster.election_timeout,
            heartbeat_interval=cluster.heartbeat_interval,
            log_batch_size=cluster.log_batch_size,
        ),
        api=c.ApiConfig(
            listen=_listen(host.address, host.api_port),
            cert=layout.certificate,
            key=layout.key,
            ca=layout.authority,
        ),
        peers=cluster.members(),
        mysql=mysql if host.has_mysql else None,
        services=_services(host),
        monitoring=cluster.monitoring,
        hooks=cluster.hooks,
    )


def _services(host: InventoryHost) -> c.ServicesConfig:
    if host.services:
        return c.ServicesConfig(kind="supervisor", socket=host.services)
    return c.ServicesConfig(kind="systemd", mysqld_unit=host.mysql_service)


def _files(
    config: c.ControllerConfig,
    host: InventoryHost,
    machine: Host,
    credentials: Credentials,
    *,
    now: dt.datetime,
) -> list[HostFile]:
    layout = Layout(host.directory)
    pair = _certificate(host, config.member.uid, machine, credentials.authority, now=now)
    return [
        HostFile(layout.secrets, c.dump_secrets(credentials.secrets), 0o600),
        HostFile(layout.authority, credentials.authority.certificate, 0o644),
        HostFile(layout.key, pair.key, 0o600),
        HostFile(layout.certificate, pair.certificate, 0o644),
        HostFile(layout.config, c.dump(config), 0o600),
    ]


def _certificate(host: InventoryHost, uid: str, machine: Host, authority: KeyPair, *, now: dt.datetime) -> KeyPair:
    """The one on the host as long as it will do: its key is nowhere else."""
    layout = Layout(host.directory)
    pair = KeyPair(machine.read_file(layout.certificate) or b"", machine.read_file(layout.key) or b"")
    if is_current(pair, authority.certificate, now=now, member=host.name, address=host.address, uid=uid):
        return pair
    return issue_node(authority, host.name, host.address, now=now, uid=uid)


def _outdated(machine: Host, files: Sequence[HostFile]) -> list[HostFile]:
    return [file for file in files if machine.read_file(file.path) != file.data]


def _listen(address: str, port: int) -> str:
    """A name may mean a loopback address on its own host (Debian's 127.0.1.1): listen everywhere then."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        address = "0.0.0.0"  # noqa: S104
    return join_address(address, port)
