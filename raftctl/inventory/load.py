"""From an inventory file to the checked model."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from raftctl.cluster.membership import PRIORITY_MAX, ZONE_LENGTH_MAX
from raftctl.cluster.state import Engine, MemberRole, Settings
from raftctl.errors import UsageError
from raftctl.inventory import model, relations
from raftctl.inventory.fields import Fields, fault, format_duration, mapping, suggestion
from raftctl.inventory.groups import GroupTree
from raftctl.inventory.model import AdminLogin, ClusterInventory, Connection, Inventory, InventoryHost
from raftctl.inventory.ssh_access import ssh_access
from raftctl.inventory.yaml_file import parse_yaml, read_yaml

ELECTION_TIMEOUT_MIN = 0.05  # seconds; below, the pauses of an ordinary machine look like a dead leader
HEARTBEAT_INTERVAL_MIN = 0.005

# What `raftctl config` changes: names in the inventory, and fields of Settings.
SETTINGS = {
    "durability": "durability",
    "durability_policy": "durability_policy",
    "failover.automatic": "failover_automatic",
    "failover.cooldown": "failover_cooldown",
}

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})"
_NAME = re.compile(rf"(?=.{{1,64}}$){_LABEL}(?:\.{_LABEL})*")  # 64: a certificate's common name ends there
_ZONE = rf"[^\x00-\x1f\x7f]{{1,{ZONE_LENGTH_MAX}}}"
_HOOKS = ("after_promote", "fence")


def find_inventory(explicit: str | Path | None = None) -> Path:
    """The inventory file: the one named, else RAFTCTL_INVENTORY, ./inventory.yaml,
    ~/.config/raftctl/inventory.yaml or /etc/raftctl/inventory.yaml. Raises UsageError when there is none."""
    named = explicit or os.environ.get("RAFTCTL_INVENTORY")
    if named:
        source = "-i" if explicit else "RAFTCTL_INVENTORY"
        try:
            if Path(named).is_file():
                return Path(named)
        except OSError as error:  # a directory that one may not enter, a name that is too long
            raise UsageError(f"cannot read {named}: {error.strerror}", hint=f"{source} names it") from None
        raise UsageError(f"there is no inventory file {named}", hint=f"{source} must name an inventory.yaml")
    usual = [
        Path("inventory.yaml"),
        Path("~/.config/raftctl/inventory.yaml").expanduser(),
        Path("/etc/raftctl/inventory.yaml"),
    ]
    for path in usual:
        with contextlib.suppress(OSError):  # of somebody else: not one's own
            if path.is_file():
                return path
    raise UsageError(
        f"there is no inventory: looked for {', '.join(map(str, usual))}",
        hint="name one with -i FILE or RAFTCTL_INVENTORY; inventory.example.yaml shows the form",
    )


def load_inventory(path: str | Path) -> Inventory:
    """Read and check an inventory file. Raises UsageError with the path to the first fault."""
    path = Path(path)
    return inventory_from(read_yaml(path), path)


def parse_inventory(data: bytes, path: str | Path = "inventory.yaml") -> Inventory:
    """As `load_inventory`, from bytes; `path` stands for the file. Raises UsageError."""
    return inventory_from(parse_yaml(data, name=str(path)), Path(path))


def inventory_from(document: Any, path: Path) -> Inventory:
    """The model of a YAML document that was read from `path`. Raises UsageError."""
    if document is None:
        raise UsageError(f"{path} is empty", hint="inventory.example.yaml shows the form")
    tree = GroupTree(document)
    names = [name for name, group in tree.groups.items() if "raftctl" in group.variables]
    if not names:
        raise UsageError(
            f"{path} holds no cluster: no group has `raftctl:` among its vars",
            hint="inventory.example.yaml shows the form",
        )
    clusters = {name: _cluster(name, tree, path) for name in names}
    relations.check(clusters)
    return Inventory(path=path, clusters=clusters)


_TIMES = ("raft.election_timeout", "raft.heartbeat_interval")
_TIMES_HINT = "Raft's times are those that the inventory had at bootstrap, for good: leases are measured by them"


def changed_settings(path: Path, cluster: str, running: Settings, changes: Mapping[str, Any]) -> Settings:
    """`running` with `changes` by their names in the inventory (`failover.cooldown: 30s`), checked as if they stood in
    the inventory file `path`. Raises UsageError with the path to the fault."""
    tree = GroupTree(read_yaml(path))
    where = (cluster, "raftctl")
    section = dict(mapping(tree.groups[cluster].variables["raftctl"], where))
    for name, value in {**as_written(running), **changes}.items():
        if name not in SETTINGS:
            hint = _TIMES_HINT if name in _TIMES else suggestion(name, SETTINGS)
            fault((*where, *name.split(".")), "cannot be changed while the cluster runs", hint=hint)
        _put(section, name, value, where)
    tree.groups[cluster].variables["raftctl"] = section
    checked = _cluster(cluster, tree, path)
    relations.check({cluster: checked})
    new = checked.settings()
    return msgspec.structs.replace(running, **{field: getattr(new, field) for field in SETTINGS.values()})


def _put(section: dict[str, Any], name: str, value: Any, where: tuple[str, ...]) -> None:
    group, _, key = name.rpartition(".")
    if group:
        section[group] = dict(mapping(section.get(group), (*where, group))) | {key: value}
    else:
        section[key] = value


def as_written(settings: Settings) -> dict[str, str | bool]:
    """The settings that can be changed, by their names in the inventory and as one writes them there."""
    values = {name: getattr(settings, field) for name, field in SETTINGS.items()}
    return {name: format_duration(value) if isinstance(value, float) else value for name, value in values.items()}


def _cluster(name: str, tree: GroupTree, path: Path) -> ClusterInventory:
    if _NAME.fullmatch(name) is None:
        fault((name,), "a cluster's name holds letters, digits, '-', '_' and '.' only, at most 64")
    where = (name, "raftctl")
    top = Fields(mapping(tree.groups[name].variables["raftctl"], where), where)
    mysql = top.section("mysql")
    mysql_port = mysql.port("port", model.MYSQL_PORT)
    mysql_socket = mysql.absolute_path("socket", model.MYSQL_SOCKET)
    mysql_service = _service(mysql, "service", model.MYSQL_SERVICE)
    admin = AdminLogin(
        user=mysql.text("admin_user", "root", pattern=r"[^\x00-\x1f\x7f]{1,32}", form="a user name"),
        password_file=mysql.absolute_path("admin_password_file", ""),
    )
    mysql.done()
    raft, failover = top.section("raft"), top.section("failover")
    monitoring, hooks = top.section("monitoring"), top.section("hooks")
    cluster = ClusterInventory(
        name=name,
        path=path,
        hosts=tuple(
            _host(host, name, tree, mysql_port=mysql_port, mysql_socket=mysql_socket, mysql_service=mysql_service)
            for host in tree.hosts_of(name)
        ),
        engine=top.choice("engine", Engine.SEMI_SYNC),
        durability=top.text(
            "durability",
            "majority",
            pattern=r"majority|all|async|[1-9][0-9]{0,2}",
            form="majority, all, async or a number of replica acknowledgements",
        ),
        durability_policy=top.choice("durability_policy", model.DurabilityPolicy.STRICT),
        election_timeout=raft.duration("election_timeout", 1.0, low=ELECTION_TIMEOUT_MIN),
        heartbeat_interval=raft.duration("heartbeat_interval", 0.1, low=HEARTBEAT_INTERVAL_MIN),
        log_batch_size=raft.integer("log_batch_size", 100, low=1, high=10_000),
        failover_automatic=failover.boolean("automatic", True),
        failover_cooldown=failover.duration("cooldown", 60.0, low=0.0),
        monitoring=monitoring.boolean("enabled", True),
        admin=admin,
        hooks={hook: program for hook in _HOOKS if (program := hooks.absolute_path(hook, ""))},
    )
    for section in (top, raft, failover, monitoring, hooks):
        section.done()
    return cluster


def _host(
    name: str, cluster: str, tree: GroupTree, *, mysql_port: int, mysql_socket: str, mysql_service: str
) -> InventoryHost:
    if _NAME.fullmatch(name) is None:
        fault((cluster, name), "a host's name holds letters, digits, '-', '_' and '.' only, at most 64")
    variables = tree.variables_of(name)
    for variable, origin in variables.items():
        if variable == "raftctl" and origin.path[-1] == name:
            fault((*origin.path, "raftctl"), "stands at a host", hint="it belongs into the vars of a group")
        if variable.startswith("raftctl") and variable != "raftctl" and variable[7] != "_":
            fault((*origin.path, variable), "is not a setting: raftctl's begin with raftctl_")
    values = {variable: origin.value for variable, origin in variables.items()}
    # The path in an error names the cluster, unless the value stands in another group's vars.
    origins = {
        variable: (cluster, name) if origin.path[-1] == name else origin.path for variable, origin in variables.items()
    }
    ansible = Fields(values, (cluster, name), prefix="ansible_", origins=origins)
    own = Fields(values, (cluster, name), prefix="raftctl_", origins=origins)
    ssh = ssh_access(ansible, _address(ansible, "host", name))
    host = InventoryHost(
        name=name,
        role=own.choice("role", MemberRole.DATA),
        connection=ansible.choice("connection", Connection.SSH),
        ssh=ssh,
        address=_address(own, "address", ssh.host),
        mysql_port=own.port("mysql_port", mysql_port),
        mysql_socket=own.absolute_path("mysql_socket", mysql_socket),
        mysql_service=_service(own, "mysql_service", mysql_service),
        raft_port=own.port("raft_port", model.RAFT_PORT),
        api_port=own.port("api_port", model.API_PORT),
        directory=own.absolute_path("dir", model.DIRECTORY),
        services=own.absolute_path("services", ""),
        zone=own.text("zone", "", pattern=_ZONE, form=f"a text of at most {ZONE_LENGTH_MAX} characters"),
        priority=own.integer("priority", 0, low=-PRIORITY_MAX, high=PRIORITY_MAX),
    )
    own.done()
    return host


def _service(fields: Fields, key: str, default: str) -> str:
    """A systemd unit: `mysqld` and `mysqld.service` are the same."""
    name = fields.text(key, default, pattern=r"[A-Za-z0-9:_.@-]+", form="the name of a systemd service")
    return name if name.endswith(".service") else f"{name}.service"


def _address(fields: Fields, key: str, default: str) -> str:
    text = fields.text(key, default)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if len(text) > 253 or re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})*\.?", text) is None:
            fields.fault(key, f"must be an IP address or a host name, not {text!r}")
        return text
