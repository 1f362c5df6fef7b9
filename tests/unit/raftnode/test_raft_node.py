"""The driver: three nodes on one event loop, with real sockets and real logs."""

from __future__ import annotations

import asyncio
import enum
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from raftctl.consensus.membership import Membership
from raftctl.consensus.types import (
    ChangeRefusal,
    ChangeRefused,
    Config,
    Entry,
    EntryKind,
    EventKind,
    HardState,
    NotLeader,
    Role,
)
from raftctl.raftnode.events import NodeEventKind
from raftctl.raftnode.forced_membership import make_sole_voter, position, sole_voter
from raftctl.raftnode.raft_node import MAX_COMMAND_BYTES, NodeStopped, ProposalLost, RaftNode
from raftctl.raftnode.transport import Address
from raftctl.raftnode.wal import FILE_NAME, LogInUseError, Wal
from raftctl.raftnode.wal_records import Recovered
from raftctl.raftnode.wal_writer import EXIT_BROKEN
from raftctl.raftnode.wire import ClusterKey
from raftctl.sandbox.network import free_ports
from tests.support.raft_cluster import ROOT


def fail(error: BaseException) -> NoReturn:
    raise AssertionError("a node would have ended its process") from error


class Member:
    """A RaftNode whose state machine is the list of commands."""

    def __init__(
        self,
        node_id: str,
        peers: dict[str, Address],
        directory: Path,
        *,
        connect_to: dict[str, Address] | None = None,
        election_timeout: float = 0.5,
        **arguments: Any,
    ) -> None:
        self.peers = peers
        config = Config(
            node_id=node_id, voters=tuple(peers), election_timeout=election_timeout, heartbeat_interval=0.05
        )
        self.applied: list[bytes] = []
        self.events: list[Any] = []
        self.roles: list[tuple[Role, int, str]] = []
        self.app_messages: list[tuple[str, bytes]] = []
        settings: dict[str, Any] = {
            "config": config,
            "cluster_id": "orders",
            "incarnation": 1,
            "key": ClusterKey(b"0123456789abcdef"),
            "apply": self.apply,
            "take_snapshot": self.take_snapshot,
            "load_snapshot": self.load_snapshot,
            "on_fatal": fail,
        }
        self.node = RaftNode(
            directory=directory / node_id,
            listen=peers[node_id],
            peers=connect_to or peers,
            on_event=self.events.append,
            on_app_message=lambda peer, body: self.app_messages.append((peer, body)),
            on_role_change=lambda role, term, leader: self.roles.append((role, term, leader)),
            **(settings | arguments),
        )

    def apply(self, entry: Entry) -> int:
        self.applied.append(entry.data)
        return len(self.applied)

    def take_snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.applied)

    def load_snapshot(self, data: bytes) -> None:
        self.applied = msgspec.msgpack.decode(data, type=list[bytes])

    def saw(self, kind: enum.StrEnum) -> bool:
        return any(event.kind is kind for event in self.events)


