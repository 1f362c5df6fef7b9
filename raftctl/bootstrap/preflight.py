"""Are these hosts fit to be the cluster? Pure: what was found (raftctl.bootstrap.survey) in, findings out."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from raftctl.bootstrap import system
from raftctl.bootstrap.finding import Finding, Severity
from raftctl.bootstrap.host_checks import check_hosts
from raftctl.bootstrap.survey import HostSurvey, MySQLSurvey
from raftctl.cluster.issues import CERTIFICATE_WARNING_DAYS
from raftctl.controller.config import Secrets
from raftctl.errors import MySQLError
from raftctl.inventory.model import ClusterInventory, InventoryHost
from raftctl.inventory.relations import even_number
from raftctl.mysql.server_config import Setting, member_settings
from raftctl.mysql.version import ServerVersion

# Settings of member_settings that replication's safety stands on: a server that differs is not taken.
REQUIRED_SETTINGS = (
    "gtid_mode",
    "enforce_gtid_consistency",
    "log_bin",
    "log_replica_updates",
    "binlog_format",
    "sync_binlog",
    "innodb_flush_log_at_trx_commit",
    "sync_relay_log",
    "relay_log_recovery",
    "replica_preserve_commit_order",
    "super_read_only",
    "skip_replica_start",
)
# A controller switches these while mysqld runs, by setting one of these variables: read_only = OFF ends both.
SWITCHED_SETTINGS = {
    "super_read_only": frozenset({"super_read_only", "read_only"}),
    "sync_relay_log": frozenset({"sync_relay_log"}),
}
# Others work, with a disadvantage.
ADVISED_SETTINGS = ("replica_net_timeout",)
REQUIRED_PLUGINS = ("rpl_semi_sync_source", "rpl_semi_sync_replica", "clone")
FORMER_PLUGINS = frozenset({"rpl_semi_sync_master", "rpl_semi_sync_slave"})

_SETTING_MEND = "set it in the option file of mysqld and restart it"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_WORDS = {"1": "ON", "0": "OFF"}
_SWITCHES = frozenset({"ON", "OFF"})


def judge(cluster: ClusterInventory, surveys: Mapping[str, HostSurvey], secrets: Secrets) -> list[Finding]:
    """All findings, host by host in the order of the inventory, then those about several hosts."""
    findings: list[Finding] = []
    for host in cluster.hosts:
        findings += _host(host, surveys[host.name], secrets)
    findings += check_hosts({host.name: surveys[host.name] for host in cluster.hosts})
    if even := even_number(len(cluster.hosts)):
        mend = "add a host (raftctl_role: witness needs no MySQL) or remove one"
        findings.append(Finding(cluster.name, "voters", Severity.WARN, even, mend))
    servers = {name: survey.mysql for name, survey in surveys.items() if survey.mysql is not None}
    findings += _unique(servers, "server_uuid", "delete auto.cnf in the data directory of one and restart it")
    findings += _compatible(servers)
    set_already = {name: mysql for name, mysql in servers.items() if not is_to_be_configured(surveys[name])}
    findings += _unique(set_already, "server_id", _SETTING_MEND)
    return findings


def is_to_be_configured(found: HostSurvey) -> bool:
    """Whether bootstrap writes mysqld's settings and restarts it: not once a controller relies on that mysqld."""
    return found.platform is not None and found.config is None


def unsafe(host: InventoryHost, mysql: MySQLSurvey) -> list[Finding]:
    """What is wrong with how a mysqld is set up."""
    return failures([*_settings(host, mysql), *_plugins(host, mysql), *_network(host, mysql)])


def failures(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity is Severity.FAIL]


