"""Hosts as a DBA has them, in containers: systemd as PID 1, sshd, MySQL under its distribution's unit."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest
import yaml

from raftctl.bootstrap.application import create_application
from raftctl.cli.cluster import open_cluster
from raftctl.cli.options import Options
from raftctl.mysql.client import Endpoint
from raftctl.sandbox.cluster import AnySandbox
from raftctl.secret import Secret
from tests.support.container_image import BASE, CALL_SECONDS, IMAGE, docker, is_there, make_images
from tests.support.sshd import make_key
from tests.support.stage import Stage
from tests.support.waiting import wait_until

START_SECONDS = 180.0
COMMAND_SECONDS = 600.0
# A host is a group of processes that counts as one where the kernel shares out processors: as much as four others.
CPU_SHARES = "4096"
PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
APPLICATION, PASSWORD = "app", "app-Pass.1"


def require_engine() -> None:
    """Skips without a Docker engine that can be used, and without root for debootstrap."""
    if shutil.which("docker") and os.geteuid() == 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0:
                return
    _skip("no Docker engine that root can use here")


def _skip(why: str) -> None:
    if os.environ.get("RAFTCTL_REQUIRE_DOCKER"):
        pytest.fail(f"{why}, and RAFTCTL_REQUIRE_DOCKER asks for it")
    pytest.skip(why)


def require_images() -> None:
    if shutil.which("debootstrap") is None and not is_there(BASE):
        _skip("debootstrap, which makes the hosts' image, is not here")
    make_images()


class ContainerHosts:
    """Hosts db1, db2, ... of one network. `inventory` has some of them as the cluster orders, reached over SSH
    by a user with sudo."""

    def __init__(self, directory: Path, *, subnet: str) -> None:
        self.directory = directory
        self.inventory = directory / "inventory.yaml"
        self._subnet = subnet
        self._network = f"raftctl-test-{os.getpid()}-{subnet}"
        self._running: list[str] = []

    def up(self, names: Sequence[str], *, image: str = IMAGE) -> None:
        make_key(self.directory / "key")
        docker("network", "create", "--subnet", f"{self._subnet}.0/24", self._network)
        self.add(*names, image=image)
        self.write_inventory(names)

    def add(self, *names: str, image: str = IMAGE) -> None:
        """Start new hosts, which are in no inventory yet."""
        for name in names:
            self._running.append(name)
            docker(
                *("run", "--detach", "--name", self._container(name), "--hostname", name),
                *("--network", self._network, "--ip", self.address(name)),
                *("--env", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "--tmpfs", "/run", "--tmpfs", "/run/lock"),
                *("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--cgroupns", "host"),
                # CLONE renames directories, which overlayfs refuses for those of the image
                *("--volume", "/var/lib/mysql", "--memory", "1500m", "--cpu-shares", CPU_SHARES),
                # as on a host of its own: for the priority of the units, and for memory that is locked
                *("--cap-add", "SYS_NICE", "--cap-add", "IPC_LOCK", image),
            )
        public = (self.directory / "key.pub").read_bytes()
        for name in names:
            self.wait_for_units(name, "ssh")
            self.sh(name, "cat > /home/dba/.ssh/authorized_keys", data=public)
        self._write_known_hosts()

    def remove(self, name: str) -> None:
        """The host is gone for good, with its disks."""
        docker("rm", "--force", "--volumes", self._container(name))
        self._running.remove(name)

    def down(self) -> None:
        containers = map(self._container, self._running)
        subprocess.run(["docker", "rm", "--force", "--volumes", *containers], capture_output=True, check=False)
        subprocess.run(["docker", "network", "rm", self._network], capture_output=True, check=False)

    def write_inventory(self, names: Sequence[str]) -> None:
        variables = {
            "ansible_user": "dba",
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.directory / 'known_hosts'}",
            "raftctl": {"failover": {"cooldown": "0s"}},
        }
        hosts = {name: {"ansible_host": self.address(name)} for name in names}
        self.inventory.write_text(yaml.safe_dump({"orders": {"vars": variables, "hosts": hosts}}))

    def _write_known_hosts(self) -> None:
        keys = [
            f"{self.address(name)} {self.sh(name, 'cat /etc/ssh/ssh_host_ed25519_key.pub')}" for name in self._running
        ]
        (self.directory / "known_hosts").write_text("\n".join(keys) + "\n")

    # --- what is done to a host ---

    def address(self, name: str) -> str:
        return f"{self._subnet}.{10 + int(name.removeprefix('db'))}"

    def sh(self, name: str, script: str, *, data: bytes = b"", timeout: float = CALL_SECONDS) -> str:
        return docker("exec", "-i", self._container(name), "sh", "-c", script, data=data, timeout=timeout)

    def sql(self, name: str, statements: str, *, timeout: float = CALL_SECONDS) -> str:
        """As root of MySQL, through the socket."""
        return self.sh(name, "mysql --batch --skip-column-names", data=statements.encode(), timeout=timeout)

    def wait_for_units(self, name: str, *units: str) -> None:
        def ready() -> bool:
            command = ["docker", "exec", self._container(name), "systemctl", "is-active", *units]
            return subprocess.run(command, capture_output=True, timeout=CALL_SECONDS, check=False).returncode == 0

        wait_until(ready, what=f"{' and '.join(units)} of {name} run", timeout=START_SECONDS)

    def main_pid(self, name: str, unit: str) -> str:
        return self.sh(name, f"systemctl show --property=MainPID --value {unit}")

    def reboot(self, name: str) -> None:
        """As `reboot` in it: systemd stops every unit, then starts again."""
        docker("restart", "--time", "120", self._container(name), timeout=180)

    def cut_power(self, name: str) -> None:
        docker("kill", self._container(name))

    def power_on(self, name: str) -> None:
        docker("start", self._container(name))

    def disconnect(self, name: str) -> None:
        docker("network", "disconnect", self._network, self._container(name))

    def give_address(self, name: str, address: str) -> None:
        """One more, as 192.0.2.1/24, until the host stops."""
        pid = docker("inspect", "--format", "{{.State.Pid}}", self._container(name))
        command = ["nsenter", "--target", pid, "--net", "ip", "address", "add", address, "dev", "eth0"]
        subprocess.run(command, check=True, timeout=CALL_SECONDS)

    def connect(self, name: str) -> None:
        docker("network", "connect", "--ip", self.address(name), self._network, self._container(name))

    def _container(self, name: str) -> str:
        return f"{self._network}-{name}"

    # --- what is done to the cluster ---

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "raftctl", "-i", str(self.inventory), *arguments]

    def attempt(self, *arguments: str, timeout: float = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
        """raftctl with this inventory, whatever becomes of it."""
        return subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "COLUMNS": "200"},
            check=False,
        )

    def raftctl(self, *arguments: str, timeout: float = COMMAND_SECONDS) -> str:
        done = self.attempt(*arguments, timeout=timeout)
        assert done.returncode == 0, f"raftctl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def play(self, playbook: str, **variables: object) -> int:
        """Run a playbook; returns how many tasks changed something."""
        programs = Path(sys.executable).parent
        environment = os.environ | {
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "PATH": f"{programs}:{os.environ['PATH']}",
        }
        command = ["ansible-playbook", "-i", str(self.inventory), str(PLAYBOOKS / playbook)]
        command += ["-e", json.dumps({"cluster": "orders", **variables})]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, env=environment, check=False
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        recap = done.stdout[done.stdout.index("PLAY RECAP") :]
        return sum(int(number) for number in re.findall(r"changed=(\d+)", recap))

    def stage(self) -> Stage:
        """The cluster as the inventory has it now, with an application's account."""
        cluster = open_cluster(Options(inventory=self.inventory))
        login = Endpoint(user=APPLICATION, password=Secret(PASSWORD))
        return Stage(cast(AnySandbox, None), cluster, APPLICATION, login)  # the hosts are no sandbox's

    def create_application(self) -> None:
        cluster = open_cluster(Options(inventory=self.inventory)).inventory
        create_application(cluster, database=APPLICATION, user=APPLICATION, password=Secret(PASSWORD))


@contextlib.contextmanager
def container_hosts(
    directory: Path, *, subnet: str, names: Sequence[str] = ("db1", "db2", "db3"), image: str = IMAGE
) -> Iterator[ContainerHosts]:
    require_engine()
    require_images()
    hosts = ContainerHosts(directory, subnet=subnet)
    try:
        hosts.up(names, image=image)
        yield hosts
    finally:
        hosts.down()
