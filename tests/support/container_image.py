"""The images of the test hosts: Debian stable by debootstrap (nothing is pulled), and what the sandbox puts upon it.

Needs nothing but Python's own library, so that `python3 -m tests.support.container_image` can make them early.
"""

from __future__ import annotations

import fcntl
import hashlib
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HOST_FILE = Path(__file__).resolve().parents[2] / "raftctl" / "sandbox" / "host.Dockerfile"
BARE_FILE = Path(__file__).with_name("bare_host.Dockerfile")
VERSION = hashlib.sha256(HOST_FILE.read_bytes() + BARE_FILE.read_bytes()).hexdigest()[:12]
BASE = "raftctl-test-base:1"  # a change of what follows needs another number
IMAGE = f"raftctl-test-host:{VERSION}"
BARE_IMAGE = f"raftctl-test-bare:{VERSION}"  # without MySQL, which can be installed from a directory
SUITE, MIRROR = "trixie", "http://deb.debian.org/debian"
PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,python3,sudo,iproute2,ca-certificates"
BUILD_SECONDS, CALL_SECONDS = 1800.0, 120.0


def docker(*arguments: str, timeout: float = CALL_SECONDS, data: bytes = b"") -> str:
    done = subprocess.run(["docker", *arguments], input=data, capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout.decode()[-2000:]}{done.stderr.decode()}"
    return done.stdout.decode().strip()


def is_there(image: str) -> bool:
    return bool(docker("images", "--quiet", image))


def make_images() -> None:
    """Make the images that are not there; somebody else who makes them at the moment is waited for."""
    with Path(tempfile.gettempdir(), "raftctl-test-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_there(BASE):
            _make_base()
        if not is_there(IMAGE):
            _build(HOST_FILE, f"BASE={BASE}", IMAGE)
        if not is_there(BARE_IMAGE):
            _build(BARE_FILE, f"HOST={IMAGE}", BARE_IMAGE)


def _make_base() -> None:
    with tempfile.TemporaryDirectory(prefix="raftctl-image-") as directory:
        root = Path(directory) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), MIRROR]
        subprocess.run(command, check=True, timeout=BUILD_SECONDS, stdout=subprocess.DEVNULL)
        tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(["docker", "import", "-", BASE], stdin=tar.stdout, check=True, timeout=BUILD_SECONDS)
        assert tar.wait(CALL_SECONDS) == 0


def _build(file: Path, argument: str, tag: str) -> None:
    build = ["build", "--network", "host", "--build-arg", argument, "--tag", tag, "-"]
    docker(*build, timeout=BUILD_SECONDS, data=file.read_bytes())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing is left behind then, either
    make_images()
