"""A controller's configuration and secrets: the two files that `raftctl bootstrap` puts on each host.

`controller.yaml` holds no secret. `secrets.json` must be readable by its owner alone; the operator keeps one
of the same form beside the inventory.
"""

from __future__ import annotations

import base64
import hmac
import stat
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import yaml

from raftctl.cluster.codec import first_look
from raftctl.cluster.state import Member
from raftctl.errors import UsageError
from raftctl.inventory.yaml_file import parse_yaml, read_yaml
from raftctl.raftnode.wire import KEY_BYTES_MIN
from raftctl.secret import Secret

T = TypeVar("T")


class RaftConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`listen` is `host:port`; times are seconds."""

    listen: str
    election_timeout: float = 1.0
    heartbeat_interval: float = 0.1
    log_batch_size: int = 100


class ApiConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`listen` is `host:port`; the others are PEM files: this node's certificate and key, and the cluster's
    CA."""

    listen: str
    cert: str
    key: str
    ca: str


class MySQLConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the controller reaches its own mysqld. The password of `user` is `Secrets.admin_password`. `gate_seconds` is
    how long mysqld's start may wait for the controllers to say who is primary."""

    socket: str
    host: str
    port: int
    user: str = "raftctl"
    gate_seconds: float = 20.0


class ServicesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who runs the units: systemd, which knows mysqld as `mysqld_unit`, or a sandbox's supervisor that listens on
    `socket`."""

    kind: Literal["supervisor", "systemd"]
    socket: str = ""
    mysqld_unit: str = "mysql.service"


class ControllerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`peers` are all members of the cluster by name, this one included. `directory` is the controller's own
    (write- ahead log, state); `cluster_id` tells clusters of the same name apart; `mysql` is None on a
    witness; `hooks` are programs by event. `joins`: it was added to a running cluster, and does not vote before the
    log says so."""

    cluster: str
    cluster_id: str
    node: str
    directory: str
    secrets_file: str
    raft: RaftConfig
    api: ApiConfig
    peers: dict[str, Member]
    mysql: MySQLConfig | None = None
    services: ServicesConfig
    monitoring: bool = True
    hooks: dict[str, str] = {}
    joins: bool = False

    def __post_init__(self) -> None:
        if self.node not in self.peers:
            raise ValueError(f"peers must include this node, {self.node}")

    @property
    def member(self) -> Member:
        return self.peers[self.node]


class Secrets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`cluster_key` authenticates controllers to each other (`accepted_keys` are used as well when another one does,
    while the key is replaced); `admin_password` is the MySQL account
    `raftctl`'s; each member replicates with an account of its own, so that one can be locked alone (rule R6).
    """

    cluster_id: str
    cluster_key: Secret
    admin_password: Secret
    replication_passwords: dict[str, Secret]
    accepted_keys: tuple[Secret, ...] = ()

    def replication_password(self, member: str, uid: str) -> Secret:
        """Of a member that bootstrap did not begin with, every controller knows it at once: it is made from the cluster
        key. Another host of the same name has another one. Raises KeyError for a member that nobody made one for."""
        if not uid:
            return self.replication_passwords[member]
        digest = hmac.digest(self.cluster_key.reveal().encode(), f"replication {member} {uid}".encode(), "sha256")
        return Secret(base64.urlsafe_b64encode(digest[:20]).decode().rstrip("=") + "-aA1")


def load(path: str | Path) -> ControllerConfig:
    """The configuration in the file. Raises UsageError with the path to the fault."""
    return _convert(read_yaml(Path(path)), ControllerConfig, name=str(path))


def dump(config: ControllerConfig) -> bytes:
    """What `load` reads."""
    text: str = yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False, allow_unicode=True)
    return text.encode()


def load_secrets(path: str | Path) -> Secrets:
    """The secrets in the file. Raises UsageError when it cannot be read, is readable by others, or is
    malformed; the message never quotes the content."""
    path = Path(path)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise UsageError(
                f"{path}: has mode {mode:04o}, so others can read the secrets in it", hint=f"chmod 600 {path}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    return parse_secrets(data, name=str(path))


def parse_secrets(data: bytes, *, name: str) -> Secrets:
    """The secrets in `data`; `name` stands for it in errors. Raises UsageError."""
    try:
        with first_look:
            secrets = msgspec.json.decode(data, type=Secrets, dec_hook=_secret_from_text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = "put a copy from another host of the cluster, or from who bootstrapped it, in its place"
        raise UsageError(f"{name}: is damaged: {readable(error)}", hint=hint) from None
    if any(len(key.reveal().encode()) < KEY_BYTES_MIN for key in (secrets.cluster_key, *secrets.accepted_keys)):
        raise UsageError(f"{name}: a cluster key needs at least {KEY_BYTES_MIN} bytes")
    return secrets


def dump_secrets(secrets: Secrets) -> bytes:
    """What `load_secrets` reads. The caller keeps the file's mode at 0600."""
    return msgspec.json.format(msgspec.json.encode(secrets, enc_hook=_text_of_secret)) + b"\n"


def parse_config(data: bytes, *, name: str) -> ControllerConfig:
    """As `load`, from bytes read elsewhere. Raises UsageError."""
    return _convert(parse_yaml(data, name=name), ControllerConfig, name=name)


def readable(error: Exception) -> str:
    """msgspec's message with its path in ours: ``raft -> listen: Expected `str`, got `int` ``."""
    text, _, where = str(error).partition(" - at `$")
    path = where.rstrip("`").strip(".").replace("[...]", "").replace(".", " -> ")
    return f"{path}: {text}" if path else text


def _convert(document: Any, kind: type[T], *, name: str) -> T:
    try:
        with first_look:  # bootstrap reads those of all hosts at once
            return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{name}: {readable(error)}") from None


def _secret_from_text(kind: type, value: object) -> Secret:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError("a secret must be a text")


def _text_of_secret(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"no encoding for {type(value).__name__}")