def _host(host: InventoryHost, found: HostSurvey, secrets: Secrets) -> Iterator[Finding]:
    if found.error:
        yield _fail(host.name, "host", found.error, found.hint)
        return
    if found.platform is not None and (problem := system.unfit(host, found.platform)):
        yield _fail(host.name, "platform", problem, "see the requirements in README.md")
    elif found.platform is not None:
        version = ".".join(map(str, found.platform.python))
        yield _pass(host.name, "platform", f"systemd, Python {version}, {found.platform.machine}")
    yield from _services(host, found)
    yield from _certificate(host, found)
    yield from _ownership(host, found, secrets)
    if not host.has_mysql:
        return
    if found.mysql is None:
        yield _fail(host.name, "mysql", *_explain_login(host, found))
        return
    yield _pass(host.name, "mysql", f"answers at {host.mysql_socket}")
    yield from _version(host, found.mysql)
    if is_to_be_configured(found):
        yield _to_be_set(host, found.mysql)
        yield from _port(host, found.mysql)
    else:
        if not failures(findings := list(_settings(host, found.mysql))):
            shown = ("gtid_mode", "binlog_format", "sync_binlog")
            values = ", ".join(f"{name} {found.mysql.variables.get(name, '?')}" for name in shown)
            yield _pass(host.name, "settings", f"as a member's must be ({values} ...)")
        yield from findings
        yield from _plugins(host, found.mysql)
        yield from _network(host, found.mysql)
    yield from _former_plugins(host, found.mysql)
    yield from _login(host, found.mysql)
    yield from _data(host, found.mysql)


def _certificate(host: InventoryHost, found: HostSurvey) -> Iterator[Finding]:
    ends = (
        (found.certificate_days_left, "the controller's certificate", "`raftctl rotate certificates`"),
        (found.authority_days_left, "the authority that it trusts", "`raftctl rotate certificates --authority`"),
    )
    for left, what, mend in ends:
        if left is None or left >= CERTIFICATE_WARNING_DAYS:
            continue
        if left > 0:
            yield Finding(host.name, "certificate", Severity.WARN, f"{what} expires in {left:.0f} days", mend)
        else:
            mend = "`raftctl bootstrap` writes new ones"
            yield Finding(host.name, "certificate", Severity.WARN, f"{what} has expired", mend)


def _services(host: InventoryHost, found: HostSurvey) -> Iterator[Finding]:
    if found.services_error:
        yield _fail(host.name, "services", found.services_error, found.hint)
        return
    yield _pass(host.name, "services", "the controller runs" if found.controller_active else "no controller runs yet")
    if not found.ports_taken:
        user = "the controller has" if found.controller_active else "nobody uses"
        ports = f"raftctl_raft_port {host.raft_port}, raftctl_api_port {host.api_port}"
        yield _pass(host.name, "ports", f"{ports}: {user} them")
    for port in found.ports_taken:
        yield _fail(
            host.name, "ports", f"{port} is in use by something else", "stop that, or choose another port for raftctl"
        )


def _ownership(host: InventoryHost, found: HostSurvey, secrets: Secrets) -> Iterator[Finding]:
    """A controller of another cluster, or of this one under credentials that are not here, is not overwritten."""
    if found.config_error:
        yield _fail(host.name, "controller", found.config_error, "mend or remove that file")
    elif found.config is not None and found.config.cluster_id != secrets.cluster_id:
        yield _fail(
            host.name,
            "controller",
            f"it is configured for a cluster {found.config.cluster} with other credentials than those here",
            "copy the .raftctl directory from the machine that bootstrapped it, or purge that controller first",
        )


def _explain_login(host: InventoryHost, found: HostSurvey) -> tuple[str, str]:
    if found.mysql_denied:
        return found.mysql_error, "RAFTCTL_MYSQL_PASSWORD or mysql.admin_password_file must hold the password"
    return found.mysql_error, found.mysql_hint or f"is mysqld running, and is its socket {host.mysql_socket}?"


def _version(host: InventoryHost, mysql: MySQLSurvey) -> Iterator[Finding]:
    try:
        ServerVersion.parse(mysql.version)
    except MySQLError as error:
        yield _fail(host.name, "version", str(error), error.hint)
    else:
        yield _pass(host.name, "version", f"MySQL {mysql.version}")


def _to_be_set(host: InventoryHost, mysql: MySQLSurvey) -> Finding:
    """Bootstrap writes the option file here; what differs takes a restart, which clients of a server at work notice."""
    names = differing(host, mysql)
    if not names:
        return _pass(host.name, "settings", "as a member's must be, no restart is needed")
    what = f"bootstrap sets {', '.join(names)} and restarts mysqld"
    if not serves(mysql):
        return _pass(host.name, "settings", what)
    mend = "its clients lose their connections once; set these yourself before if that must not be"
    return Finding(host.name, "settings", Severity.WARN, what, mend)


