"""A whole cluster on this machine: bring it up, break it on purpose, take it down.

Everything about it is in its directory; nothing depends on this process living on. Each function returns once
what it says is done, or raises within its deadline.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from raftctl.bootstrap.layout import Layout as HostLayout
from raftctl.errors import HostError, UsageError
from raftctl.hosts.services import Unit
from raftctl.inventory.load import parse_inventory
from raftctl.inventory.relations import require_odd_number
from raftctl.sandbox import layout as layouts
from raftctl.sandbox.apt import Progress, ignore_progress
from raftctl.sandbox.distribution import find_or_fetch
from raftctl.sandbox.host import SandboxHost
from raftctl.sandbox.layout import Layout, SandboxMember
from raftctl.sandbox.mysqld import greets, prepare
from raftctl.sandbox.network import NamespaceNetwork, cuts, is_free, require_namespaces
from raftctl.sandbox.processes import wait_stopped

_CALL_S = 5.0  # one request to a supervisor
_KILL_S = 30.0  # the kernel frees a killed mysqld's memory before the process is gone
_POWER_S = 30.0
_PORTS_S = 1.0
_MYSQLD_START_S = 120.0
_STOP_S = 120.0  # handing over, and writing what is in mysqld's memory
_POLL_S = 0.02

T = TypeVar("T")


class Target(enum.StrEnum):
    """What a fault hits."""

    MYSQLD = "mysqld"
    CONTROLLER = "controller"
    GUARD = "guard"
    HOST = "host"


class Sandbox:
    """The sandbox in `directory`."""

    def __init__(self, directory: Path, layout: Layout) -> None:
        self.directory = directory
        self.layout = layout
        self._network = layout.network()

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.yaml"

    @property
    def option_file(self) -> Path:
        return self.directory / "app.cnf"

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
        _in_parallel(start, self.layout.members)

    def add(self, *, witness: bool, progress: Progress = ignore_progress) -> str:
        """One more host, up with a mysqld of its own and in the inventory, and not a member of the cluster: returns its
        name."""
        self.layout = layouts.extend(self.layout, witness=witness)
        self._network = self.layout.network()
        layouts.save(self.directory, self.layout)
        self.write_inventory()
        self.start_all(progress)
        return self.layout.names[-1]

    def _units(self, member: SandboxMember, mysqld: Sequence[str]) -> dict[str, dict[str, Any]]:
        home = self.directory / member.name
        config = str(home / "controller.yaml")

        def program(command: str, *flags: str) -> list[str]:
            return [sys.executable, "-m", "raftctl", "controller", command, "--config", config, *flags]

        # glibc's arena per thread would cost each controller some MB
        lean = {"MALLOC_ARENA_MAX": "2"}
        units: dict[str, dict[str, Any]] = {
            Unit.CONTROLLER: {"argv": program("run"), "restart": "always", "condition": config, "env": lean}
        }
        if not member.witness:
            units[Unit.GUARD] = {"argv": program("guard"), "restart": "always", "condition": config, "env": lean}
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

    def write_inventory(self) -> None:
        """Write DIR/inventory.yaml."""
        self.inventory.write_text(layouts.inventory(self.directory, self.layout))

    def down(self, *, purge: bool) -> None:
        """Kill every process of every host and remove the network; with `purge`, the directory too."""
        _in_parallel(lambda host: host.power_off(timeout=_KILL_S), self._hosts())
        if self._network:
            self._network.remove()
        if purge:
            shutil.rmtree(self.directory)

    # --- faults -----------------------------------------------------------------------------------

    def kill(self, name: str, target: Target, *, restart: bool = True) -> None:
        """SIGKILL. A host stays down, and so does a controller, until `start`; a mysqld and a guard are
        restarted as systemd would unless `restart` is false."""
        host = self.host(name)
        if target is Target.HOST:
            host.power_off(timeout=_KILL_S)
            return
        unit = self._unit(name, target)
        self._require_running(host)
        if not restart or unit is Unit.CONTROLLER:
            host.services.mask(unit, timeout=_CALL_S)
        host.services.kill(unit, timeout=_KILL_S)

    def stop(self, name: str, target: Target) -> None:
        """A planned stop, as `systemctl stop` or a host's shutdown: it stays down until `start`. A mysqld that is the
        primary's hands over first."""
        host = self.host(name)
        unit = Unit.MYSQLD if target is Target.HOST else self._unit(name, target)
        self._require_running(host)
        if unit.value in host.units():
            host.services.stop(unit, timeout=_STOP_S)
        if target is Target.HOST:
            host.power_off(timeout=_KILL_S)

    def freeze(self, name: str, target: Target) -> None:
        """SIGSTOP, and wait until it has stopped."""
        host = self.host(name)
        if target is Target.HOST:
            if not host.is_on():
                raise self._is_down(host)
            host.freeze(timeout=_CALL_S)
            return
        unit = self._unit(name, target)
        self._require_running(host)
        pid = host.services.main_pid(unit, timeout=_CALL_S)
        if pid is None:
            raise HostError(f"{unit} of {name} is not running", hint=f"`raftctl sandbox start {self.directory} {name}`")
        host.services.kill(unit, signal.SIGSTOP, timeout=_CALL_S)
        wait_stopped(pid, timeout=_CALL_S)

    def thaw(self, name: str, target: Target) -> None:
        """SIGCONT."""
        host = self.host(name)
        if target is Target.HOST:
            if not host.is_on():
                raise self._is_down(host)
            host.thaw()
            return
        unit = self._unit(name, target)
        self._require_running(host)
        host.services.kill(unit, signal.SIGCONT, timeout=_CALL_S)

    def start(self, name: str, target: Target, *, ungated: bool = False) -> None:
        """Undo `kill`: start what is down, also when it was to stay down. What runs is left alone. With `ungated`,
        mysqld does not wait for the controllers to say who is primary."""
        host = self.host(name)
        if ungated:
            Path(HostLayout(str(host.directory)).gate_open).touch()
        if target is not Target.HOST:
            unit = self._unit(name, target)
            self._require_running(host)
            _unmask_and_start(host, unit)
        elif host.is_on():
            self._require_running(host)
            for unit in self._configured_units(host):
                _unmask_and_start(host, unit)
        else:
            self._clear_the_way(host)
            if self._network:
                self._network.ensure()
            host.power_on(timeout=_POWER_S)

    def partition(self, sides: Sequence[Sequence[str]], *, one_way: bool) -> None:
        """Lose all packets between the sides, in addition to what is lost already: see `network.cuts`."""
        directions = cuts(self.layout.names, sides, one_way=one_way)
        self._require_network().drop(directions)

    def heal(self) -> None:
        """Undo every partition."""
        self._require_network().heal()

    # --- pieces -----------------------------------------------------------------------------------

    def _unit(self, name: str, target: Target) -> Unit:
        if target is Target.MYSQLD and self.layout.member(name).witness:
            raise UsageError(f"{name} is a witness: it has no mysqld")
        return Unit(target.value)

    def _configured_units(self, host: SandboxHost) -> list[Unit]:
        present = [unit for unit in Unit if unit.value in host.units()]
        return [unit for unit in present if host.services.is_configured(unit, timeout=_CALL_S)]

    def _is_down(self, host: SandboxHost) -> HostError:
        return HostError(f"{host.name} is down", hint=f"`raftctl sandbox start {self.directory} {host.name}`")

    def _require_running(self, host: SandboxHost) -> None:
        if not host.is_on():
            raise self._is_down(host)
        if host.is_frozen():
            raise HostError(f"{host.name} is frozen", hint=f"`raftctl sandbox thaw {self.directory} {host.name}`")

    def _clear_the_way(self, host: SandboxHost) -> None:
        """Kill what is left of an earlier life of the host (its supervisor is gone), and see that its ports
        are free.
        """
        host.power_off(timeout=_KILL_S)
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


