"""A sandbox whose hosts are containers, reached over SSH as real hosts are: `sandbox up --driver docker`.

The units are run by each container's own systemd, and `bootstrap` does on them what it does on real hosts.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from raftctl.errors import HostError
from raftctl.sandbox.apt import Progress, ignore_progress
from raftctl.sandbox.base import KILL_S, AnySandbox, MemberHost, in_parallel
from raftctl.sandbox.containers import ContainerHost, Engine
from raftctl.sandbox.layout import CONTAINER_USER, KEY_FILE, KNOWN_HOSTS_FILE, Layout, SandboxMember
from raftctl.sandbox.network import NOBODY

_START_S: Final = 180.0
_POLL_S: Final = 0.2


class ContainerSandbox(AnySandbox):
    """`directory` holds the inventory, and the key and host keys of SSH; all else is in the containers."""

    def __init__(self, directory: Path, layout: Layout) -> None:
        super().__init__(directory, layout)
        self._engine = Engine(layout.tag)

    def host(self, name: str) -> ContainerHost:
        member = self.layout.member(name)
        return self._engine.host(member.name, witness=member.witness)

    def start_all(self, progress: Progress = ignore_progress) -> None:
        progress(f"making the image of the hosts upon {self.layout.image}", None)
        image = self._engine.image(self.layout.image)
        self._engine.make_network(self.layout.subnet)
        progress(f"starting {len(self.layout.members)} hosts", None)
        for member in self.layout.members:
            host = self.host(member.name)
            if not host.exists():
                self._engine.create(member.name, image=image, address=member.address)
            if not host.is_on():
                host.power_on()
        self._make_key()
        in_parallel(self._make_ready, self.layout.members)
        self._write_known_hosts()

    def _make_ready(self, member: SandboxMember) -> None:
        host = self.host(member.name)
        self._wait_until_up(host)  # before that there may be no systemd to talk to
        if member.witness:
            host.run(["systemctl", "mask", "--now", "mysql.service"])
        keys, own = f"/home/{CONTAINER_USER}/.ssh/authorized_keys", self._key(".pub").read_text().strip()
        host.run(["sh", "-c", 'printf "%s\\n" "$1" > "$2"', "sh", own, keys])

    def _wait_until_up(self, host: ContainerHost) -> None:
        units = ["ssh.service", *(["mysql.service"] if "mysqld" in host.units() else [])]
        deadline = time.monotonic() + _START_S
        while host.attempt(["systemctl", "is-active", *units]).status != 0:
            if time.monotonic() > deadline:
                raise HostError(
                    f"{host.name} does not start: not all of {', '.join(units)} run",
                    hint=f"see `docker exec {host.container} journalctl -b`",
                )
            time.sleep(_POLL_S)

    def _key(self, suffix: str = "") -> Path:
        return self.directory / f"{KEY_FILE}{suffix}"

    def _make_key(self) -> None:
        """With which raftctl logs in; a host makes it, and keeps none."""
        if self._key(".pub").exists():
            return
        host = self.host(self.layout.names[0])
        host.run(["sh", "-c", "rm -f /root/key*; ssh-keygen -q -t ed25519 -N '' -C raftctl-sandbox -f /root/key"])
        self._key().unlink(missing_ok=True)
        descriptor = os.open(self._key(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(host.run(["cat", "/root/key"]))
        public = host.run(["cat", "/root/key.pub"])
        host.run(["rm", "/root/key", "/root/key.pub"])
        self._key(".pub").write_bytes(public)  # last: its presence means that both are there

    def _write_known_hosts(self) -> None:
        lines = []
        for member in self.layout.members:
            public = self.host(member.name).run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])
            lines.append(f"{member.address} {public.decode().strip()}\n")
        (self.directory / KNOWN_HOSTS_FILE).write_text("".join(lines))

    def down(self, *, purge: bool) -> None:
        """Kill every host; with `purge`, remove the containers with their disks, the network and the directory. The
        image stays: the next sandbox needs it."""
        if not purge:
            in_parallel(lambda name: self.host(name).power_off(timeout=KILL_S), self.layout.names)
            return
        self._engine.remove()
        shutil.rmtree(self.directory)

    def _turn_on(self, host: MemberHost) -> None:
        self.host(host.name).power_on()

    def _require_network(self) -> ContainerNetwork:
        return ContainerNetwork(self)


class ContainerNetwork:
    """Packets between two members are dropped as in raftctl.sandbox.network: the sender has a wrong neighbour entry."""

    def __init__(self, sandbox: ContainerSandbox) -> None:
        self._sandbox = sandbox

    def drop(self, directions: Iterable[tuple[str, str]]) -> None:
        for sender, receiver in sorted(directions):
            address = self._sandbox.layout.member(receiver).address
            entry = (address, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")
            self._sandbox.host(sender).run(["ip", "neigh", "replace", *entry])

    def heal(self) -> None:
        for name in self._sandbox.layout.names:
            if self._sandbox.host(name).is_on():
                self._sandbox.host(name).run(["ip", "neigh", "flush", "dev", "eth0", "nud", "permanent"])
