"""A host behind SSH: commands through a session, as root with sudo; files through standard input and output.

Needs on the host: a POSIX shell, GNU coreutils, python3 (for `dial_unix`), and sudo without a password unless the login
is root's. Nothing needs SFTP, which sudo does not reach.
"""

from __future__ import annotations

import functools
import select
import shlex
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import paramiko

from raftctl.errors import HostError
from raftctl.hosts.base import CommandResult
from raftctl.hosts.bridge import as_socket
from raftctl.hosts.ssh_connection import Connection, Connections, remaining
from raftctl.inventory.model import SSHAccess

FILE_SECONDS: Final = 30.0
TRANSFER_SECONDS_PER_MEGABYTE: Final = 5.0
_GRACE_SECONDS: Final = 2.0  # what the way there and back may take in addition to the command's own deadline
_ABSENT: Final = 44
_SUDO_FAILED: Final = 1
_KILLED: Final = (137, -1)  # said by a shell, or by sshd as a signal

_READ: Final = f'test -e "$1" || exit {_ABSENT}; exec cat -- "$1"'
# A reader, or a crash, sees all of the new file or nothing of it (see Host.write_file).
_WRITE: Final = """set -eu
new=$(mktemp -- "$(dirname -- "$1")/.raftctl.XXXXXXXX")
trap 'rm -f -- "$new"' EXIT
cat > "$new"
test "$(wc -c < "$new")" = "$3"
chmod -- "$2" "$new"
sync -- "$new"
mv -T -- "$new" "$1"
trap - EXIT
sync -- "$(dirname -- "$1")"
"""
_MAKE_DIR: Final = """set -eu
test -d "$1" && exit 0
umask 022
mkdir -p -- "$(dirname -- "$1")"
mkdir -m "$2" -- "$1"
"""
# Standard input and output to a unix socket and back: as root, so that MySQL's auth_socket sees root.
_RELAY: Final = """import os, socket, sys, threading
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as error:
    sys.exit(error.strerror)
os.write(1, b"+")
def back():
    while data := s.recv(65536):
        while data:
            data = data[os.write(1, data):]
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    s.sendall(data)
"""


@functools.cache
def shared_connections() -> Connections:
    """Of this process: one for each host."""
    return Connections()


