"""A disk for tests: ext4 on a loop device, which can stall, be slow, or be full."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raftctl.errors import HostError
from tests.support.waiting import wait_until

_BLOCK_BYTES = 4096
_SECONDS = 60.0
_WORKS_SECONDS, _PAUSES_SECONDS = 0.02, 0.2  # of a slow disk, by turns


class Disk:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Meanwhile no write returns; who writes cannot even be killed."""
        _run("fsfreeze", "--freeze", str(self._directory))
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", str(self._directory))

    @contextlib.contextmanager
    def slow(self) -> Iterator[None]:
        """Meanwhile a write may take a quarter of a second."""
        enough = threading.Event()

        def alternate() -> None:
            while not enough.wait(_WORKS_SECONDS):
                with self.stalled():
                    enough.wait(_PAUSES_SECONDS)

        with ThreadPoolExecutor(1) as thread:
            alternating = thread.submit(alternate)
            try:
                yield
            finally:
                enough.set()
                alternating.result()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Meanwhile there is no space."""
        ballast = self._directory / "ballast"
        try:
            with ballast.open("wb") as file:
                _allocate_all(file.fileno())
            yield
        finally:
            ballast.unlink()


@contextlib.contextmanager
def mounted(directory: Path, *, size: int) -> Iterator[Disk]:
    """A new one of so many bytes, most of them taken when they are used, in an empty directory. Raises HostError where
    none can be had."""
    with tempfile.TemporaryDirectory(prefix="raftctl-disk-") as home:
        image = Path(home) / "image"
        with image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-m", "0", "-F", str(image))
        if subprocess.run(["mount", "-o", "loop", str(image), str(directory)], check=False).returncode:
            raise HostError("no file system on a loop device can be mounted here")
        try:
            (directory / "lost+found").rmdir()  # not a database
            yield Disk(directory)
        finally:
            wait_until(lambda: _unmount(directory), what="nobody uses the disk")


def can_be_had() -> bool:
    """Whether this machine lets us mount one."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with mounted(Path(directory), size=16 << 20):
                return True
        except HostError:
            return False


def _allocate_all(file: int) -> None:
    """Without writing it, which would take long."""
    size, step = 0, 64 << 20
    while step >= _BLOCK_BYTES:
        try:
            os.posix_fallocate(file, size, step)
            size += step
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            step //= 2


def _unmount(directory: Path) -> bool:
    return subprocess.run(["umount", str(directory)], check=False, capture_output=True).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_SECONDS)
