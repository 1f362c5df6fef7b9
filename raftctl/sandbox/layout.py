"""What a sandbox consists of: decided once by `sandbox up`, kept in DIR/sandbox.json, and the files made from it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from raftctl.errors import UsageError
from raftctl.inventory.yaml_file import parse_yaml
from raftctl.sandbox.host import SOCKET_PATH_BYTES_MAX
from raftctl.sandbox.mysqld import MySQLPlace
from raftctl.sandbox.network import LOOPBACK, NamespaceNetwork, free_ports, free_subnet

CLUSTER = "sandbox"
BASE_IMAGE = "debian:trixie-slim"  # of containers
CONTAINER_USER = "dba"  # of the containers' image, with sudo
KEY_FILE, KNOWN_HOSTS_FILE = "key", "known_hosts"  # of SSH to containers
_FILE = "sandbox.json"
_MYSQL_PORT, _ADMIN_PORT, _RAFT_PORT, _API_PORT = 3306, 33062, 8007, 8008  # in namespaces nobody else has them
_MEMBERS_MAX = 9
_LONGEST_SOCKET = "/w99/run/supervisor.sock.lock"


class Shape(msgspec.Struct, frozen=True):
    """What `sandbox up` was asked for. `settings` are the cluster's raftctl vars by dotted name; `image` is what the
    hosts' containers are built upon, "" for local processes."""

    nodes: int
    witnesses: int
    namespaces: bool
    settings: dict[str, str]
    image: str = ""


class SandboxMember(msgspec.Struct, frozen=True):
    name: str
    witness: bool
    address: str
    mysql_port: int
    admin_port: int
    raft_port: int
    api_port: int


class Layout(msgspec.Struct, frozen=True):
    """`tag` is unique among the sandboxes of this machine; `subnet` is "" on loopback; `image` as in Shape."""

    members: tuple[SandboxMember, ...]
    settings: dict[str, str]
    tag: str
    subnet: str = ""
    image: str = ""

    def member(self, name: str) -> SandboxMember:
        """Raises UsageError when there is none of that name."""
        for member in self.members:
            if member.name == name:
                return member
        known = ", ".join(member.name for member in self.members)
        raise UsageError(f"{name} is not a member of this sandbox", hint=f"its members are {known}")

    @property
    def shape(self) -> Shape:
        witnesses = sum(member.witness for member in self.members)
        namespaces = bool(self.subnet) and not self.image
        return Shape(len(self.members) - witnesses, witnesses, namespaces, self.settings, self.image)

    @property
    def names(self) -> list[str]:
        return [member.name for member in self.members]

    def network(self) -> NamespaceNetwork | None:
        """The members' network namespaces, None on loopback and of containers."""
        return NamespaceNetwork(self.tag, self.subnet, self.names) if self.subnet and not self.image else None

    def place(self, directory: Path, member: SandboxMember) -> MySQLPlace:
        return MySQLPlace(
            directory=directory / member.name,
            server_id=self.names.index(member.name) + 1,
            address=member.address,
            port=member.mysql_port,
            admin_port=member.admin_port,
        )


def extend(layout: Layout, *, witness: bool) -> Layout:
    """The layout with one more member. Raises UsageError when there are enough, HostError without free ports."""
    if len(layout.members) == _MEMBERS_MAX:
        raise UsageError(f"a sandbox has at most {_MEMBERS_MAX} members")
    prefix = "w" if witness else "db"
    name = next(name for n in range(1, _MEMBERS_MAX + 1) if (name := f"{prefix}{n}") not in layout.names)
    names = [*layout.names, name]
    if layout.subnet:
        address = NamespaceNetwork(layout.tag, layout.subnet, names).address(name)
        ports = [_MYSQL_PORT, _ADMIN_PORT, _RAFT_PORT, _API_PORT]
    else:
        address, ports = LOOPBACK, free_ports(4)
    member = SandboxMember(name, witness, address, *ports)
    return msgspec.structs.replace(layout, members=(*layout.members, member))


