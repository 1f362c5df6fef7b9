"""A real sshd on loopback, with its own configuration, host key and authorized_keys."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from raftctl.inventory.model import SSHAccess
from raftctl.sandbox.network import free_ports
from tests.support.waiting import wait_until

START_SECONDS = 30.0


class RunningSSHD(msgspec.Struct, frozen=True, kw_only=True):
    """`known_hosts` holds its key, `client_key` is in its authorized_keys; `config` says both to a client."""

    port: int
    host_key: Path
    client_key: Path
    known_hosts: Path
    config: Path

    def access(self, **fields: object) -> SSHAccess:
        return msgspec.structs.replace(
            SSHAccess(host="127.0.0.1", port=self.port, config_file=str(self.config)), **fields
        )


@contextlib.contextmanager
def sshd(directory: Path, *settings: str) -> Iterator[RunningSSHD]:
    """Skips when there is no sshd; `settings` are further lines of sshd_config."""
    program = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    if program is None:
        if os.environ.get("RAFTCTL_REQUIRE_SSHD"):
            pytest.fail("no sshd here, and RAFTCTL_REQUIRE_SSHD asks for it: apt-get install openssh-server")
        pytest.skip("no sshd here: apt-get install openssh-server")
    directory.mkdir(mode=0o700, exist_ok=True)
    running = _configure(directory, free_ports(1)[0], settings)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd of root wants it for privilege separation
    with (directory / "sshd.log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(directory / "sshd_config")], stderr=log)
    try:
        wait_until(lambda: _greets(running.port), what=f"sshd greets: see {directory}/sshd.log", timeout=START_SECONDS)
        yield running
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def make_key(path: Path, kind: str = "ed25519") -> str:
    """A new key pair; returns the public one."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip()


def _configure(directory: Path, port: int, settings: tuple[str, ...]) -> RunningSSHD:
    host_public = make_key(directory / "host_key")
    authorized = directory / "authorized_keys"
    authorized.write_text(make_key(directory / "client_key") + "\n")
    known_hosts, config = directory / "known_hosts", directory / "ssh_config"
    known_hosts.write_text(f"[127.0.0.1]:{port} {host_public}\n")
    config.write_text(
        f"Host *\n  UserKnownHostsFile {known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
        f"  IdentityFile {directory / 'client_key'}\n  IdentitiesOnly yes\n"
    )
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {directory / 'host_key'}",
        f"AuthorizedKeysFile {authorized}",
        "PidFile none",
        "StrictModes no",  # /tmp is writable by others
        "PermitRootLogin yes",
        "PasswordAuthentication no",
        "UsePAM no",
        *settings,
    ]
    (directory / "sshd_config").write_text("\n".join(lines) + "\n")
    return RunningSSHD(
        port=port,
        host_key=directory / "host_key",
        client_key=directory / "client_key",
        known_hosts=known_hosts,
        config=config,
    )


def _greets(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as connection:
        return connection.recv(8).startswith(b"SSH-2.0")
    return False
