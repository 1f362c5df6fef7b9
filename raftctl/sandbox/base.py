"""What can be done to a sandbox, whatever its hosts are: local processes, or containers.

Everything about a sandbox is in its directory; nothing depends on this process living on. Each function returns once
what it says is done, or raises within its deadline.
"""

from __future__ import annotations

import abc
import enum
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol, TypeVar

from raftctl.errors import HostError, UsageError
from raftctl.hosts.services import ServiceManager, Unit
from raftctl.sandbox import layout as layouts
from raftctl.sandbox.apt import Progress, ignore_progress
from raftctl.sandbox.layout import Layout
from raftctl.sandbox.network import cuts

CALL_S: Final = 5.0  # one request to who runs a host's units
KILL_S: Final = 30.0  # the kernel frees a killed mysqld's memory before the process is gone
STOP_S: Final = 120.0  # handing over, and writing what is in mysqld's memory

T = TypeVar("T")


class Target(enum.StrEnum):
    """What a fault hits."""

    MYSQLD = "mysqld"
    CONTROLLER = "controller"
    GUARD = "guard"
    HOST = "host"


class MemberHost(Protocol):
    """A host of a sandbox. Each call raises HostError."""

    name: str

    @property
    def services(self) -> ServiceManager: ...
    def is_on(self) -> bool: ...
    def is_frozen(self) -> bool: ...
    def power_off(self, *, timeout: float) -> None:
        """At once, as by the plug."""

    def freeze(self, *, timeout: float) -> None: ...
    def thaw(self) -> None: ...
    def units(self) -> list[str]:
        """What it runs once it is configured."""

    def configured_units(self, *, timeout: float) -> list[Unit]:
        """Those of them that may be started now."""

    def open_gate(self) -> None:
        """mysqld's next start does not wait for the controllers."""

    def wait_stopped(self, pid: int, *, timeout: float) -> None:
        """Until a process that was sent SIGSTOP has stopped."""


class MemberNetwork(Protocol):
    """A network in which each member has an address of its own. Each call raises HostError."""

    def drop(self, directions: Iterable[tuple[str, str]]) -> None: ...
    def heal(self) -> None: ...


class AnySandbox(abc.ABC):
    """The sandbox in `directory`."""

    def __init__(self, directory: Path, layout: Layout) -> None:
        self.directory = directory
        self.layout = layout

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.yaml"

    @property
    def option_file(self) -> Path:
        return self.directory / "app.cnf"

    @abc.abstractmethod
    def host(self, name: str) -> MemberHost:
        """Raises UsageError when there is no such member."""

    @abc.abstractmethod
    def start_all(self, progress: Progress = ignore_progress) -> None:
        """Start every host that is down, with its mysqld, and wait until all servers accept connections."""

    @abc.abstractmethod
    def down(self, *, purge: bool) -> None:
        """End every process of every host; with `purge`, remove all that there is of the sandbox."""

    @abc.abstractmethod
    def _turn_on(self, host: MemberHost) -> None:
        """Power on a host that is off."""

    @abc.abstractmethod
    def _require_network(self) -> MemberNetwork:
        """Raises UsageError when all members have one address."""

    def write_inventory(self) -> None:
        """Write DIR/inventory.yaml."""
        self.inventory.write_text(layouts.inventory(self.directory, self.layout))

    def add(self, *, witness: bool, progress: Progress = ignore_progress) -> str:
        """One more host, up with a mysqld of its own and in the inventory, and not a member of the cluster: returns its
        name."""
        self.layout = layouts.extend(self.layout, witness=witness)
        layouts.save(self.directory, self.layout)
        self.write_inventory()
        self.start_all(progress)
        return self.layout.names[-1]

    # --- faults -----------------------------------------------------------------------------------

    def kill(self, name: str, target: Target, *, restart: bool = True) -> None:
        """SIGKILL. A host stays down, and so does a controller, until `start`; a mysqld and a guard are
        restarted as systemd would unless `restart` is false."""
        host = self.host(name)
        if target is Target.HOST:
            host.power_off(timeout=KILL_S)
            return
        unit = self._unit(name, target)
        self._require_running(host)
        if not restart or unit is Unit.CONTROLLER:
            host.services.mask(unit, timeout=CALL_S)
        host.services.kill(unit, timeout=KILL_S)

    def stop(self, name: str, target: Target) -> None:
        """A planned stop, as `systemctl stop` or a host's shutdown: it stays down until `start`. A mysqld that is the
        primary's hands over first."""
        host = self.host(name)
        unit = Unit.MYSQLD if target is Target.HOST else self._unit(name, target)
        self._require_running(host)
        if unit.value in host.units():
            host.services.stop(unit, timeout=STOP_S)
        if target is Target.HOST:
            host.power_off(timeout=KILL_S)

    def freeze(self, name: str, target: Target) -> None:
        """SIGSTOP, and wait until it has stopped."""
        host = self.host(name)
        if target is Target.HOST:
            if not host.is_on():
                raise self._is_down(host)
            host.freeze(timeout=CALL_S)
            return
        unit = self._unit(name, target)
        self._require_running(host)
        pid = host.services.main_pid(unit, timeout=CALL_S)
        if pid is None:
            raise HostError(f"{unit} of {name} is not running", hint=f"`raftctl sandbox start {self.directory} {name}`")
        host.services.kill(unit, signal.SIGSTOP, timeout=CALL_S)
        host.wait_stopped(pid, timeout=CALL_S)

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
        host.services.kill(unit, signal.SIGCONT, timeout=CALL_S)

    def start(self, name: str, target: Target, *, ungated: bool = False) -> None:
        """Undo `kill`: start what is down, also when it was to stay down. What runs is left alone. With `ungated`,
        mysqld does not wait for the controllers to say who is primary."""
        host = self.host(name)
        if ungated:
            host.open_gate()
        if target is not Target.HOST:
            unit = self._unit(name, target)
            self._require_running(host)
            _unmask_and_start(host, unit)
        elif host.is_on():
            self._require_running(host)
            configured = host.configured_units(timeout=CALL_S)
            for unit in map(Unit, host.units()):  # what is configured later must not find itself masked
                host.services.unmask(unit, timeout=CALL_S)
                if unit in configured:
                    host.services.start(unit, timeout=CALL_S)
        else:
            self._turn_on(host)

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

    def _is_down(self, host: MemberHost) -> HostError:
        return HostError(f"{host.name} is down", hint=f"`raftctl sandbox start {self.directory} {host.name}`")

    def _require_running(self, host: MemberHost) -> None:
        if not host.is_on():
            raise self._is_down(host)
        if host.is_frozen():
            raise HostError(f"{host.name} is frozen", hint=f"`raftctl sandbox thaw {self.directory} {host.name}`")


def _unmask_and_start(host: MemberHost, unit: Unit) -> None:
    host.services.unmask(unit, timeout=CALL_S)
    host.services.start(unit, timeout=CALL_S)


def in_parallel(action: Callable[[T], None], items: Sequence[T]) -> None:
    """Do all, and raise the first failure when all have ended."""
    with ThreadPoolExecutor(max_workers=len(items)) as pool:
        futures = [pool.submit(action, item) for item in items]
    for future in futures:
        future.result()