Start = Callable[..., Awaitable[list[Member]]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`await start("n1", "n2", "n3")` gives running members; they are stopped after the test."""
    running: list[Member] = []
    peers: dict[str, Address] = {}

    async def begin(
        *names: str, voters: tuple[str, ...] = (), reachable: tuple[str, ...] = (), **arguments: Any
    ) -> list[Member]:
        missing = [name for name in voters or names if name not in peers]
        for name, port in zip(missing, free_ports(len(missing)), strict=True):
            peers[name] = Address("127.0.0.1", port)
        if reachable:
            arguments["connect_to"] = {name: peers[name] for name in reachable}
        members = [Member(name, peers, tmp_path, **arguments) for name in names]
        for member in members:
            running.append(member)
            await member.node.start()
        return members

    yield begin
    for member in running:
        await member.node.stop()


async def until(condition: Callable[[], Any], *, timeout: float = 30.0) -> Any:
    async with asyncio.timeout(timeout):
        while not (value := condition()):  # noqa: ASYNC110 (any condition)
            await asyncio.sleep(0.005)
    return value


async def leader_of(members: list[Member]) -> Member:
    def find() -> Member | None:
        leaders = [m for m in members if m.node.status().role is Role.LEADER]
        return max(leaders, key=lambda m: m.node.status().term, default=None)

    found: Member = await until(find)
    return found


async def propose(members: list[Member], data: bytes) -> Any:
    """Through whoever leads; elections are waited out."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await (await leader_of(members)).node.propose(data, 10)
            except NotLeader:
                continue


async def promote(leader: Member, voters: tuple[str, ...]) -> None:
    """As soon as the leader has heard that the learner holds what it needs."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await leader.node.change_membership(voters, (), 30)
            except ChangeRefused as refused:
                if refused.reason is not ChangeRefusal.NOT_CAUGHT_UP:
                    raise
                await asyncio.sleep(0.01)


async def test_a_proposal_returns_what_apply_returned(start: Start) -> None:
    members = await start("n1", "n2", "n3")
    assert [await propose(members, data) for data in (b"a", b"b", b"c")] == [1, 2, 3]
    await until(lambda: all(m.applied == [b"a", b"b", b"c"] for m in members))


async def test_concurrent_proposals_each_get_their_own_result(start: Start) -> None:
    members = await start("n1", "n2", "n3")
    leader = await leader_of(members)
    await propose(members, b"first")
    results = await asyncio.gather(*(leader.node.propose(str(n).encode(), 10) for n in range(200)))
    assert all(leader.applied[result - 1] == str(n).encode() for n, result in enumerate(results))


async def test_one_node_alone_is_a_group(start: Start) -> None:
    [member] = await start("n1")
    assert await propose([member], b"a") == 1
    assert await member.node.read_index(10) >= 1


async def test_a_follower_refuses_proposals_and_names_the_leader(start: Start) -> None:
    members = await start("n1", "n2", "n3")
    await propose(members, b"a")
    leader = await leader_of(members)
    leader_id = leader.node.status().node_id
    follower = next(m for m in members if m is not leader)
    await until(lambda: follower.node.status().leader == leader_id)
    with pytest.raises(NotLeader) as caught:
        await follower.node.propose(b"b", 10)
    assert caught.value.leader_hint == leader_id


async def test_reads_on_every_member_see_what_was_acknowledged_before(start: Start) -> None:
    members = await start("n1", "n2", "n3")
    for n in range(30):
        await propose(members, str(n).encode())
        for member in members:
            await member.node.read_index(10)
            assert member.applied[-1] == str(n).encode()


async def test_without_a_quorum_there_are_neither_commits_nor_reads(start: Start) -> None:
    [member] = await start("n1", voters=("n1", "n2", "n3"))
    with pytest.raises(NotLeader):
        await member.node.propose(b"a", 10)
    with pytest.raises(TimeoutError):
        await member.node.read_index(0.3)
    assert member.node.status().quorum_contact_age is None


async def test_a_leader_left_alone_steps_down_and_its_proposal_times_out(start: Start) -> None:
    members = await start("n1", "n2", "n3")
    await propose(members, b"a")
    leader = await leader_of(members)
    for member in members:
        if member is not leader:
            await member.node.stop()
    with pytest.raises((TimeoutError, NotLeader)):
        await leader.node.propose(b"b", 2)
    await until(lambda: leader.node.status().role is not Role.LEADER)
    with pytest.raises(NotLeader):
        leader.node.quorum_contact()
    assert leader.applied == [b"a"]


async def test_a_proposal_whose_place_another_entry_took_is_lost(start: Start) -> None:
    """The leader appends alone; the others elect one of them, whose entry takes the place."""
    members = await start("n1", "n2", "n3")
    await propose(members, b"a")
    old = await leader_of(members)
    others = [m for m in members if m is not old]
    for member in others:
        await member.node.stop()
    waiting = asyncio.ensure_future(old.node.propose(b"lost", 60))
    old_id = old.node.status().node_id
    names = [m.node.status().node_id for m in others]
    others = await start(*names, voters=(old_id, *names), reachable=tuple(names))
    assert await propose(others, b"b") == 2
    for member in others:
        member.node.set_peers(member.peers)
    with pytest.raises(ProposalLost):
        await waiting
    await old.node.read_index(10)
    assert old.applied == [b"a", b"b"]


async def test_quorum_contact_is_recent_on_a_leader_and_its_age_is_shown(start: Start) -> None:
    members = await start("n1", "n2", "n3")
    await propose(members, b"a")
    leader = await leader_of(members)
    before = leader.node.quorum_contact()
    await until(lambda: leader.node.quorum_contact() > before)
    age = leader.node.status().quorum_contact_age
    assert age is not None
    assert age >= 0


@pytest.mark.parametrize("act", ["status", "quorum_contact", "propose"])
async def test_a_leader_whose_process_was_stopped_acts_no_more(start: Start, act: str) -> None:
    """The clock jumps and not one message is read before the leader is asked: it must know by itself."""
    jump = 0.0
    members = await start("n1", "n2", "n3", clock=lambda: time.monotonic() + jump)
    await propose(members, b"a")
    leader = (await leader_of(members)).node
    jump = 10.0
    if act == "status":
        assert leader.status().role is not Role.LEADER
    elif act == "quorum_contact":
        with pytest.raises(NotLeader):
            leader.quorum_contact()
    else:
        with pytest.raises(NotLeader):
            await leader.propose(b"stale", 10)


async def test_leadership_is_handed_over(start: Start) -> None:
    members = await start("n1", "n2", "n3")
    await propose(members, b"a")
    old = await leader_of(members)
    target = next(m for m in members if m is not old)
    await old.node.transfer(target.node.status().node_id, 30)
    await until(lambda: target.node.status().role is Role.LEADER)
    assert target.roles[-1][0] is Role.LEADER
    with pytest.raises(NotLeader):
        await old.node.transfer(target.node.status().node_id, 1)
    assert await propose(members, b"b") == 2


async def test_app_messages_reach_the_peer_and_its_errors_do_not_reach_raft(start: Start) -> None:
    def broken(_peer: str, _body: bytes) -> None:
        raise RuntimeError("a bug in the controller's handler")

    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    a, b = await start("n1", "n2", voters=("n1", "n2", "n3"))
    [c] = await start("n3")
    c.node._on_app_message = broken
    await until(lambda: a.node.status().connected == ("n2", "n3"))
    assert a.node.send_app("n2", b"report")
    assert a.node.send_app("n3", b"report")
    assert not a.node.send_app("n9", b"report")
    await until(lambda: b.app_messages == [("n1", b"report")] and errors)
    assert await propose([a, b, c], b"a") == 1
    await c.node.read_index(10)


async def test_a_restart_applies_the_whole_log_again_after_a_torn_tail(start: Start, tmp_path: Path) -> None:
    [member] = await start("n1")
    for data in (b"a", b"b"):
        await propose([member], data)
    await member.node.stop()
    with (tmp_path / "n1" / FILE_NAME).open("ab") as log:
        log.write(b"RWAL\x01")
    [again] = await start("n1")
    await again.node.read_index(10)
    assert again.applied == [b"a", b"b"]
    assert again.events[0].kind is NodeEventKind.TORN_TAIL_CUT
    assert again.events[0].detail["bytes"] == 5


async def test_what_waits_is_told_that_the_node_stops(start: Start) -> None:
    [member] = await start("n1", voters=("n1", "n2", "n3"))
    waiting = asyncio.create_task(member.node.read_index(60))
    await asyncio.sleep(0)
    await member.node.stop()
    await asyncio.wait([waiting], timeout=30)
    assert isinstance(waiting.exception(), NodeStopped)
    with pytest.raises(NodeStopped):
        await member.node.propose(b"a", 10)


async def test_a_command_has_a_largest_size(start: Start) -> None:
    members = await start("n1", "n2", "n3")
    assert await propose(members, bytes(MAX_COMMAND_BYTES)) == 1
    with pytest.raises(ValueError, match="larger than"):
        await propose(members, bytes(MAX_COMMAND_BYTES + 1))


async def test_a_member_that_was_away_catches_up_with_more_than_a_frame_holds(start: Start) -> None:
    """Some of it comes as a snapshot; when the state has become too large for one, the rest comes from the
    log."""
    members = await start("n1", "n2", voters=("n1", "n2", "n3"))
    for n in range(20):
        await propose(members, bytes([n]) * MAX_COMMAND_BYTES)
    [late] = await start("n3")
    await late.node.read_index(30)
    assert late.applied == [bytes([n]) * MAX_COMMAND_BYTES for n in range(20)]
    assert members[0].saw(NodeEventKind.SNAPSHOT_TOO_LARGE)


COMPACT_OFTEN = {"compact_after_bytes": 10_000}


async def test_a_log_that_has_grown_is_compacted_and_a_restart_begins_at_the_snapshot(
    start: Start, tmp_path: Path
) -> None:
    members = await start("n1", "n2", "n3", **COMPACT_OFTEN)
    sent = [str(n).encode() * 50 for n in range(300)]
    for data in sent:
        await propose(members, data)
    await until(lambda: all(m.saw(NodeEventKind.LOG_COMPACTED) for m in members))
    sizes = [(tmp_path / name / FILE_NAME).stat().st_size for name in ("n1", "n2", "n3")]
    for member in members:
        await member.node.stop()
    again = await start("n1", "n2", "n3", **COMPACT_OFTEN)
    restored = [len(m.applied) for m in again]
    assert all(count > 0 for count in restored), f"state from the snapshot before anything commits: {sizes}"
    for member in again:
        await member.node.read_index(30)
        assert member.applied == sent


async def test_a_member_behind_the_compacted_log_gets_a_snapshot(start: Start) -> None:
    members = await start("n1", "n2", voters=("n1", "n2", "n3"), **COMPACT_OFTEN)
    sent = [str(n).encode() * 50 for n in range(300)]
    for data in sent:
        await propose(members, data)
    await until(lambda: all(m.saw(NodeEventKind.LOG_COMPACTED) for m in members))
    [late] = await start("n3", **COMPACT_OFTEN)
    await late.node.read_index(30)
    assert late.applied == sent
    assert late.saw(EventKind.SNAPSHOT_RECEIVED)
    assert await propose([*members, late], b"after") == 301


async def test_a_member_joins_as_a_learner_and_another_leaves(start: Start) -> None:
    members = await start("n1", "n2", "n3")
    await propose(members, b"before")
    new = (await start("n4", config=Config(node_id="n4", voters=(), election_timeout=0.5, heartbeat_interval=0.05)))[0]
    for member in members:
        member.node.set_peers(new.peers)
    leader = await leader_of(members)
    leaving = next(m for m in members if m is not leader)
    await leader.node.change_membership(("n1", "n2", "n3"), ("n4",), 30)
    await new.node.read_index(30)
    assert new.applied == [b"before"]
    with pytest.raises(ChangeRefused):
        await leader.node.change_membership(("n4",), (), 30)
    await promote(leader, ("n1", "n2", "n3", "n4"))
    gone = leaving.node.status().node_id
    stay = tuple(sorted({"n1", "n2", "n3", "n4"} - {gone}))
    await leader.node.change_membership(stay, (), 30)
    await leaving.node.stop()
    remaining = [m for m in (*members, new) if m is not leaving]
    assert await propose(remaining, b"after") == 2
    await new.node.read_index(30)
    assert new.node.status().voters == stay


async def test_a_survivor_goes_on_alone_and_shuts_out_those_who_missed_it(start: Start, tmp_path: Path) -> None:
    """Rule R10."""
    members = await start("n1", "n2", "n3", **COMPACT_OFTEN)
    for n in range(100):
        await propose(members, str(n).encode() * 50)
    survivor = members[0]
    await survivor.node.read_index(30)
    log = {"directory": tmp_path / "n1", "cluster_id": "orders", "node_id": "n1"}
    with pytest.raises(LogInUseError):
        make_sole_voter(**log)
    for member in members:
        await member.node.stop()
    before = position(**log)
    assert make_sole_voter(**log) == position(**log) > before
    [alone] = await start("n1", incarnation=2, branch="a")
    assert await propose([alone], b"after") == 101
    assert alone.node.status().voters == ("n1",)
    superseded: list[tuple[int, str]] = []
    returned = await start("n2", "n3", on_superseded=lambda *later: superseded.append(later))
    await until(lambda: len(superseded) == 2)
    assert superseded == [(2, "a"), (2, "a")]
    assert alone.node.status().connected == ()
    for member in returned:
        assert member.node.status().role is Role.FOLLOWER
        assert b"after" not in member.applied


def test_a_forced_membership_begins_a_term_of_its_own() -> None:
    """An index and a term name one entry for ever, also in the logs of those who were left out."""
    voted = Recovered(HardState(7, "n3"), entries=(Entry(1, 5, EntryKind.COMMAND, b"x"),))
    hard_state, [config, command] = sole_voter(voted, node_id="n1", command=b"y")
    assert hard_state == HardState(8, "n1")
    assert [(entry.index, entry.term) for entry in (config, command)] == [(2, 8), (3, 8)]
    assert Membership.decode(config.data) == Membership.of(["n1"])


def test_a_state_machine_that_fails_ends_the_process(tmp_path: Path) -> None:
    """A member that skipped a command would differ from the others for ever, unnoticed."""
    wal, _ = Wal.open(tmp_path / "n1", cluster_id="orders", node_id="n1")
    wal.append(HardState(1, "n1"), [Entry(1, 1, EntryKind.COMMAND, b"x")])
    wal.close()
    code = (
        "import asyncio, pathlib, sys\n"
        "from raftctl.raftnode.wal_writer import end_process\n"
        "from tests.unit.raftnode.test_raft_node import Address, Member\n"
        "async def main():\n"
        "    member = Member('n1', {'n1': Address('127.0.0.1', 0)}, pathlib.Path(sys.argv[1]),\n"
        "                    apply=lambda entry: 1 // 0, on_fatal=end_process)\n"
        "    await member.node.start()\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == EXIT_BROKEN
    assert "ZeroDivisionError" in done.stderr


async def test_a_new_cluster_key_costs_no_election(start: Start) -> None:
    """Each takes it beside the present one, then shows it, one after the other, as in `rotate passwords`."""
    members = await start("n1", "n2", "n3", election_timeout=2.0)  # a busy machine is no reason for one
    await propose(members, b"before")
    leader = await leader_of(members)
    term = leader.node.status().term
    old, new = ClusterKey(b"0123456789abcdef"), ClusterKey(b"fedcba9876543210")
    for key, others in [(old, [new]), (new, [old]), (new, [])]:
        for member in members:
            member.node.set_keys(key, others)
            await member.node.connections_renewed()
    assert all(len(member.node.status().connected) == 2 for member in members)
    await leader.node.propose(b"after", 10)
    assert {member.node.status().term for member in members} == {term}
    assert [m.saw(EventKind.PRE_VOTE_STARTED) for m in members if m is not leader] == [True, True], "each lost it once"


async def test_connections_that_are_made_anew_by_all_at_once_cost_no_election(start: Start) -> None:
    """As when a rotation goes on that was interrupted: a host may still be at what the next one begins."""
    members = await start("n1", "n2", "n3", election_timeout=2.0)
    await propose(members, b"before")
    leader = await leader_of(members)
    term = leader.node.status().term
    old, new = ClusterKey(b"0123456789abcdef"), ClusterKey(b"fedcba9876543210")
    for _ in range(10):
        old, new = new, old
        for key, others in [(new, [old]), (old, [new])]:
            for member in members:
                member.node.set_keys(key, others)
            await asyncio.gather(*(member.node.connections_renewed() for member in members))
    await leader.node.propose(b"after", 10)
    assert {member.node.status().term for member in members} == {term}
