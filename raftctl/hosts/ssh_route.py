"""Where an SSH connection goes and as whom: the inventory first, then the user's SSH configuration."""

from __future__ import annotations

import getpass
from pathlib import Path

import msgspec
import paramiko

from raftctl.errors import HostError
from raftctl.inventory.model import SSHAccess

SYSTEM_CONFIG = "/etc/ssh/ssh_config"
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
_PORT = 22


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`key_name` is how known_hosts calls the host; `jumps` are the hosts on the way, the nearest first."""

    address: str
    port: int
    user: str
    key_name: str
    key_files: tuple[str, ...]
    only_these_keys: bool
    known_hosts: tuple[str, ...]
    jumps: tuple[SSHAccess, ...]


def resolve(access: SSHAccess) -> Route:
    """The way to a host. Raises HostError when the SSH configuration cannot be used."""
    config = _read(access)
    try:
        found = config.lookup(access.host)
    except paramiko.ConfigParseError as error:
        raise HostError(f"{access.host}: the SSH configuration is not understood: {error}") from None
    if "proxycommand" in found and "proxyjump" not in found:
        raise HostError(f"{access.host}: ProxyCommand is not supported", hint="use ProxyJump in the SSH configuration")
    address = found["hostname"]
    port = access.port if access.port != _PORT else int(found.get("port", _PORT))
    alias = found.get("hostkeyalias", "")
    files = [access.key_file] if access.key_file else list(found.get("identityfile", []))
    return Route(
        address=address,
        port=port,
        user=access.user or found.get("user", "") or getpass.getuser(),
        key_name=alias or (address if port == _PORT else f"[{address}]:{port}"),
        key_files=tuple(_existing(files)),
        only_these_keys=bool(access.key_file) or found.get("identitiesonly", "no") == "yes",
        known_hosts=_known_hosts(access, found),
        jumps=_jumps(access, found),
    )


def _read(access: SSHAccess) -> paramiko.SSHConfig:
    """As ssh: a file that is named replaces the usual two; of several values for an option the first one counts."""
    config = paramiko.SSHConfig()
    named = [access.config_file] if access.config_file else ["~/.ssh/config", SYSTEM_CONFIG]
    for path in (Path(name).expanduser() for name in named):
        try:
            with path.open() as file:
                config.parse(file)
        except FileNotFoundError:
            if access.config_file:
                raise HostError(f"{access.host}: there is no SSH configuration {path}") from None
        except (OSError, UnicodeDecodeError, paramiko.ConfigParseError) as error:
            raise HostError(f"{access.host}: cannot read {path}: {error}") from None
    return config


def _existing(files: list[str]) -> list[str]:
    paths = [Path(file).expanduser() for file in files]
    return [str(path) for path in paths if path.exists()]


def _known_hosts(access: SSHAccess, found: paramiko.SSHConfigDict) -> tuple[str, ...]:
    users = access.known_hosts or found.get("userknownhostsfile", "") or "~/.ssh/known_hosts ~/.ssh/known_hosts2"
    everybodys = found.get("globalknownhostsfile", SYSTEM_KNOWN_HOSTS)
    return tuple(str(Path(file).expanduser()) for file in [*users.split(), *everybodys.split()])


def _jumps(access: SSHAccess, found: paramiko.SSHConfigDict) -> tuple[SSHAccess, ...]:
    written = access.jump or found.get("proxyjump", "none")
    if written.lower() == "none":
        return ()
    hops = [_hop(text.strip(), access.config_file) for text in written.split(",")]
    return tuple(hop for hop in hops if hop.host != access.host)  # `Host *` makes a jump host its own, too


def _hop(text: str, config_file: str) -> SSHAccess:
    """`[user@]host[:port]`, with brackets around an IPv6 address."""
    user, _, place = text.rpartition("@")
    host, port = place, _PORT
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = int(rest.removeprefix(":") or _PORT)
    elif place.count(":") == 1:
        host, _, number = place.partition(":")
        port = int(number)
    return SSHAccess(host=host, port=port, user=user, config_file=config_file, become=False)
