"""A part of a sandbox member moves to a disk of its own for a while."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.errors import HostError
from tests.support.disk import Disk, mounted
from tests.support.stage import Stage

_SIZE_BYTES = 1 << 30
_SECONDS = 60.0


@contextlib.contextmanager
def own_disk(stage: Stage, member: str, directory: Path | None = None) -> Iterator[Disk]:
    """Move the member's data directory, or another `directory` of its, to a disk of its own, and back at the end; the
    member is powered off for each. Skips the test where that cannot be done."""
    data = directory or stage.data_directory(member)
    aside = data.with_name("aside")
    host = stage.sandbox.host(member)
    host.power_off(timeout=_SECONDS)
    data.rename(aside)
    data.mkdir(mode=0o700)
    try:
        with _mounted_or_skipped(data) as disk:
            _move_all(aside, data)
            host.power_on(timeout=_SECONDS)
            try:
                yield disk
            finally:
                host.power_off(timeout=_SECONDS)
                _move_all(data, aside)
    finally:
        data.rmdir()
        aside.rename(data)
        host.power_on(timeout=_SECONDS)


@contextlib.contextmanager
def _mounted_or_skipped(directory: Path) -> Iterator[Disk]:
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(mounted(directory, size=_SIZE_BYTES))
        except HostError as error:
            pytest.skip(str(error))
        yield disk


def _move_all(source: Path, target: Path) -> None:
    for entry in source.rglob("*"):
        if entry.is_socket():
            entry.unlink()  # nobody listens there any more
    for entry in source.iterdir():
        shutil.move(entry, target / entry.name)
