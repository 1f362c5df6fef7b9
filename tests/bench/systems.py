"""The systems that are compared, each as three processes on loopback with their logs on one disk."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, NamedTuple

from raftctl.sandbox.apt import PrivateApt, Source
from raftctl.sandbox.distribution import cache_directory
from raftctl.sandbox.network import free_ports
from tests.bench.clients import Client, EtcdClient, LineClient

ROOT = Path(__file__).parents[2]
NAMES = ("n1", "n2", "n3")
PYSYNCOBJ = "pysyncobj==0.3.17"
START_SECONDS = 60.0


class Timing(NamedTuple):
    heartbeat_ms: int
    election_ms: int


class Member(NamedTuple):
    name: str
    client_port: int
    process: subprocess.Popen[bytes]

    def ticks(self) -> int:
        """Processor time so far, in clock ticks (proc(5))."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class System:
    """How to run one system; subclasses say what a member's command is and who leads."""

    name: str
    client: type[Client]

    def command(
        self, member: str, ports: dict[str, int], client_port: int, directory: Path, timing: Timing
    ) -> list[str]:
        raise NotImplementedError

    async def leads(self, member: Member) -> bool:
        raise NotImplementedError

    def start(self, directory: Path, timing: Timing) -> Group:
        peer_ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        client_ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        members = []
        for name in NAMES:
            home = directory / name
            home.mkdir()
            command = self.command(name, peer_ports, client_ports[name], home, timing)
            with (home / "log").open("wb") as log:
                members.append(
                    Member(name, client_ports[name], subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
                )
        return Group(self, members)


class Group:
    """Three running members."""

    def __init__(self, system: System, members: list[Member]) -> None:
        self.system = system
        self.members = members

    async def leader(self) -> Member:
        """Waits for one to lead."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                for member in self.members:
                    with contextlib.suppress(OSError, TimeoutError, http.client.HTTPException):
                        if await self.system.leads(member):
                            return member
                await asyncio.sleep(0.05)

    async def connect(self, member: Member) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(self.system.client, "127.0.0.1", member.client_port)
        return client

    def kill(self) -> None:
        for member in self.members:
            member.process.kill()
        for member in self.members:
            member.process.wait(timeout=30)


class _Python(System):
    client = LineClient
    module: str
    interpreter: str

    def command(
        self, member: str, ports: dict[str, int], client_port: int, directory: Path, timing: Timing
    ) -> list[str]:
        settings: dict[str, Any] = {
            "name": member,
            "peer_ports": ports,
            "client_port": client_port,
            "directory": str(directory),
            **timing._asdict(),
        }
        (directory / "config.json").write_text(json.dumps(settings))
        return [self.interpreter, "-m", self.module, str(directory / "config.json")]

    async def leads(self, member: Member) -> bool:
        _, client = await asyncio.get_running_loop().create_connection(LineClient, "127.0.0.1", member.client_port)
        try:
            return await client.is_leader()
        finally:
            client.close()


class Raftctl(_Python):
    name = "raftctl"
    module = "tests.bench.node_raftctl"
    interpreter = sys.executable


class PySyncObj(_Python):
    name = "PySyncObj (never syncs)"
    module = "tests.bench.node_pysyncobj"

    def __init__(self, directory: Path) -> None:
        """Installs it into a virtual environment of its own in `directory`."""
        venv.create(directory, with_pip=True)
        self.interpreter = str(directory / "bin" / "python")
        subprocess.run([self.interpreter, "-m", "pip", "install", "-q", PYSYNCOBJ], check=True, timeout=600)


class Etcd(System):
    name = "etcd"
    client = EtcdClient

    def __init__(self) -> None:
        self.program = _find_or_fetch_etcd()
        version = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True, timeout=30)
        self.name = "etcd " + version.stdout.split()[2]

    def command(
        self, member: str, ports: dict[str, int], client_port: int, directory: Path, timing: Timing
    ) -> list[str]:
        peer, client = (f"http://127.0.0.1:{port}" for port in (ports[member], client_port))
        options = {
            "name": member,
            "data-dir": directory / "data",
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "initial-cluster": ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in ports.items()),
            "heartbeat-interval": timing.heartbeat_ms,
            "election-timeout": timing.election_ms,
            "logger": "zap",
            "log-level": "error",
        }
        return [self.program, *(f"--{name}={value}" for name, value in options.items())]

    async def leads(self, member: Member) -> bool:
        return await asyncio.to_thread(self._leads, member.client_port)

    def _leads(self, port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", "/v3/maintenance/status", "{}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return bool(answer.get("leader")) and answer["leader"] == answer["header"]["member_id"]


def _find_or_fetch_etcd() -> str:
    """etcd on PATH, else Debian's or Ubuntu's package unpacked into raftctl's cache."""
    fetched = cache_directory() / "etcd" / "root" / "usr" / "bin" / "etcd"
    found = shutil.which("etcd") or (str(fetched) if os.access(fetched, os.X_OK) else "")
    if not found:
        apt = PrivateApt(cache_directory() / "etcd" / "apt", Source("this machine's apt sources"))
        apt.update()
        apt.download([p for p in apt.resolve(["etcd-server"]) if p.name == "etcd-server"], lambda _done: None)
        apt.unpack(cache_directory() / "etcd" / "root", lambda _done: None)
        found = str(fetched)
    return found
