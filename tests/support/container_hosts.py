"""Three hosts as a DBA has them, in containers: systemd as PID 1, sshd, MySQL under its distribution's unit."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.container_image import CALL_SECONDS, IMAGE, docker, make_image
from tests.support.sshd import make_key
from tests.support.waiting import wait_until

START_SECONDS = 180.0
SUBNET = "10.213.78"


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


def require_image() -> None:
    if shutil.which("debootstrap") is None and not docker("images", "--quiet", IMAGE):
        _skip("debootstrap, which makes the hosts' image, is not here")
    make_image()


class ContainerHosts:
    """`inventory` names db1 to db3 as SSH hosts of the cluster orders; the user is not root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.inventory = directory / "inventory.yaml"
        self.names = ("db1", "db2", "db3")
        self._network = f"raftctl-test-{os.getpid()}"

    def up(self) -> None:
        public = make_key(self.directory / "key")
        docker("network", "create", "--subnet", f"{SUBNET}.0/24", self._network)
        for name in self.names:
            docker(
                *("run", "--detach", "--name", self._container(name), "--hostname", name),
                *("--network", self._network, "--ip", self.address(name)),
                *("--env", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "--tmpfs", "/run", "--tmpfs", "/run/lock"),
                *("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--cgroupns", "host"),
                # CLONE renames directories, which overlayfs refuses for those of the image
                *("--volume", "/var/lib/mysql", "--memory", "1500m", IMAGE),
            )
        for name in self.names:
            self.wait_for_mysqld(name)
            self.sh(name, "cat > /home/dba/.ssh/authorized_keys", data=public.encode())
        keys = [f"{self.address(name)} {self.sh(name, 'cat /etc/ssh/ssh_host_ed25519_key.pub')}" for name in self.names]
        (self.directory / "known_hosts").write_text("\n".join(keys) + "\n")
        self._write_inventory()

    def _write_inventory(self) -> None:
        variables = {
            "ansible_user": "dba",
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.directory / 'known_hosts'}",
            "raftctl": {"failover": {"cooldown": "0s"}},
        }
        hosts = {name: {"ansible_host": self.address(name)} for name in self.names}
        self.inventory.write_text(yaml.safe_dump({"orders": {"vars": variables, "hosts": hosts}}))

    def down(self) -> None:
        subprocess.run(
            ["docker", "rm", "--force", "--volumes", *map(self._container, self.names)],
            capture_output=True,
            check=False,
        )
        subprocess.run(["docker", "network", "rm", self._network], capture_output=True, check=False)

    def address(self, name: str) -> str:
        return f"{SUBNET}.{10 + int(name.removeprefix('db'))}"

    def sh(self, name: str, script: str, *, data: bytes = b"", timeout: float = CALL_SECONDS) -> str:
        return docker("exec", "-i", self._container(name), "sh", "-c", script, data=data, timeout=timeout)

    def wait_for_mysqld(self, name: str) -> None:
        def ready() -> bool:
            command = ["docker", "exec", self._container(name), "systemctl", "is-active", "mysql", "ssh"]
            return subprocess.run(command, capture_output=True, timeout=CALL_SECONDS, check=False).returncode == 0

        wait_until(ready, what=f"mysqld and sshd of {name} run", timeout=START_SECONDS, interval=0.5)

    def reboot(self, name: str) -> None:
        """As `reboot` in it: systemd stops every unit, then starts again."""
        docker("restart", "--time", "120", self._container(name), timeout=180)

    def disconnect(self, name: str) -> None:
        docker("network", "disconnect", self._network, self._container(name))

    def connect(self, name: str) -> None:
        docker("network", "connect", "--ip", self.address(name), self._network, self._container(name))

    def _container(self, name: str) -> str:
        return f"{self._network}-{name}"


@contextlib.contextmanager
def container_hosts(directory: Path) -> Iterator[ContainerHosts]:
    require_engine()
    require_image()
    hosts = ContainerHosts(directory)
    try:
        hosts.up()
        yield hosts
    finally:
        hosts.down()
