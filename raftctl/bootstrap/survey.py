"""What bootstrap finds on the hosts before it touches anything. Only reads; the judgement is preflight's."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import socket
from pathlib import Path

import msgspec

from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.measure import Measures, measure
from raftctl.bootstrap.system import Platform, look
from raftctl.bootstrap.tls import authority_days_left, days_left
from raftctl.cluster.gtid import GTIDSet
from raftctl.controller.config import ControllerConfig, Secrets, parse_config
from raftctl.errors import HostError, MySQLError, RaftctlError, UsageError
from raftctl.hosts.base import Host
from raftctl.hosts.reach import mysql_dialer, reach, services_of
from raftctl.hosts.services import Unit
from raftctl.inventory.model import ADMIN_PASSWORD_VARIABLE, AdminLogin, InventoryHost
from raftctl.mysql.accounts import ADMIN_PRIVILEGES, ADMIN_USER, REPLICATION_USER_PREFIX
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.clone import is_cloning
from raftctl.mysql.errors import AccessDenied
from raftctl.secret import Secret

CALL_SECONDS = 5.0
_SYSTEM_SCHEMAS = frozenset({"mysql", "sys", "performance_schema", "information_schema"})
_INSTALLED_ACCOUNTS = frozenset({"root", "mysql.sys", "mysql.session", "mysql.infoschema", "debian-sys-maint"})
_PORT_SECONDS = 1.0


class ReplicationChannel(msgspec.Struct, frozen=True):
    name: str
    source_host: str
    source_port: int


class UserTables(msgspec.Struct, frozen=True):
    """How many tables there are outside the system's schemas, and how many of them InnoDB does not keep."""

    total: int
    not_innodb: int


class MySQLSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """One server as it was found. `variables` are system variables by lower-case name; `dynamic` are those of them
    that were set at run time, so that the value at the next start is not known. `missing_privileges` are what the login
    lacks to create the cluster's accounts; `accounts` are the members with a replication account; `own_account`:
    raftctl's account works with the password in the secrets. `tables` is None when only that account could look.
    `cloning`: its data are being replaced by another server's; `unused`: nothing is in it but what its installation
    made; `data_bytes` is what a copy of it takes, 0 when only a DBA who may not see that could look."""

    version: str
    server_uuid: str
    variables: dict[str, str]
    dynamic: frozenset[str]
    plugins: frozenset[str]
    gtid_executed: GTIDSet
    gtid_purged: GTIDSet
    tables: UserTables | None
    tls: bool
    channels: tuple[ReplicationChannel, ...] = ()
    missing_privileges: tuple[str, ...] = ()
    accounts: frozenset[str] = frozenset()
    own_account: bool = False
    cloning: bool = False
    unused: bool = False
    data_bytes: int = 0


class HostSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """One host as it was found. An empty error means that all is well with that part. `ports_taken` are the raftctl
    ports that somebody listens on although the controller does not run; `restart_pending`: an interrupted bootstrap has
    not restarted it."""

    name: str
    error: str = ""
    hint: str = ""
    platform: Platform | None = None  # of a host that systemd runs
    services_error: str = ""
    controller_active: bool = False
    ports_taken: tuple[str, ...] = ()
    config: ControllerConfig | None = None
    config_error: str = ""
    restart_pending: bool = False
    certificate: bytes = b""  # the controller's; empty when there is none
    certificate_days_left: float | None = None
    authorities: bytes = b""  # that the controller trusts
    authority_days_left: float | None = None
    measures: Measures | None = None
    measures_error: str = ""
    mysql: MySQLSurvey | None = None
    mysql_error: str = ""
    mysql_hint: str = ""
    mysql_denied: bool = False  # mysqld answers, and no login is right