def open_sandbox(directory: Path) -> Sandbox:
    """The sandbox that is in `directory`. Raises UsageError when there is none."""
    directory = directory.resolve()
    return Sandbox(directory, layouts.load(directory))


def open_or_plan(directory: Path, *, nodes: int, witnesses: int, namespaces: bool, settings: Sequence[str]) -> Sandbox:
    """The sandbox in `directory`, which exists; decided on now if there is none. No process is started.

    Raises:
        UsageError: bad arguments, other files in `directory`, or a sandbox of another shape.
        HostError: this machine cannot do it.
    """
    directory = directory.resolve()
    if namespaces:
        require_namespaces()
    wanted = layouts.Shape(nodes, witnesses, namespaces, layouts.parse_settings(settings))
    if any(directory.iterdir()):
        if not layouts.exists(directory):
            raise UsageError(f"{directory} is not empty, and not a sandbox", hint="choose a new directory")
        existing = layouts.load(directory)
        if existing.shape != wanted:
            raise UsageError(
                f"{directory} is a sandbox of another shape already",
                hint=f"give the same flags as before, or first `raftctl sandbox down {directory} --purge`",
            )
        return Sandbox(directory, existing)
    layout = layouts.plan(directory, wanted)
    # a wrong setting is refused before anything is written
    parsed = parse_inventory(layouts.inventory(directory, layout).encode(), directory / "inventory.yaml")
    require_odd_number(parsed.cluster(layouts.CLUSTER))
    layouts.save(directory, layout)
    return Sandbox(directory, layout)


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold `directory`, made if need be, against another `up` or `down`. Raises HostError when one is at
    work.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
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


def _unmask_and_start(host: SandboxHost, unit: Unit) -> None:
    host.services.unmask(unit, timeout=_CALL_S)
    host.services.start(unit, timeout=_CALL_S)


def _in_parallel(action: Callable[[T], None], items: Sequence[T]) -> None:
    """Do all, and raise the first failure when all have ended."""
    with ThreadPoolExecutor(max_workers=len(items)) as pool:
        futures = [pool.submit(action, item) for item in items]
    for future in futures:
        future.result()
