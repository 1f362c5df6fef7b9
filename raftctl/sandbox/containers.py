"""Containers as hosts: systemd as PID 1, sshd and MySQL in each. The only door to Docker.

The image is built once, from host.Dockerfile. Nothing is mounted into a container but the control groups, which its
systemd needs; it gets NET_ADMIN for partitions, and what a host has for the priority and the memory of its units.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raftctl.bootstrap.layout import Layout as HostLayout
from raftctl.errors import HostError
from raftctl.hosts.services import ServiceManager, Unit
from raftctl.hosts.systemd import Outcome, SystemdServices
from raftctl.inventory.model import DIRECTORY

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

_DOCKERFILE: Final = Path(__file__).with_name("host.Dockerfile")
_CALL_S: Final = 60.0
_BUILD_S: Final = 1800.0
_MEMORY: Final = "1500m"
_LABEL: Final = "raftctl.sandbox"
_PRIVILEGES: Final = ["NET_ADMIN", "SYS_NICE", "IPC_LOCK"]


class Engine:
    """The Docker engine of this machine, for the sandbox `tag`."""

    def __init__(self, tag: str) -> None:
        """Raises HostError when there is no engine, or no library to talk to it."""
        self._tag = tag
        self._client = _connect()

    def image(self, base: str) -> str:
        """The image of a host upon `base`, built unless it is there. Raises HostError."""
        text = _DOCKERFILE.read_bytes()
        name = f"raftctl-host:{hashlib.sha256(base.encode() + text).hexdigest()[:12]}"
        with _translated(f"cannot build the image of the hosts upon {base}"):
            if not self._client.images.list(name=name):
                client = _connect(timeout=_BUILD_S)
                client.images.build(
                    fileobj=io.BytesIO(text), buildargs={"BASE": base}, tag=name, network_mode="host", rm=True
                )
        return name

    def make_network(self, subnet: str) -> None:
        """The members' network, unless it is there. Raises HostError."""
        from docker.types import IPAMConfig, IPAMPool

        with _translated(f"cannot make a network {subnet}"):
            if not self._client.networks.list(names=[self._network]):
                pools = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
                self._client.networks.create(self._network, driver="bridge", ipam=pools, labels={_LABEL: self._tag})

    def host(self, name: str, *, witness: bool) -> ContainerHost:
        return ContainerHost(name, self._container_name(name), self._client, witness=witness)

    def create(self, name: str, *, image: str, address: str) -> None:
        """A new host; it is not started. Raises HostError."""
        with _translated(f"cannot make a container for {name}"):
            self._client.containers.create(
                image,
                name=self._container_name(name),
                hostname=name,
                labels={_LABEL: self._tag},
                environment={"SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE": "1"},
                tmpfs={"/run": "", "/run/lock": ""},
                # CLONE renames directories, which overlayfs refuses for those of the image: a volume for the data
                volumes=["/var/lib/mysql", "/sys/fs/cgroup:/sys/fs/cgroup:rw"],
                cgroupns="host",
                cap_add=_PRIVILEGES,
                mem_limit=_MEMORY,
                network=self._network,
                networking_config={self._network: self._client.api.create_endpoint_config(ipv4_address=address)},
            )

    def remove(self) -> None:
        """Every container of the sandbox with its disks, and its network; running or not. Raises HostError."""
        label = f"{_LABEL}={self._tag}"
        with _translated("cannot remove the containers"):
            for container in self._client.containers.list(all=True, filters={"label": label}):
                container.remove(force=True, v=True)
            for network in self._client.networks.list(filters={"label": label}):
                network.remove()

    @property
    def _network(self) -> str:
        return f"raftctl-{self._tag}"

    def _container_name(self, name: str) -> str:
        return f"raftctl-{self._tag}-{name}"


