"""A whole cluster of local processes: bring it up, take it down. The faults are in raftctl.sandbox.base."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from raftctl.bootstrap.units import NICE
from raftctl.errors import HostError, UsageError
from raftctl.hosts.services import Unit
from raftctl.inventory.load import parse_inventory
from raftctl.inventory.relations import require_odd_number
from raftctl.sandbox import layout as layouts
from raftctl.sandbox.apt import Progress, ignore_progress
from raftctl.sandbox.base import KILL_S, AnySandbox, MemberHost, Target, in_parallel
from raftctl.sandbox.distribution import find_or_fetch
from raftctl.sandbox.host import SandboxHost
from raftctl.sandbox.layout import Layout, SandboxMember
from raftctl.sandbox.mysqld import greets, prepare
from raftctl.sandbox.network import NamespaceNetwork, is_free, require_namespaces

__all__ = ["AnySandbox", "Sandbox", "Target", "exclusive", "open_or_plan", "open_sandbox"]

_POWER_S = 30.0
_PORTS_S = 1.0
_MYSQLD_START_S = 120.0
_POLL_S = 0.02


class Sandbox(AnySandbox):
    """Its hosts are local processes, each under a supervisor of its own."""

    @property
    def _network(self) -> NamespaceNetwork | None:
        return self.layout.network()

    def host(self, name: str) -> SandboxHost:
        """Raises UsageError when there is no such member."""
        member = self.layout.member(name)
        namespace = self._network.namespace(member.name) if self._network else ""
        return SandboxHost(self.directory / member.name, namespace=namespace)

    def _hosts(self) -> list[SandboxHost]:
        return [self.host(name) for name in self.layout.names]

    # --- up and down ------------------------------------------------------------------------------

    def start_all(self, progress: Progress = ignore_progress) -> None:
        """Start every host that is down, with its mysqld, and wait until all servers accept connections."""
        distribution = find_or_fetch(progress)
        if self._network:
            self._network.ensure()

        def start(member: SandboxMember) -> None:
            host = self.host(member.name)
            if not host.is_on():
                self._clear_the_way(host)
                place = self.layout.place(self.directory, member)
                command = () if member.witness else prepare(place, distribution)
                host.configure(self._units(member, command))
                host.power_on(timeout=_POWER_S)
            if not member.witness:
                self._wait_for_mysqld(member)

        progress(f"starting {len(self.layout.members)} hosts", None)
        in_parallel(start, self.layout.members)

    def _units(self, member: SandboxMember, mysqld: Sequence[str]) -> dict[str, dict[str, Any]]:
        home = self.directory / member.name
        config = str(home / "controller.yaml")

        def program(command: str, *flags: str) -> list[str]:
            return [sys.executable, "-m", "raftctl", "controller", command, "--config", config, *flags]

        # glibc's arena per thread would cost each controller some MB
        lean = {"MALLOC_ARENA_MAX": "2"}
        ours: dict[str, Any] = {"restart": "always", "condition": config, "env": lean, "nice": NICE}
        units: dict[str, dict[str, Any]] = {Unit.CONTROLLER: {"argv": program("run"), **ours}}
        if not member.witness:
            units[Unit.GUARD] = {"argv": program("guard"), **ours}
            # mysqld refuses to start while the pid in its socket's lock file lives, whoever has that pid now
            lock = f"{self.layout.place(self.directory, member).socket}.lock"
            units[Unit.MYSQLD] = {
                "argv": list(mysqld),
                "restart": "on-failure",
                "stale": [lock],
                "gate": program("gate"),
                "gate_condition": config,
                "stop": program("hand-over", "--stop"),
            }
        return units

    def _wait_for_mysqld(self, member: SandboxMember) -> None:
        place = self.layout.place(self.directory, member)
        deadline = time.monotonic() + _MYSQLD_START_S
        while not greets(place.socket):
            if time.monotonic() > deadline:
                raise HostError(f"mysqld of {member.name} does not start", hint=f"see {place.error_log}")
            time.sleep(_POLL_S)

    def down(self, *, purge: bool) -> None:
        """Kill every process of every host and remove the network; with `purge`, the directory too."""
        in_parallel(lambda host: host.power_off(timeout=KILL_S), self._hosts())
        if self._network:
            self._network.remove()
        if purge:
            shutil.rmtree(self.directory)

    # --- pieces -----------------------------------------------------------------------------------

    def _turn_on(self, host: MemberHost) -> None:
        own = self.host(host.name)
        self._clear_the_way(own)
        if self._network:
            self._network.ensure()
        own.power_on(timeout=_POWER_S)

    def _clear_the_way(self, host: SandboxHost) -> None:
        """Kill what is left of an earlier life of the host (its supervisor is gone), and see that its ports
        are free.
        """
        host.power_off(timeout=KILL_S)
        if self._network:
            return  # nobody else is in its namespace
        member = self.layout.member(host.name)
        ports = (member.mysql_port, member.admin_port, member.raft_port, member.api_port)
        deadline = time.monotonic() + _PORTS_S  # a process killed a moment ago may still be closing its sockets
        while taken := [port for port in ports if not is_free(port)]:
            if time.monotonic() > deadline:
                raise HostError(
                    f"port {taken[0]} of {member.name} is in use by a process that is not of this sandbox",
                    hint="end that process, or make a new sandbox: it chooses other ports",
                )
            time.sleep(_POLL_S)

    def _require_network(self) -> NamespaceNetwork:
        if self._network is None:
            raise UsageError("partitions need network namespaces", hint="make the sandbox with --network netns")
        return self._network


def open_sandbox(directory: Path) -> AnySandbox:
    """The sandbox that is in `directory`. Raises UsageError when there is none, HostError without its Docker engine."""
    directory = directory.resolve()
    layout = layouts.load(directory)
    if os.geteuid() not in (0, directory.stat().st_uid):  # whose processes would be taken for ended
        raise UsageError(f"{directory} is another user's sandbox", hint="run this as that user, or as root")
    return _sandbox(directory, layout)


def _sandbox(directory: Path, layout: Layout) -> AnySandbox:
    if not layout.image:
        return Sandbox(directory, layout)
    from raftctl.sandbox.container_cluster import ContainerSandbox

    return ContainerSandbox(directory, layout)


def open_or_plan(
    directory: Path, *, nodes: int, witnesses: int, namespaces: bool, settings: Sequence[str], image: str = ""
) -> AnySandbox:
    """The sandbox in `directory`, which exists; decided on now if there is none. No process is started. With `image`,
    its hosts are containers upon that image.

    Raises:
        UsageError: bad arguments, other files in `directory`, or a sandbox of another shape.
        HostError: this machine cannot do it.
    """
    directory = directory.resolve()
    if namespaces:
        require_namespaces()
    wanted = layouts.Shape(nodes, witnesses, namespaces, layouts.parse_settings(settings), image)
    if any(directory.iterdir()):
        if not layouts.exists(directory):
            raise UsageError(f"{directory} is not empty, and not a sandbox", hint="choose a new directory")
        existing = layouts.load(directory)
        if existing.shape != wanted:
            raise UsageError(
                f"{directory} is a sandbox of another shape already",
                hint=f"give the same flags as before, or first `raftctl sandbox down {directory} --purge`",
            )
        return _sandbox(directory, existing)
    layout = layouts.plan(directory, wanted)
    # a wrong setting is refused before anything is written
    parsed = parse_inventory(layouts.inventory(directory, layout).encode(), directory / "inventory.yaml")
    require_odd_number(parsed.cluster(layouts.CLUSTER))
    sandbox = _sandbox(directory, layout)
    layouts.save(directory, layout)
    return sandbox


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold `directory`, made if need be, against another `up` or `down`. Raises HostError when one is at
    work, UsageError when it cannot be had.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"cannot use {directory}: {error.strerror}", hint="name another directory") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(f"another `sandbox up` or `down` works on {directory}", hint="wait for it") from None
        yield
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):  # it goes if nothing was put into it
            directory.rmdir()
