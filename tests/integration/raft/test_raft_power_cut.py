"""The power of all hosts is cut at once, under load: nothing that was acknowledged is lost.

Each node's log is on an ext4 file system of its own; the cut drops everything that ext4 had not written to its device.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raftctl.consensus.types import EntryKind
from raftctl.errors import CorruptLogError
from raftctl.raftnode.wal import FILE_NAME
from raftctl.raftnode.wal_records import read_log
from tests.support.power import PoweredDisk, try_disk, unavailable
from tests.support.raft_cluster import RaftCluster
from tests.support.raft_writer import Writer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(unavailable()), reason=unavailable())]
CUTS = 4
WRITERS = 4
MAJORITY = 2  # of three


class PoweredCluster:
    def __init__(self, directory: Path, **settings: Any) -> None:
        self.raft = RaftCluster(directory, **settings)
        self.disks: list[PoweredDisk] = []
        for name, member in self.raft.members.items():
            self.disks.append(PoweredDisk(image=directory / f"{name}.img", mountpoint=member.directory / "raft"))

    def cut_power(self) -> None:
        """Of the disks first: what a process says afterwards it says without a disk."""
        for disk in self.disks:
            disk.cut_power()
        self.raft.kill()

    def replug_disks(self) -> None:
        for disk in self.disks:
            disk.unplug()
            disk.plug_in()

    def restore_power(self) -> None:
        self.replug_disks()
        self.raft.start()

    def values_on_disk(self, name: str) -> set[str]:
        """What the log of `name`, which does not run, would start with; nothing when it is damaged."""
        path = self.raft[name].directory / "raft" / FILE_NAME
        try:
            entries = read_log(path, path.read_bytes()).recovered.entries
        except CorruptLogError:
            return set()
        return {entry.data.decode() for entry in entries if entry.kind is EntryKind.COMMAND}

    def write_until_cut(self, rng: random.Random, *, least: int) -> None:
        """Writers are under way, at least `least` of their writes are acknowledged, and then there is no power."""
        writers = [Writer(self.raft, f"w{rng.getrandbits(32)}", rng) for _ in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            wait_until(lambda: sum(len(w.acknowledged) for w in writers) >= least, what="writes", timeout=120)
            self.cut_power()
        finally:
            for writer in writers:
                writer.ended.set()
            for writer in writers:
                writer.join(30)
                self.raft.acknowledged += writer.acknowledged


Start = Callable[..., PoweredCluster]


@pytest.fixture
def powered_cluster(tmp_path: Path) -> Iterator[Start]:
    if why := try_disk(tmp_path):
        pytest.skip(why)
    started: list[PoweredCluster] = []

    def start(**settings: Any) -> PoweredCluster:
        cluster = PoweredCluster(tmp_path, **settings)
        started.append(cluster)
        cluster.raft.start()
        return cluster

    yield start
    for cluster in started:
        cluster.raft.kill()
        for disk in cluster.disks:
            disk.unplug()


@pytest.mark.parametrize("compact_after_bytes", [1 << 30, 4000], ids=["whole log", "with compaction"])
def test_nothing_acknowledged_is_lost_in_a_power_cut(powered_cluster: Start, compact_after_bytes: int) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    cluster = powered_cluster(compact_after_bytes=compact_after_bytes)
    for _ in range(CUTS):
        cluster.write_until_cut(rng, least=rng.randrange(20, 150))
        cluster.restore_power()
        cluster.raft.check_nothing_lost()
    print("acknowledged", len(cluster.raft.acknowledged))


def test_without_fdatasync_the_same_cut_loses_writes(powered_cluster: Start) -> None:
    """The test above has teeth: the cut really takes what was not synced.

    The disks are read without starting anybody: a node whose log has a hole refuses to start.
    """
    cluster = powered_cluster(program="tests.support.raft_process_without_sync")
    cluster.write_until_cut(random.Random(1), least=100)
    cluster.replug_disks()
    on_disk = [cluster.values_on_disk(name) for name in cluster.raft.members]
    assert [v for v in cluster.raft.acknowledged if sum(v in values for values in on_disk) < MAJORITY]
