"""By which members a controller connects, while its log tells of old times and when the others know of later ones."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from raftctl.bootstrap.tls import create_authority, issue_node
from raftctl.cluster.codec import pack
from raftctl.cluster.state import ClusterState, Member, MemberRole
from raftctl.controller import incarnation
from raftctl.controller.config import Secrets
from raftctl.controller.members_file import MembersFile, Roster
from raftctl.controller.node import Node
from raftctl.sandbox.network import free_ports
from raftctl.secret import Secret
from tests.support.bootstrap_builders import configuration

NOW = dt.datetime.now(dt.UTC)
AUTHORITY = create_authority("orders", now=NOW)
SECRETS = Secrets(cluster_id="abc", cluster_key=Secret("k" * 32), admin_password=Secret("p"), replication_passwords={})


def witnesses(*names: str) -> dict[str, Member]:
    ports = free_ports(len(names))
    return {
        name: Member(name, MemberRole.WITNESS, f"127.0.0.1:{port}", "127.0.0.1:1")
        for name, port in zip(names, ports, strict=True)
    }


def controller(directory: Path, name: str, peers: dict[str, Member]) -> Node:
    """Of the witness `name`."""
    directory.mkdir(exist_ok=True)
    pair = issue_node(AUTHORITY, name, "127.0.0.1", now=NOW)
    files = {"ca": AUTHORITY.certificate, "cert": pair.certificate, "key": pair.key}
    for kind, data in files.items():
        (directory / kind).write_bytes(data)
    config = configuration(mysql=False)
    changes = {
        "node": name,
        "directory": str(directory),
        "peers": peers,
        "raft": msgspec.structs.replace(config.raft, listen=peers[name].raft, election_timeout=0.5),
        "api": msgspec.structs.replace(config.api, **{kind: str(directory / kind) for kind in files}),
    }
    return Node(msgspec.structs.replace(config, **changes), SECRETS)


@contextlib.asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(node.run()) for node in nodes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def connects_by(directory: Path, number: int) -> None:
    async with asyncio.timeout(30):
        while (roster := MembersFile(directory).load()) is None or roster.number != number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_members_of_old_times_are_not_followed_before_the_log_is_known_to_be_of_now(tmp_path: Path) -> None:
    peers = witnesses("w1")
    node = controller(tmp_path, "w1", peers)
    node.log.load_snapshot(pack(ClusterState(members=peers | witnesses("w9"), roster=3)))
    await asyncio.sleep(0)
    assert MembersFile(tmp_path).load() is None
    async with running(node):
        await connects_by(tmp_path, 3)


async def test_who_was_away_hears_of_later_members_from_whom_it_knows(tmp_path: Path) -> None:
    peers = witnesses("w1", "w2")
    later = Roster(5, peers | witnesses("w3"))
    (tmp_path / "w1").mkdir()
    MembersFile(tmp_path / "w1").save(later)
    async with running(*(controller(tmp_path / name, name, peers) for name in peers)):
        await connects_by(tmp_path / "w2", 5)
    assert MembersFile(tmp_path / "w2").load() == later


async def test_members_of_an_earlier_incarnation_replace_nobody(tmp_path: Path) -> None:
    """The majority replaced w3 by w9 before it was lost for good; the survivor of the forced membership never had
    that, and must not lose sight of w3 when one of them comes back."""
    peers = witnesses("w1", "w2")
    now = Roster(1, peers | witnesses("w3"), incarnation=2)
    former = Roster(7, peers | witnesses("w9"))
    for name, roster in (("w1", now), ("w2", former)):
        (tmp_path / name).mkdir()
        incarnation.adopt(tmp_path / name, 2, "b")
        MembersFile(tmp_path / name).save(roster)
    async with running(*(controller(tmp_path / name, name, peers) for name in peers)):
        await connects_by(tmp_path / "w2", 1)
    assert [MembersFile(tmp_path / name).load() for name in peers] == [now, now]