def differing(host: InventoryHost, mysql: MySQLSurvey) -> list[str]:
    """What a restart with raftctl's option file would change in a server that bootstrap has not set up yet."""
    at_rest = mysql
    if serves(mysql):  # it is writable because it is at work; the option file is what it starts with
        at_rest = msgspec.structs.replace(mysql, variables={**mysql.variables, "super_read_only": "ON"})
    names = [
        setting.name
        for setting in _expected()
        if setting.name in REQUIRED_SETTINGS
        and not _same(setting.name, at_rest.variables.get(setting.name, ""), setting.value)
        and not SWITCHED_SETTINGS.get(setting.name, frozenset()) & at_rest.dynamic
    ]
    if list(_plugins(host, mysql)):
        names.append("plugin_load_add")
    if failures(list(_network(host, mysql))):
        names.append("its network settings")
    if serves(mysql) and not mysql.variables.get("admin_address"):
        names.append("admin_address")
    return names


def serves(mysql: MySQLSurvey) -> bool:
    """Whether applications write to it: it takes writes, and has some. A new server takes writes, too, and is empty."""
    return mysql.variables.get("read_only", "") in ("OFF", "0") and bool(mysql.gtid_executed)


def _settings(host: InventoryHost, mysql: MySQLSurvey) -> Iterator[Finding]:
    for setting in _expected():
        actual = mysql.variables.get(setting.name, "")
        if _same(setting.name, actual, setting.value):
            continue
        if SWITCHED_SETTINGS.get(setting.name, frozenset()) & mysql.dynamic:
            continue  # its controller, or a person, switched it: the value at the next start cannot be seen
        severity = Severity.FAIL if setting.name in REQUIRED_SETTINGS else Severity.WARN
        what = f"{setting.name} is {actual or 'unknown'}, must be {_shown(setting)}: {setting.why}"
        yield Finding(host.name, "settings", severity, what, _SETTING_MEND)


def _expected() -> list[Setting]:
    everything = member_settings(version=(9, 0, 0), server_id=1, report_host="", report_port=0, admin_port=0)
    return [setting for setting in everything if setting.name in (*REQUIRED_SETTINGS, *ADVISED_SETTINGS)]


def _same(name: str, actual: str, expected: str) -> bool:
    if name == "log_bin":
        return actual == "ON"  # the variable says whether, the option how the files are called
    if expected in _SWITCHES:
        return _WORDS.get(actual, actual.upper()) == expected
    return actual.upper() == expected.upper()


def _shown(setting: Setting) -> str:
    return "ON" if setting.name == "log_bin" else setting.value


def _plugins(host: InventoryHost, mysql: MySQLSurvey) -> Iterator[Finding]:
    missing = [plugin for plugin in REQUIRED_PLUGINS if plugin not in mysql.plugins]
    if missing:
        mend = "plugin_load_add = 'semisync_source.so;semisync_replica.so;mysql_clone.so' in the option file of mysqld"
        yield _fail(host.name, "plugins", f"not loaded: {', '.join(missing)}", mend)


def _former_plugins(host: InventoryHost, mysql: MySQLSurvey) -> Iterator[Finding]:
    """The semi-sync plugins by the names they had before 8.0.26: a server with them does not load the present ones, and
    does not start with their settings. https://dev.mysql.com/doc/refman/8.0/en/replication-semisync-installation.html
    """
    if former := sorted(FORMER_PLUGINS & mysql.plugins):
        mend = "; ".join(f"UNINSTALL PLUGIN {name}" for name in former)
        what = f"{', '.join(former)}: the former semi-sync plugins and the present ones exclude each other"
        yield _fail(host.name, "plugins", what, f"{mend}; and take rpl_semi_sync_* out of the option files")


def _port(host: InventoryHost, mysql: MySQLSurvey) -> Iterator[Finding]:
    port = mysql.variables.get("port", "")
    if port != str(host.mysql_port):
        yield _fail(
            host.name,
            "network",
            f"the mysqld at {host.mysql_socket} listens on port {port}, the inventory says {host.mysql_port}",
            "set raftctl_mysql_port, or raftctl_mysql_socket if it is another mysqld",
        )


