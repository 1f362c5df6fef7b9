"""The gate of mysqld as a process' main part, against the controller's side of it on a real socket."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from raftctl.cluster.commands import Record
from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.cluster.state import ClusterState
from raftctl.controller import gate_protocol as protocol
from raftctl.controller.gate import Gate, run
from raftctl.controller.gate_server import GateServer
from raftctl.errors import MySQLError
from raftctl.mysql import tail
from raftctl.mysql.binlog import open_binlog
from tests.support import binlog_files as made
from tests.support.member_facts import cluster_state

A = "aaaaaaaa-0000-0000-0000-000000000001"
FLOOR = GTIDSet.parse(f"{A}:1-5")
FOLLOWER = cluster_state(primary="db2", previous_primary="db1", sync_set=("db2", "db3"), floor=FLOOR)
LONG = 60.0


@dataclasses.dataclass
class Host:
    """db1, whose mysqld crashed with A:1-9 in its binary log."""

    directory: Path
    files: tail.ServerFiles
    state: ClusterState = FOLLOWER
    holdings: dict[str, str] = dataclasses.field(default_factory=lambda: {"db2": f"{A}:1-7"})
    quorum: bool = True
    asked: list[str] = dataclasses.field(default_factory=list)
    records: list[Record] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    async def current(self, timeout: float) -> ClusterState:
        if not self.quorum:
            raise TimeoutError
        return self.state

    def ask_primary(self, member: str) -> GTIDSet:
        self.asked.append(member)
        if member not in self.holdings:
            raise MySQLError("no mysqld listens there")
        holds = GTIDSet.parse(self.holdings[member])
        self.meanwhile()
        return holds

    async def pass_gate(self, *, seconds: float = LONG) -> None:
        await asyncio.to_thread(Gate(self.directory, seconds=seconds).pass_through)

    @property
    def held(self) -> GTIDSet:
        with open_binlog(tail.last_file(self.files)) as binlog:
            return binlog.gtids

    @property
    def has_uuid(self) -> bool:
        return (Path(self.files.datadir) / "auto.cnf").exists()

    def crash(self, *, in_use: bool = True) -> None:
        numbers = [Interval(A, "", n, n) for n in (6, 7, 8, 9)]
        contents = made.binlog(FLOOR, map(made.transaction, numbers), in_use=in_use)
        made.data_directory(Path(self.files.datadir), contents)

    def server(self) -> GateServer:
        return GateServer(
            me="db1",
            current=self.current,
            ask_primary=self.ask_primary,
            record=self.records.append,
            note=self.notes.append,
        )


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    with tempfile.TemporaryDirectory() as name:  # a unix socket's path must stay short
        directory = Path(name)
        files = made.data_directory(directory / "data", b"")
        protocol.remember(directory, files)
        made_host = Host(directory, files)
        made_host.crash()
        async with made_host.server().listening(directory / protocol.SOCKET):
            yield made_host


async def test_what_the_primary_lacks_is_cut(host: Host) -> None:
    await host.pass_gate()
    assert host.held == GTIDSet.parse(f"{A}:1-7")
    assert not host.has_uuid
    (record,) = host.records
    assert (record.kind, record.member, record.epoch) == ("tail-cut", "db1", FOLLOWER.epoch)
    assert record.detail["count"] == 2
    assert record.detail["gtids"] == f"{A}:8-9"
    assert Path(str(record.detail["saved"])).parent == host.directory / protocol.TAILS


async def test_what_the_promotion_rested_on_is_never_cut(host: Host) -> None:
    """A primary that is still promoting has not applied all of its floor."""
    host.holdings["db2"] = ""
    await host.pass_gate()
    assert host.held == FLOOR


async def test_nothing_lacks(host: Host) -> None:
    host.holdings["db2"] = f"{A}:1-20"
    await host.pass_gate()
    assert host.held == GTIDSet.parse(f"{A}:1-9")
    assert host.has_uuid
    assert host.records == []


async def test_why_a_tail_stays_is_recorded(host: Host) -> None:
    host.holdings["db2"] = f"{A}:1-6:9"
    await host.pass_gate()
    assert host.held == GTIDSet.parse(f"{A}:1-9")
    assert [(r.kind, r.detail["reason"]) for r in host.records] == [("tail-not-cut", "interleaved")]


async def test_a_tail_that_cannot_be_saved_stays(host: Host) -> None:
    (host.directory / protocol.TAILS).write_text("in the way")
    await host.pass_gate()
    assert host.held == GTIDSet.parse(f"{A}:1-9")
    assert [(r.kind, r.detail["reason"]) for r in host.records] == [("tail-not-cut", "not-saved")]


async def test_after_a_clean_shutdown_nobody_is_asked(host: Host) -> None:
    host.crash(in_use=False)
    host.quorum = False
    await host.pass_gate()
    assert host.held == GTIDSet.parse(f"{A}:1-9")
    assert host.notes == []


async def test_a_primary_that_changed_meanwhile_is_compared_anew(host: Host) -> None:
    """What the first one lacks, the next one has: nothing of it may go."""

    def change() -> None:
        host.state = cluster_state(primary="db3", epoch=FOLLOWER.epoch + 1, sync_set=("db2", "db3"), floor=FLOOR)
        host.holdings["db3"] = f"{A}:1-8"

    host.meanwhile = change
    await host.pass_gate()
    assert host.asked == ["db2", "db3"]
    assert host.held == GTIDSet.parse(f"{A}:1-8")


async def test_it_waits_for_a_quorum_only_so_long(host: Host) -> None:
    host.quorum = False
    await host.pass_gate(seconds=0.3)
    assert host.held == GTIDSet.parse(f"{A}:1-9")
    assert any("majority" in note for note in host.notes)
    while host.notes[-1]:  # noqa: ASYNC110 (until the server has seen the end of the connection)
        await asyncio.sleep(0.01)


async def test_it_waits_for_the_primary_only_so_long(host: Host) -> None:
    host.holdings.clear()
    await host.pass_gate(seconds=0.3)
    assert host.held == GTIDSet.parse(f"{A}:1-9")
    assert host.asked[0] == "db2"


async def test_the_override_counts_for_one_start(host: Host) -> None:
    host.quorum = False
    override = host.directory / protocol.OPEN
    asyncio.get_running_loop().call_later(0.2, override.touch)
    await host.pass_gate()
    assert not override.exists()
    assert host.held == GTIDSet.parse(f"{A}:1-9")


async def test_a_replaced_server_gets_a_new_uuid_and_is_asked_nothing(host: Host) -> None:
    host.quorum = False
    mark = host.directory / protocol.NEW_UUID
    mark.touch()
    await host.pass_gate()
    assert not host.has_uuid
    assert not mark.exists()
    assert host.held == GTIDSet.parse(f"{A}:1-9")


async def test_garbage_does_not_end_the_controllers_side(host: Host) -> None:
    reader, writer = await asyncio.open_unix_connection(str(host.directory / protocol.SOCKET))
    writer.write(b'{"type": "open-sesame"}\n')
    assert await reader.read() == b""
    writer.close()
    await host.pass_gate()
    assert host.held == GTIDSet.parse(f"{A}:1-7")


def test_without_a_controller_it_starts_after_its_bound(tmp_path: Path) -> None:
    files = made.data_directory(tmp_path / "data", made.binlog(FLOOR, []))
    protocol.remember(tmp_path, files)
    Gate(tmp_path, seconds=0.2).pass_through()


def test_a_host_without_configuration_starts_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    run(tmp_path / "none.yaml")
    assert time.monotonic() - began < LONG


def test_a_controller_that_has_seen_no_mysqld_lets_it_start(tmp_path: Path) -> None:
    Gate(tmp_path, seconds=LONG).pass_through()


def test_a_wiped_data_directory_is_no_crash(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "gone")
    files = tail.ServerFiles(datadir=nowhere, binlog_index=f"{nowhere}/binlog.index", system_tablespace=f"{nowhere}/x")
    protocol.remember(tmp_path, files)
    Gate(tmp_path, seconds=LONG).pass_through()