def plan(directory: Path, shape: Shape) -> Layout:
    """A new layout for `directory`: members db1.. and w1.., with addresses and ports that are free now.

    Raises UsageError or HostError; nothing is changed.
    """
    if shape.nodes < 1 or shape.witnesses < 0 or shape.nodes + shape.witnesses > _MEMBERS_MAX:
        raise UsageError(f"a sandbox has 1 to {_MEMBERS_MAX} members with witnesses, at least one of them with data")
    if not shape.image and len(os.fsencode(f"{directory}{_LONGEST_SOCKET}")) > SOCKET_PATH_BYTES_MAX:
        raise UsageError(
            f"{directory} is too long: unix sockets below it would have over {SOCKET_PATH_BYTES_MAX} bytes",
            hint="choose a directory with a shorter path",
        )
    tag = hashlib.sha256(os.fsencode(directory)).hexdigest()[:6]
    names = [*(f"db{n}" for n in range(1, shape.nodes + 1)), *(f"w{n}" for n in range(1, shape.witnesses + 1))]
    own_network = shape.namespaces or bool(shape.image)
    subnet = free_subnet(int(tag, 16)) if own_network else ""
    network = NamespaceNetwork(tag, subnet, names) if own_network else None
    ports = iter(free_ports(4 * len(names)))
    members = []
    for name in names:
        if network:
            address, own = network.address(name), (_MYSQL_PORT, _ADMIN_PORT, _RAFT_PORT, _API_PORT)
        else:
            address, own = LOOPBACK, (next(ports), next(ports), next(ports), next(ports))
        members.append(SandboxMember(name, name.startswith("w"), address, *own))
    return Layout(members=tuple(members), settings=shape.settings, tag=tag, subnet=subnet, image=shape.image)


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """`key=value` texts with dotted keys as a mapping. Raises UsageError."""
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise UsageError(f"a setting is given as key=value, not {text!r}", hint="for example failover.cooldown=5s")
        if not value.strip():
            raise UsageError(f"{text} gives no value", hint="for example failover.cooldown=5s")
        settings[key] = value
    return settings


def exists(directory: Path) -> bool:
    """Whether `directory` is a sandbox."""
    return (directory / _FILE).exists()


def load(directory: Path) -> Layout:
    """The layout of the sandbox in `directory`. Raises UsageError when there is none."""
    try:
        return msgspec.json.decode((directory / _FILE).read_bytes(), type=Layout)
    except FileNotFoundError:
        raise UsageError(f"{directory} is not a sandbox", hint=f"`raftctl sandbox up {directory}` makes one") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {directory / _FILE}: {error}") from None


def save(directory: Path, layout: Layout) -> None:
    """Keep the layout: the file appears whole or not at all."""
    draft = directory / f".{_FILE}.tmp"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(layout)))
    draft.replace(directory / _FILE)


def inventory(directory: Path, layout: Layout) -> str:
    """The sandbox as an Ansible inventory."""
    if layout.image:
        return _containers(directory, layout)
    hosts = {}
    for member in layout.members:
        home = directory / member.name
        variables: dict[str, Any] = {
            "ansible_host": member.address,
            "raftctl_dir": str(home),
            "raftctl_raft_port": member.raft_port,
            "raftctl_api_port": member.api_port,
            "raftctl_services": str(home / "run" / "supervisor.sock"),
        }
        if member.witness:
            variables["raftctl_role"] = "witness"
        else:
            variables["raftctl_mysql_port"] = member.mysql_port
            variables["raftctl_mysql_socket"] = str(layout.place(directory, member).socket)
        hosts[member.name] = variables
    return _document({"ansible_connection": "local", "raftctl": _nested(layout.settings)}, hosts)


def _containers(directory: Path, layout: Layout) -> str:
    hosts: dict[str, dict[str, Any]] = {member.name: {"ansible_host": member.address} for member in layout.members}
    for member in layout.members:
        if member.witness:
            hosts[member.name]["raftctl_role"] = "witness"
    variables = {
        "ansible_user": CONTAINER_USER,
        "ansible_ssh_private_key_file": str(directory / KEY_FILE),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={directory / KNOWN_HOSTS_FILE}",
        "raftctl": _nested(layout.settings),
    }
    return _document(variables, hosts)


def _document(variables: Mapping[str, Any], hosts: Mapping[str, Any]) -> str:
    document = {"all": {"children": {CLUSTER: {"vars": variables, "hosts": hosts}}}}
    return str(yaml.safe_dump(document, sort_keys=False))


def _nested(settings: Mapping[str, str]) -> dict[str, Any]:
    """{"failover.cooldown": "5s"} as {"failover": {"cooldown": "5s"}}; values are read as YAML: numbers, booleans."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, last = key.split(".")
        target = result
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise UsageError(f"--set {key}: {section} has a value already, so it cannot have parts")
        target[last] = parse_yaml(value.encode(), name=f"--set {key}")
    return result
