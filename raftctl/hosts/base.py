"""What raftctl does on a host, whichever way the host is reached."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

import msgspec


class CommandResult(msgspec.Struct, frozen=True):
    status: int
    stdout: bytes
    stderr: bytes


class Host(Protocol):
    """Files and commands of one host. Every method raises HostError, one line that names the host, when it fails.

    Secrets are passed as file contents or as `data`, never in `argv`: everybody on a host sees argument lists.
    """

    name: str

    def run(self, argv: Sequence[str], *, data: bytes = b"", timeout: float, check: bool = True) -> CommandResult:
        """Run a program with `data` as its standard input, without a shell. After `timeout` seconds it is killed and
        HostError raised. A status other than 0 is a HostError too, unless `check` is False."""

    def read_file(self, path: str) -> bytes | None:
        """The file's content; None when there is no such file."""

    def write_file(self, path: str, data: bytes, *, mode: int) -> None:
        """Replace or create the file in one step: a reader, or a crash, sees all of it or nothing of it. It has `mode`
        from its first moment on, and is on disk when this returns."""

    def make_dir(self, path: str, *, mode: int) -> None:
        """Create the directory with `mode`, and its parents with 0755; one that exists is left as it is."""

    def dial_tcp(self, host: str, port: int, *, timeout: float) -> socket.socket:
        """A connection from there to `host`:`port`, made in `timeout` seconds; the caller closes it."""

    def dial_unix(self, path: str, *, timeout: float) -> socket.socket:
        """A connection there to the unix socket `path`, as the user that commands run as."""