def admin_secret(login: AdminLogin) -> Secret:
    """The administrator's password from the environment, the file, or none. Raises UsageError."""
    if (value := os.environ.get(ADMIN_PASSWORD_VARIABLE)) is not None:
        return Secret(value)
    if not login.password_file:
        return Secret("")
    path = Path(login.password_file)
    try:
        if path.stat().st_mode & 0o077:
            raise UsageError(f"{path}: others can read the password in it", hint=f"chmod 600 {path}")
        return Secret(path.read_text().rstrip("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the password in {path}: {error}") from None


def own_endpoint(host: InventoryHost, secrets: Secrets) -> Endpoint:
    """raftctl's own account on a host."""
    return _endpoint(host, ADMIN_USER, secrets.admin_password)


def admin_endpoint(host: InventoryHost, login: AdminLogin, password: Secret) -> Endpoint:
    """The DBA's account on a host, with which raftctl's own is created."""
    return _endpoint(host, login.user, password)


def _endpoint(host: InventoryHost, user: str, password: Secret) -> Endpoint:
    return Endpoint(user=user, password=password, unix_socket=host.mysql_socket, dial=mysql_dialer(host))


def survey(host: InventoryHost, *, own: Endpoint, admin: Endpoint) -> HostSurvey:
    """Look at one host. Never raises: what cannot be seen is an error in the result."""
    machine = reach(host)
    try:
        machine.run(["true"], timeout=CALL_SECONDS)
        platform = None if host.services else look(machine, host)
    except HostError as error:
        return HostSurvey(name=host.name, error=_plain(error, host), hint=error.hint)
    found = HostSurvey(name=host.name, platform=platform)
    found = _survey_services(host, found)
    found = _survey_config(host, machine, found)
    if host.has_mysql:
        found = _survey_mysql(found, own=own, admin=admin)
    return _measure(host, machine, found)


def _measure(host: InventoryHost, machine: Host, found: HostSurvey) -> HostSurvey:
    datadir = [found.mysql.variables["datadir"]] if found.mysql is not None else []
    try:
        return msgspec.structs.replace(found, measures=measure(machine, [host.directory, *datadir]))
    except HostError as error:
        return msgspec.structs.replace(found, measures_error=_plain(error, host))


def _survey_services(host: InventoryHost, found: HostSurvey) -> HostSurvey:
    try:
        active = services_of(host).is_active(Unit.CONTROLLER, timeout=CALL_SECONDS)
    except HostError as error:
        return msgspec.structs.replace(found, services_error=_plain(error, host), hint=error.hint)
    ports = {"raftctl_raft_port": host.raft_port, "raftctl_api_port": host.api_port}
    taken = tuple(f"{name} {port}" for name, port in ports.items() if not active and _answers(host.address, port))
    return msgspec.structs.replace(found, controller_active=active, ports_taken=taken)


def _answers(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=_PORT_SECONDS):
        return True
    return False


def _survey_config(host: InventoryHost, machine: Host, found: HostSurvey) -> HostSurvey:
    path = Layout(host.directory).config
    try:
        data = machine.read_file(path)
        config = parse_config(data, name=path) if data is not None else None
        pending = machine.read_file(Layout(host.directory).restart_pending) is not None
        certificate = machine.read_file(Layout(host.directory).certificate) or b""
        authorities = machine.read_file(Layout(host.directory).authority) or b""
    except (HostError, UsageError) as error:
        return msgspec.structs.replace(found, config_error=_plain(error, host))
    now = dt.datetime.now(dt.UTC)
    return msgspec.structs.replace(
        found,
        config=config,
        restart_pending=pending,
        certificate=certificate,
        certificate_days_left=days_left(certificate, now=now),
        authorities=authorities,
        authority_days_left=authority_days_left(authorities, now=now),
    )


def _survey_mysql(found: HostSurvey, *, own: Endpoint, admin: Endpoint) -> HostSurvey:
    """As the DBA, who sees more; as raftctl when only that account can log in."""
    try:
        try:
            own_conn: Connection | None = _log_in(own)
        except AccessDenied:
            own_conn = None
        try:
            conn, is_admin = _log_in(admin), True
        except AccessDenied:
            if own_conn is None:
                raise
            conn, is_admin = own_conn, False
        with conn, own_conn or contextlib.nullcontext():
            # One that an earlier version made may lack a privilege: it is made again by whoever can.
            is_able = own_conn is not None and not (is_admin and _missing_privileges(own_conn))
            mysql = survey_mysql(conn, is_admin=is_admin, own_account=is_able)
    except MySQLError as error:
        denied = isinstance(error, AccessDenied)
        return msgspec.structs.replace(found, mysql_error=str(error), mysql_hint=error.hint, mysql_denied=denied)
    return msgspec.structs.replace(found, mysql=mysql)


def _log_in(endpoint: Endpoint) -> Connection:
    return connect(endpoint, connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS)


def survey_mysql(conn: Connection, *, is_admin: bool, own_account: bool) -> MySQLSurvey:
    """Look at one server. `is_admin`: logged in as the DBA; `own_account`: raftctl's own account works, too.

    Raises MySQLError."""
    variables = _named(conn, "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_variables")
    dynamic = _column(
        conn, "SELECT VARIABLE_NAME FROM performance_schema.variables_info WHERE VARIABLE_SOURCE = 'DYNAMIC'"
    )
    plugins = _column(conn, "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE'")
    tables = _user_tables(conn) if is_admin else None
    channels = conn.query(
        "SELECT CHANNEL_NAME, HOST, PORT FROM performance_schema.replication_connection_configuration"
    )
    tls = _named(conn, "SELECT PROPERTY, VALUE FROM performance_schema.tls_channel_status WHERE CHANNEL = 'mysql_main'")
    return MySQLSurvey(
        version=variables["version"],
        server_uuid=variables["server_uuid"],
        variables=variables,
        dynamic=dynamic,
        plugins=plugins,
        # global_variables cuts values off at 1024 characters
        gtid_executed=GTIDSet.parse(conn.scalar("SELECT @@GLOBAL.gtid_executed")),
        gtid_purged=GTIDSet.parse(conn.scalar("SELECT @@GLOBAL.gtid_purged")),
        tables=tables,
        tls=tls.get("Enabled", "").lower() == "yes",
        channels=tuple(ReplicationChannel(row["CHANNEL_NAME"], row["HOST"], row["PORT"]) for row in channels),
        missing_privileges=_missing_privileges(conn) if is_admin else (),
        accounts=_members_with_account(conn),
        own_account=own_account,
        cloning="clone" in plugins and is_cloning(conn),
        unused=is_admin and not channels and _is_unused(conn),
        data_bytes=_data_bytes(conn) if is_admin else 0,
    )


def _data_bytes(conn: Connection) -> int:
    try:
        return int(conn.scalar("SELECT COALESCE(SUM(FILE_SIZE), 0) FROM information_schema.INNODB_TABLESPACES"))
    except AccessDenied:  # without PROCESS
        return 0


def _user_tables(conn: Connection) -> UserTables:
    row = conn.query(
        "SELECT COUNT(*) AS total, COALESCE(SUM(ENGINE <> 'InnoDB'), 0) AS not_innodb FROM information_schema.TABLES"
        " WHERE TABLE_TYPE = 'BASE TABLE'"
        " AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')"
    )[0]
    return UserTables(int(row["total"]), int(row["not_innodb"]))


def _is_unused(conn: Connection) -> bool:
    """An installation has GTIDs, too: a package's script sets up an account, and MySQL 9.7 begins with gtid_mode ON."""
    schemas = _column(conn, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")
    users = _column(conn, "SELECT user AS user FROM mysql.user")
    own = {user for user in users if user == ADMIN_USER or user.startswith(REPLICATION_USER_PREFIX)}
    return schemas <= _SYSTEM_SCHEMAS and users - own <= _INSTALLED_ACCOUNTS


def _missing_privileges(conn: Connection) -> tuple[str, ...]:
    """Privileges given through roles are not seen."""
    grantable = _column(
        conn,
        "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE IS_GRANTABLE = 'YES'"
        " AND GRANTEE = CONCAT('\\'', REPLACE(CURRENT_USER(), '@', '\\'@\\''), '\\'')",
    )
    return tuple(privilege for privilege in ADMIN_PRIVILEGES if privilege not in grantable)


def _members_with_account(conn: Connection) -> frozenset[str]:
    users = _column(conn, "SELECT user AS user FROM mysql.user")
    prefix = REPLICATION_USER_PREFIX
    return frozenset(user.removeprefix(prefix) for user in users if user.startswith(prefix))


def _named(conn: Connection, sql: str) -> dict[str, str]:
    return dict(tuple(row.values()) for row in conn.query(sql))


def _column(conn: Connection, sql: str) -> frozenset[str]:
    return frozenset(next(iter(row.values())) for row in conn.query(sql))


def _plain(error: RaftctlError, host: InventoryHost) -> str:
    """The message without the host's name, which every finding carries anyway."""
    return str(error).removeprefix(f"{host.name}: ")
