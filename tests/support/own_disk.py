"""A disk of its own for a sandbox member's mysqld or controller: ext4 on a loop device, which can stall or be full."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_until

_SIZE_BYTES = 1 << 30  # sparse
_BLOCK_BYTES = 4096
_SECONDS = 60.0


class OwnDisk:
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
def own_disk(stage: Stage, member: str, directory: Path | None = None) -> Iterator[OwnDisk]:
    """Move the member's data directory, or another `directory` of its, to a disk of its own, and back at the end; the
    member is powered off for each. Skips the test where that cannot be done."""
    data = directory or stage.data_directory(member)
    aside = data.with_name("aside")
    host = stage.sandbox.host(member)
    with tempfile.TemporaryDirectory(prefix="raftctl-disk-") as home:
        image = _formatted(Path(home) / "image")
        host.power_off(timeout=_SECONDS)
        data.rename(aside)
        data.mkdir(mode=0o700)
        try:
            if subprocess.run(["mount", "-o", "loop", str(image), str(data)], check=False).returncode:
                pytest.skip("no file system on a loop device can be mounted here")
            (data / "lost+found").rmdir()  # not a database
            _move_all(aside, data)
            host.power_on(timeout=_SECONDS)
            yield OwnDisk(data)
        finally:
            host.power_off(timeout=_SECONDS)
            if data.is_mount():
                _move_all(data, aside)
                wait_until(lambda: _unmount(data), what="nobody uses the disk")
            data.rmdir()
            aside.rename(data)
            host.power_on(timeout=_SECONDS)


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


def _formatted(image: Path) -> Path:
    with image.open("wb") as file:
        file.truncate(_SIZE_BYTES)
    _run("mkfs.ext4", "-q", "-m", "0", "-F", str(image))
    return image


def _move_all(source: Path, target: Path) -> None:
    for entry in source.rglob("*"):
        if entry.is_socket():
            entry.unlink()  # nobody listens there any more
    for entry in source.iterdir():
        shutil.move(entry, target / entry.name)


def _unmount(directory: Path) -> bool:
    return subprocess.run(["umount", str(directory)], check=False, capture_output=True).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_SECONDS)
