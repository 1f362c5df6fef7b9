"""Three hosts as a DBA has them, in containers: systemd as PID 1, sshd, MySQL under its distribution's unit.

The image is built once: Debian stable by debootstrap (nothing is pulled), MySQL from unstable.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.sshd import make_key
from tests.support.waiting import wait_until

IMAGE = "raftctl-test-host:1"  # a change of the Dockerfile needs another number
DOCKERFILE = Path(__file__).with_name("container_host.Dockerfile")
SUITE, MIRROR = "trixie", "http://deb.debian.org/debian"
PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,python3,sudo,iproute2,ca-certificates"
BUILD_SECONDS, CALL_SECONDS, START_SECONDS = 1800.0, 120.0, 180.0
SUBNET = "10.213.78"


def docker(*arguments: str, timeout: float = CALL_SECONDS, data: bytes = b"") -> str:
    done = subprocess.run(["docker", *arguments], input=data, capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode()}"
    return done.stdout.decode().strip()


def require_engine() -> None:
    """Skips without a Docker engine that can be used, and without root for debootstrap."""
    if shutil.which("docker") and os.geteuid() == 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0:
                return
    if os.environ.get("RAFTCTL_REQUIRE_DOCKER"):
        pytest.fail("no Docker engine here, and RAFTCTL_REQUIRE_DOCKER asks for it")
    pytest.skip("no Docker engine that root can use here")


def require_image() -> None:
    if docker("images", "--quiet", IMAGE):
        return
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap, which makes the hosts' image, is not here")
    with tempfile.TemporaryDirectory(prefix="raftctl-image-") as directory:
        root, base = Path(directory) / "root", f"{IMAGE}-base"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), MIRROR]
        subprocess.run(command, check=True, timeout=BUILD_SECONDS, stdout=subprocess.DEVNULL)
        tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(["docker", "import", "-", base], stdin=tar.stdout, check=True, timeout=BUILD_SECONDS)
        assert tar.wait(CALL_SECONDS) == 0
        build = ["build", "--network", "host", "--build-arg", f"BASE={base}", "--tag", IMAGE, "-"]
        docker(*build, timeout=BUILD_SECONDS, data=DOCKERFILE.read_bytes())


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
