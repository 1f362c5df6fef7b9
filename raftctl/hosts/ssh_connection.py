"""Authenticated SSH connections, one for each host and reused: who may be trusted is decided here.

A host key that known_hosts does not hold is refused with its fingerprint; none is ever added.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import NoReturn

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from raftctl.errors import HostError
from raftctl.hosts.ssh_route import Route, resolve
from raftctl.inventory.model import SSHAccess, join_address

CONNECT_SECONDS = 10.0  # TCP, then the same for each of banner, authentication and a channel
KEEPALIVE_SECONDS = 15
DEAD_MILLISECONDS = 30_000  # unacknowledged data for so long ends the connection
_REVOKED = "@revoked "
SESSIONS_MAX = 6  # of sshd's usual MaxSessions 10; the others are for `dial_unix`


class Connection:
    """An open connection. Channels are opened from several threads."""

    def __init__(self, client: paramiko.SSHClient, transport: paramiko.Transport, route: Route) -> None:
        self._client = client
        self.transport = transport
        self.user = route.user
        self.sessions = threading.BoundedSemaphore(SESSIONS_MAX)

    @property
    def alive(self) -> bool:
        return self.transport.is_active()

    def forward(self, host: str, port: int, *, timeout: float) -> paramiko.Channel:
        """A stream to `host`:`port` as the other side reaches it. Raises SSHException."""
        return self.transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout)

    def close(self) -> None:
        self._client.close()


class Connections:
    """The connections of this process. Thread-safe; different hosts are connected to at the same time."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[SSHAccess, threading.Lock] = defaultdict(threading.Lock)
        self._open: dict[SSHAccess, Connection] = {}

    def get(self, access: SSHAccess) -> Connection:
        """The connection to a host, made when there is none that lives. Raises HostError."""
        with self._guard:
            lock = self._locks[access]
        with lock:
            connection = self._open.get(access)
            if connection is None or not connection.alive:
                connection = self._open[access] = self._connect(access)
            return connection

    def opened(self) -> list[Connection]:
        return list(self._open.values())

    def close(self) -> None:
        for connection in self.opened():
            connection.close()
        self._open.clear()

    def _connect(self, access: SSHAccess) -> Connection:
        route = resolve(access)
        stream = self._stream(access, route)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(_Refuse(access, route))
        try:
            _load_known_hosts(client, route)
            client.connect(
                route.key_name,
                username=route.user,
                key_filename=list(route.key_files),  # type: ignore[arg-type]  # the stubs know one file only
                look_for_keys=not route.only_these_keys and not route.key_files,
                allow_agent=not route.only_these_keys,
                sock=stream,
                timeout=CONNECT_SECONDS,
                banner_timeout=CONNECT_SECONDS,
                auth_timeout=CONNECT_SECONDS,
                channel_timeout=CONNECT_SECONDS,
            )
        except (HostError, paramiko.SSHException, OSError, EOFError) as error:
            client.close()
            stream.close()
            raise _translated(error, access, route) from None
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(KEEPALIVE_SECONDS)
        return Connection(client, transport, route)

    def _stream(self, access: SSHAccess, route: Route) -> socket.socket | paramiko.Channel:
        if not route.jumps:
            return _tcp(access, route)
        *before, last = route.jumps
        # each jump host is reached through the ones before it
        through = SSHAccess(
            host=last.host,
            port=last.port,
            user=last.user,
            config_file=last.config_file,
            jump=",".join(_written(hop) for hop in before),
            become=False,
        )
        try:
            return self.get(through).forward(route.address, route.port, timeout=CONNECT_SECONDS)
        except (paramiko.SSHException, EOFError) as error:
            raise HostError(
                f"{access.host}: {last.host} does not forward to {join_address(route.address, route.port)}: {error}"
            ) from None


def _written(hop: SSHAccess) -> str:
    place = join_address(hop.host, hop.port)
    return f"{hop.user}@{place}" if hop.user else place


def _tcp(access: SSHAccess, route: Route) -> socket.socket:
    try:
        stream = socket.create_connection((route.address, route.port), CONNECT_SECONDS)
    except OSError as error:
        reason = f"no answer within {CONNECT_SECONDS:g} s" if isinstance(error, TimeoutError) else error.strerror
        where = join_address(route.address, route.port)
        raise HostError(f"{access.host}: no SSH connection to {where}: {reason or error}") from None
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_MILLISECONDS)
    return stream


def _load_known_hosts(client: paramiko.SSHClient, route: Route) -> None:
    """Line by line, as ssh reads them: one that cannot be understood, or names an authority, accepts nobody, and a key
    that is revoked anywhere is accepted nowhere. Raises HostError."""
    lines: list[str] = []
    for file in map(Path, route.known_hosts):
        try:
            lines += file.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostError(f"cannot read {file}: {error.strerror or error}") from None
    revoked = [key for line in lines if line.startswith(_REVOKED) for _, key in _read_line(line.removeprefix(_REVOKED))]
    known = client.get_host_keys()
    for line in lines:
        for name, key in _read_line(line):
            if key not in revoked and key.get_name() not in (known.lookup(name) or {}):  # the first one counts
                known.add(name, key.get_name(), key)


def _read_line(line: str) -> list[tuple[str, paramiko.PKey]]:
    """The names, plain or hashed, and the key that the line gives them; nothing when it cannot be understood."""
    if line.startswith(("@", "#")):
        return []
    with contextlib.suppress(paramiko.SSHException, InvalidHostKey, ValueError):
        entry = HostKeyEntry.from_line(" ".join(line.split()))
        if entry is not None and entry.key is not None:
            return [(name, entry.key) for name in entry.hostnames or []]
    return []


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -l` writes it."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
    return f"SHA256:{digest} ({key.get_name()})"


class _Refuse(paramiko.MissingHostKeyPolicy):
    def __init__(self, access: SSHAccess, route: Route) -> None:
        self._access, self._route = access, route

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> NoReturn:
        port = f"-p {self._route.port} " if self._route.port != 22 else ""
        raise HostError(
            f"{self._access.host}: its host key is not known: {fingerprint(key)}",
            hint=f"compare it with `ssh-keygen -lf` of /etc/ssh/ssh_host_*_key.pub there, and accept it with "
            f"`ssh {port}{self._route.user}@{self._access.host}`, which writes {self._route.known_hosts[0]}",
        )


def _translated(error: Exception, access: SSHAccess, route: Route) -> HostError:
    """paramiko's errors for a person; none of them quotes a key or a password."""
    who = f"{access.host}: SSH as {route.user}"
    match error:
        case HostError():
            return error
        case paramiko.BadHostKeyException():
            return HostError(
                f"{access.host}: its host key has changed to {fingerprint(error.key)}",
                hint="somebody may be in between; if the host was reinstalled, remove the old key with "
                f"`ssh-keygen -R '{route.key_name}'`",
            )
        case paramiko.PasswordRequiredException():
            return HostError(f"{who}: the key has a passphrase", hint="add it to an agent: ssh-add")
        case paramiko.AuthenticationException():
            return HostError(
                f"{who}: no key was accepted",
                hint="ansible_ssh_private_key_file, the SSH configuration or an agent must hold one that is "
                "in authorized_keys there",
            )
        case _:
            return HostError(f"{who} failed: {error or type(error).__name__}")


def remaining(deadline: float) -> float:
    """Seconds until `deadline` (monotonic), never 0, which means "do not wait" to a socket."""
    return max(0.001, deadline - time.monotonic())