class SSHHost:
    """See raftctl.hosts.base.Host for the meaning of the methods."""

    def __init__(self, name: str, access: SSHAccess, connections: Connections) -> None:
        self.name = name
        self._access = access
        self._connections = connections

    # --- commands --------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], *, data: bytes = b"", timeout: float, check: bool = True) -> CommandResult:
        program = argv[0]
        # `timeout` kills it and its children even when this side is gone
        guarded = ["timeout", "--signal=KILL", f"{timeout:.3f}", *argv]
        began = time.monotonic()
        result = self._exec(guarded, data=data, deadline=began + timeout + _GRACE_SECONDS, what=program)
        if result.status in _KILLED and time.monotonic() - began >= timeout:
            raise HostError(f"{self.name}: {program} had not ended after {timeout:g} s")
        if check and result.status != 0:
            raise HostError(f"{self.name}: {program} failed with status {result.status}: {_last_line(result.stderr)}")
        return result

    def _exec(self, argv: Sequence[str], *, data: bytes, deadline: float, what: str) -> CommandResult:
        with self._session(argv, deadline, what) as channel:
            sender = threading.Thread(target=_send, args=(channel, data), daemon=True, name="ssh-stdin")
            sender.start()
            result = _collect(channel, deadline)
        if result is None:
            raise HostError(f"{self.name}: no answer from {what} in time")
        self._check_sudo(result)
        return result

    @contextmanager
    def _session(self, argv: Sequence[str], deadline: float, what: str) -> Iterator[paramiko.Channel]:
        connection = self._connection()
        command = shlex.join([*self._prefix(connection), *argv])
        if not connection.sessions.acquire(timeout=remaining(deadline)):
            raise HostError(f"{self.name}: {what} was not begun in time: too much else is under way there")
        try:
            with self._translated(f"cannot run {what}"):
                channel = connection.transport.open_session(timeout=remaining(deadline))
                try:
                    channel.settimeout(remaining(deadline))
                    channel.exec_command(command)
                    yield channel
                finally:
                    channel.close()
        finally:
            connection.sessions.release()

    def _prefix(self, connection: Connection) -> list[str]:
        """`sudo` unless the login is root's or the inventory says `ansible_become: false`."""
        needed = self._access.become and connection.user != "root"
        return ["sudo", "-n", "--"] if needed else []

    def _check_sudo(self, result: CommandResult) -> None:
        line = _last_line(result.stderr)
        if result.status == _SUDO_FAILED and line.startswith("sudo: "):
            raise HostError(
                f"{self.name}: {line}",
                hint="raftctl needs sudo without a password (NOPASSWD: ALL), or a login as root",
            )

    # --- files -----------------------------------------------------------------------------------------

    def read_file(self, path: str) -> bytes | None:
        result = self._shell(_READ, path, what=f"cannot read {path}", accept=(0, _ABSENT))
        return None if result.status == _ABSENT else result.stdout

    def write_file(self, path: str, data: bytes, *, mode: int) -> None:
        self._shell(_WRITE, path, f"{mode:o}", str(len(data)), data=data, what=f"cannot write {path}")

    def make_dir(self, path: str, *, mode: int) -> None:
        self._shell(_MAKE_DIR, path, f"{mode:o}", what=f"cannot create {path}")

    def _shell(
        self, script: str, *args: str, what: str, data: bytes = b"", accept: Sequence[int] = (0,)
    ) -> CommandResult:
        timeout = FILE_SECONDS + TRANSFER_SECONDS_PER_MEGABYTE * len(data) / 1e6
        result = self.run(["sh", "-c", script, "sh", *args], data=data, timeout=timeout, check=False)
        if result.status not in accept:
            raise HostError(f"{self.name}: {what}: {_last_line(result.stderr) or f'status {result.status}'}")
        return result

    # --- sockets ---------------------------------------------------------------------------------------

    def dial_tcp(self, host: str, port: int, *, timeout: float) -> socket.socket:
        with self._translated(f"{host}:{port} is not reached from there"):
            return as_socket(self._connection().forward(host, port, timeout=timeout))

    def dial_unix(self, path: str, *, timeout: float) -> socket.socket:
        """The relay holds a session of its own for as long as the socket is open."""
        deadline = time.monotonic() + timeout
        connection = self._connection()
        command = shlex.join([*self._prefix(connection), "python3", "-c", _RELAY, path])
        with self._translated(f"cannot reach {path}"):
            channel = connection.transport.open_session(timeout=remaining(deadline))
            channel.settimeout(remaining(deadline))
            channel.exec_command(command)
            if channel.recv(1) != b"+":
                reason = _last_line(channel.makefile_stderr("rb").read(4096))
                channel.close()
                raise HostError(f"{self.name}: cannot reach {path}: {reason}")
            channel.settimeout(None)
            return as_socket(channel)

    # --- pieces ----------------------------------------------------------------------------------------

    def _connection(self) -> Connection:
        try:
            return self._connections.get(self._access)
        except HostError as error:
            if str(error).startswith(f"{self.name}: "):
                raise
            raise HostError(f"{self.name}: {error}", hint=error.hint) from None

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (paramiko.SSHException, OSError, EOFError) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or "the connection ended"
            raise HostError(f"{self.name}: {what}: {reason}") from None


def _send(channel: paramiko.Channel, data: bytes) -> None:
    """A command may end without reading its input: that is for its status to tell."""
    try:
        channel.sendall(data)
        channel.shutdown_write()
    except (OSError, EOFError):
        return


def _collect(channel: paramiko.Channel, deadline: float) -> CommandResult | None:
    """Output and status of the command in `channel`; None when it had not ended at `deadline`."""
    stdout, stderr = bytearray(), bytearray()
    while True:
        ended = channel.eof_received or channel.closed  # looked at before what is left is read
        while channel.recv_ready():
            stdout += channel.recv(1 << 20)
        while channel.recv_stderr_ready():
            stderr += channel.recv_stderr(1 << 20)
        if ended:
            break
        if time.monotonic() >= deadline:
            return None
        select.select([channel], [], [], min(remaining(deadline), 1.0))
    if not channel.status_event.wait(remaining(deadline)):
        return None
    return CommandResult(channel.exit_status, bytes(stdout), bytes(stderr))


def _last_line(output: bytes) -> str:
    return "".join(output.decode(errors="replace").strip().splitlines()[-1:])