class ContainerHost:
    """One host. Each call raises HostError."""

    def __init__(self, name: str, container: str, client: docker.DockerClient, *, witness: bool) -> None:
        self.name = name
        self.container = container
        self._client = client
        self._units = [Unit.CONTROLLER] if witness else [Unit.MYSQLD, Unit.CONTROLLER, Unit.GUARD]
        self.services: ServiceManager = SystemdServices(self.attempt)

    def exists(self) -> bool:
        return self._state() != ""

    def is_on(self) -> bool:
        return self._state() in ("running", "paused")

    def is_frozen(self) -> bool:
        return self._state() == "paused"

    def _state(self) -> str:
        """What Docker calls it; "" when there is no such container."""
        import docker.errors

        with _translated(f"cannot look at {self.name}"):
            try:
                return str(self._client.containers.get(self.container).status)
            except docker.errors.NotFound:
                return ""

    def power_on(self) -> None:
        self._do("start", lambda container: container.start())

    def power_off(self, *, timeout: float) -> None:  # noqa: ARG002 (the client has a deadline for every call)
        """At once, as by the plug; nothing when it is off."""
        if self.is_on():
            self._do("kill", lambda container: container.kill())

    def freeze(self, *, timeout: float) -> None:  # noqa: ARG002
        if not self.is_frozen():
            self._do("freeze", lambda container: container.pause())

    def thaw(self) -> None:
        if self.is_frozen():
            self._do("thaw", lambda container: container.unpause())

    def units(self) -> list[str]:
        return [unit.value for unit in self._units]

    def configured_units(self, *, timeout: float) -> list[Unit]:
        """raftctl's own are there after bootstrap."""
        there = self.attempt(["test", "-e", HostLayout(DIRECTORY).config], timeout).status == 0
        return [unit for unit in self._units if there or unit is Unit.MYSQLD]

    def open_gate(self) -> None:
        self.run(["touch", HostLayout(DIRECTORY).gate_open])

    def wait_stopped(self, pid: int, *, timeout: float) -> None:
        waiting = f"until grep -q '^State:.[Tt]' /proc/{pid}/status; do sleep 0.05; done"
        self.run(["sh", "-c", waiting], timeout)

    def attempt(self, argv: Sequence[str], timeout: float = _CALL_S) -> Outcome:
        """Run a program as root in it, for at most `timeout` seconds, whatever becomes of it."""
        bounded = ["timeout", "--kill-after=5", f"{timeout:g}", *argv]
        with _translated(f"{self.name}: cannot run {argv[0]}"):
            container = self._client.containers.get(self.container)
            result: Any = container.exec_run(bounded, demux=True)
        stdout, stderr = result.output
        return Outcome(result.exit_code, stdout or b"", stderr or b"")

    def run(self, argv: Sequence[str], timeout: float = _CALL_S) -> bytes:
        """Its standard output; HostError when it fails."""
        outcome = self.attempt(argv, timeout)
        if outcome.status != 0:
            lines = outcome.stderr.decode(errors="replace").strip().splitlines()
            raise HostError(f"{self.name}: {argv[0]} failed: {lines[-1] if lines else outcome.status}")
        return outcome.stdout

    def _do(self, what: str, action: Callable[[Container], Any]) -> None:
        with _translated(f"cannot {what} {self.name}"):
            container: Container = self._client.containers.get(self.container)
            action(container)


def _connect(timeout: float = _CALL_S) -> docker.DockerClient:
    try:
        import docker
    except ImportError:
        raise HostError(
            "the library that talks to Docker is not installed", hint="pip install 'raftctl[docker]'"
        ) from None
    with _translated("there is no Docker engine that can be used here"):
        client = docker.from_env(timeout=int(timeout))
        client.ping()
    return client


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    import docker.errors
    import requests.exceptions

    try:
        yield
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        lines = str(getattr(error, "explanation", "") or error).strip().splitlines()
        raise HostError(
            f"{what}: {lines[-1] if lines else type(error).__name__}", hint="see `docker info`, or use --driver local"
        ) from None
