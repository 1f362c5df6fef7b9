"""File systems whose power can be cut: ext4 on a loop device, and ext4's own way to drop what is not written yet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from pathlib import Path

from tests.support.waiting import wait_until

_EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/fs/ext4/ext4.h; xfstests cuts the power with it (`godown`)
_GOING_FLAGS_NOLOGFLUSH = 2  # not even the journal is written out
_IMAGE_BYTES = 32 << 20
_TIMEOUT = 60.0


class PoweredDisk:
    """An ext4 file system of its own at `mountpoint`."""

    def __init__(self, *, image: Path, mountpoint: Path) -> None:
        self._image = image
        self._mountpoint = mountpoint
        with image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(image))
        mountpoint.mkdir()
        self.plug_in()

    def plug_in(self) -> None:
        """Mount it; ext4 replays its journal, as after any power cut."""
        _run("mount", "-o", "loop", str(self._image), str(self._mountpoint))

    def cut_power(self) -> None:
        """From now on nothing reaches the disk any more, and all that was only in memory is lost."""
        fd = os.open(self._mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _EXT4_IOC_SHUTDOWN, struct.pack("I", _GOING_FLAGS_NOLOGFLUSH))
        finally:
            os.close(fd)

    def unplug(self) -> None:
        """Unmount it; nobody may have a file open.

        A container that is being started has a copy of all mounts for a moment. As long as one keeps this file system
        alive, a mount of the same image would be of the same file system again, without power."""
        _run("umount", str(self._mountpoint))
        wait_until(
            lambda: not _run("losetup", "--associated", str(self._image)), what="the disk is free", timeout=_TIMEOUT
        )


def unavailable() -> str:
    """Why this machine cannot have such a disk; "" when it can."""
    if os.geteuid() != 0:
        return "loop devices need root"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    return ""


def try_disk(directory: Path) -> str:
    """Why none can be mounted here after all (a container without the right, no free loop device); "" when one can."""
    try:
        disk = PoweredDisk(image=directory / "probe.img", mountpoint=directory / "probe")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no ext4 file system can be mounted on a loop device: {error}"
    disk.unplug()
    with contextlib.suppress(OSError):
        (directory / "probe.img").unlink()
    return ""


def _run(*command: str) -> bytes:
    return subprocess.run(command, check=True, timeout=_TIMEOUT, capture_output=True).stdout
