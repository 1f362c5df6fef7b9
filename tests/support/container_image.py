"""The image of the test hosts: Debian stable by debootstrap (nothing is pulled), MySQL from unstable.

Needs nothing but Python's own library, so that `python3 -m tests.support.container_image` can make it early.
"""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGE = "raftctl-test-host:1"  # a change of the Dockerfile needs another number
DOCKERFILE = Path(__file__).with_name("container_host.Dockerfile")
SUITE, MIRROR = "trixie", "http://deb.debian.org/debian"
PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,python3,sudo,iproute2,ca-certificates"
BUILD_SECONDS, CALL_SECONDS = 1800.0, 120.0


def docker(*arguments: str, timeout: float = CALL_SECONDS, data: bytes = b"") -> str:
    done = subprocess.run(["docker", *arguments], input=data, capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode()}"
    return done.stdout.decode().strip()


def make_image() -> None:
    """Make the image unless it is there; somebody else who makes it at the moment is waited for."""
    with Path(tempfile.gettempdir(), "raftctl-test-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not docker("images", "--quiet", IMAGE):
            _build()


def _build() -> None:
    base = f"{IMAGE}-base"
    with tempfile.TemporaryDirectory(prefix="raftctl-image-") as directory:
        root = Path(directory) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), MIRROR]
        subprocess.run(command, check=True, timeout=BUILD_SECONDS, stdout=subprocess.DEVNULL)
        tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(["docker", "import", "-", base], stdin=tar.stdout, check=True, timeout=BUILD_SECONDS)
        assert tar.wait(CALL_SECONDS) == 0
    build = ["build", "--network", "host", "--build-arg", f"BASE={base}", "--tag", IMAGE, "-"]
    docker(*build, timeout=BUILD_SECONDS, data=DOCKERFILE.read_bytes())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing is left behind then, either
    make_image()