def _network(host: InventoryHost, mysql: MySQLSurvey) -> Iterator[Finding]:
    bound = mysql.variables.get("bind_address", "*")
    if _same("", mysql.variables.get("skip_networking", "OFF"), "ON"):
        yield _fail(host.name, "network", "mysqld does not listen on the network", "remove skip_networking")
    elif wrong := list(_port(host, mysql)):
        yield from wrong
    elif bound in _LOOPBACK and host.address not in _LOOPBACK:
        mend = f"bind_address = {host.address} in the option file of mysqld"
        yield _fail(host.name, "network", f"mysqld listens on {bound} only: the others cannot reach it", mend)
    if not mysql.tls:
        mend = "mysqld makes its own certificates at its first start: see ssl_cert and auto_generate_certs"
        yield _fail(host.name, "network", "mysqld offers no TLS, which replication uses", mend)


def _login(host: InventoryHost, mysql: MySQLSurvey) -> Iterator[Finding]:
    if mysql.own_account:
        yield _pass(host.name, "privileges", "raftctl's own account works")
    elif not mysql.missing_privileges:
        yield _pass(host.name, "privileges", "the login can create raftctl's accounts")
    else:
        what = f"the login cannot grant {', '.join(mysql.missing_privileges)} (unless through a role)"
        yield Finding(host.name, "privileges", Severity.WARN, what, "use an account such as root")


def _data(host: InventoryHost, mysql: MySQLSurvey) -> Iterator[Finding]:
    if mysql.tables is not None and mysql.tables.not_innodb:
        yield Finding(
            host.name,
            "data",
            Severity.WARN,
            f"{mysql.tables.not_innodb} tables are not InnoDB's: they survive no crash and are not cloned",
            "ALTER TABLE ... ENGINE=InnoDB",
        )
    elif mysql.tables is not None:
        total = mysql.tables.total
        yield _pass(host.name, "data", f"{total} tables, all of them InnoDB's" if total else "no tables yet")
    for channel in mysql.channels:
        if channel.name:
            yield _fail(
                host.name,
                "data",
                f"replicates from {channel.source_host}:{channel.source_port} on the channel {channel.name!r}",
                "one source for each member: RESET REPLICA ALL FOR CHANNEL ... when that is no longer needed",
            )


def _compatible(servers: Mapping[str, MySQLSurvey]) -> Iterator[Finding]:
    """A replica may be newer than its source, not older, and CLONE wants one series: an upgrade passes through that,
    nobody should stay there. https://dev.mysql.com/doc/refman/8.4/en/replication-compatibility.html"""
    series: dict[str, tuple[int, int]] = {}
    for host, mysql in servers.items():
        with contextlib.suppress(MySQLError):
            series[host] = ServerVersion.parse(mysql.version)[:2]
    newest = max(series, key=lambda host: series[host], default="")
    for host, found in series.items():
        if found < series[newest]:
            what = f"MySQL {servers[host].version} is older than {newest}'s {servers[newest].version}"
            why = "it cannot follow that one, nor be copied to it"
            yield Finding(host, "version", Severity.WARN, f"{what}: {why}", "upgrade it: playbooks/upgrade.yml")


def _unique(servers: Mapping[str, MySQLSurvey], name: str, mend: str) -> Iterator[Finding]:
    holders: dict[str, list[str]] = defaultdict(list)
    for host, mysql in servers.items():
        holders[mysql.variables.get(name, "")].append(host)
    for value, hosts in holders.items():
        if len(hosts) == 1:
            yield _pass(hosts[0], "identity", f"{name} {value} is nobody else's")
        for host in hosts[1:]:
            yield _fail(host, "identity", f"{name} {value} is {hosts[0]}'s, too", mend)


def _pass(host: str, check: str, what: str) -> Finding:
    return Finding(host, check, Severity.PASS, what)


def _fail(host: str, check: str, what: str, mend: str) -> Finding:
    return Finding(host, check, Severity.FAIL, what, mend)
