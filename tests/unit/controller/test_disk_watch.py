"""A disk is stalled when a write waits and the device completes none of anybody's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.controller.disk import DiskWatch, write_through
from tests.support.waiting import wait_until


class Disk:
    """A disk whose writes return when they are let; the clock is the test's."""

    def __init__(self) -> None:
        self.now = 100.0
        self.completed: int | None = 7
        self.writing = threading.Event()
        self.may_return = threading.Event()
        self.free = 1 << 30
        self.watch = DiskWatch(
            write=self._write,
            completed=lambda _: self.completed,
            free=lambda _: self.free,
            clock=lambda: self.now,
        )

    def _write(self, _: Path) -> None:
        self.writing.set()
        self.may_return.wait()

    def look(self, *, after: float = 0.5) -> float:
        self.now += after
        return self.watch.look([Path("/")])

    def begin(self) -> None:
        """A write is under way, and the device was asked once."""
        self.look()
        assert self.writing.wait(30)
        self.look()


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.may_return.set()


def test_a_write_that_waits_while_none_is_completed_is_counted(disk: Disk) -> None:
    disk.begin()
    assert [disk.look() for _ in range(3)] == [0.5, 1.0, 1.5]


def test_a_busy_disk_is_not_stalled(disk: Disk) -> None:
    disk.begin()
    for _ in range(20):
        assert disk.completed
        disk.completed += 1
        assert disk.look() == 0


def test_a_disk_without_counters_is_not_judged(disk: Disk) -> None:
    disk.completed = None
    disk.begin()
    assert [disk.look() for _ in range(20)] == [0.0] * 20


def test_time_without_a_look_counts_little(disk: Disk) -> None:
    """This process was stopped or starved, and the disk may have been well all that time."""
    disk.begin()
    assert disk.look(after=60) == 1.0


def test_a_write_that_returns_ends_it(disk: Disk) -> None:
    disk.begin()
    assert disk.look() > 0
    disk.may_return.set()
    wait_until(lambda: disk.look(after=0.0) == 0, what="the write has returned")


def test_a_full_disk_counts_as_waiting_until_there_is_space(disk: Disk) -> None:
    disk.free = 0
    disk.may_return.set()
    disk.look()
    wait_until(lambda: disk.watch.full == Path("/"), what="the first probe has found no space")
    waited = [disk.look(after=1.0) for _ in range(5)]
    assert waited == sorted(waited)
    assert waited[-1] >= 4.0
    disk.free = 1 << 30

    def has_space() -> bool:
        return disk.look(after=1.0) == 0.0

    wait_until(has_space, what="a later probe finds space")
    assert disk.watch.full is None


def test_a_file_system_without_a_device_may_say_what_it_likes_about_its_space(disk: Disk) -> None:
    """Some network file systems say that there is none."""
    disk.free, disk.completed = 0, None
    disk.may_return.set()
    disk.look()
    wait_until(lambda: disk.look(after=0.0) == 0 and disk.writing.is_set(), what="a probe has written")
    assert disk.watch.full is None


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    write_through(tmp_path)
    assert list(tmp_path.iterdir()) == []
