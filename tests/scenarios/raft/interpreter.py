"""Runs Raft scenario files: a claim, commands, and what they must print.

    # Claim: what this file proves, and where it is written.

    > cluster a b c
    > campaign a
    a: pre-vote-started term=1 reason=election-timeout
    a->b PreVote term=1 last=0@0

Commands (nodes are named by `cluster`; time stands still unless a command moves it):

    cluster a b c ... [batch=N] [spare=d,e]    nodes with empty disks, N entries in a message at most (100);
                             spares run, but are no members; messages wait on their link until delivered
    campaign a               move the clock to a's election deadline and tick a
    wait SECONDS [a b ...]   move the clock and tick the named nodes (all) that are due
    propose a DATA, read a NUMBER, transfer a b, lost a b (a's connection to b died)
    change a a,b,c d         a proposes the voters a, b and c and the learner d
    compact a                a replaces what it has applied by a snapshot
    deliver a->b [TYPE]      deliver what waits on the link (`keep` at the end leaves it there: a duplicate)
    drop a->b [TYPE]         lose it; `*` stands for every node
    send a->b TYPE field=value ...    forge a message (term=..., and the fields of the type)
    slow a, persist a [COUNT], fast a    writes of a wait for `persist` (COUNT of them); until `fast`
    crash a [KEPT]           stop a; of its waiting writes the first KEPT are on disk
    restart a
    settle [a b ...]         deliver among the named nodes (all) until nothing moves; prints no messages, no writes
    show [a ...]             role, term, vote, leader, commit and log of the named nodes (all)
"""

from __future__ import annotations

import random
from collections.abc import Callable

from raftctl.consensus import types
from raftctl.consensus.membership import Membership
from raftctl.consensus.raft import Raft
from raftctl.consensus.types import (
    AnyMessage,
    ChangeRefused,
    Config,
    Entry,
    EntryKind,
    NotLeader,
    Ready,
    Role,
    Snapshot,
)
from raftctl.raftnode.wal_writer import Write
from tests.simulation.disk import Disk


class Cluster:
    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[str, Raft] = {}
        self.ids: tuple[str, ...] = ()
        self.voters: tuple[str, ...] = ()
        self.batch = 100
        self.disks: dict[str, Disk] = {}
        self.states: dict[str, str] = {}  # the state machines: all commands in a row
        self.slow: set[str] = set()
        self.waiting: list[AnyMessage] = []
        self.lines: list[str] = []
        self.commands: dict[str, Callable[..., None]] = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    def run(self, command: str) -> list[str]:
        """Carry out one command; returns what it prints."""
        self.lines = []
        name, *arguments = command.split()
        self.commands[name](*arguments)
        return self.lines

    # --- nodes ------------------------------------------------------------------------------------

    def do_cluster(self, *words: str) -> None:
        settings = dict(word.split("=") for word in words if "=" in word)
        self.batch = int(settings.get("batch", "100"))
        self.voters = tuple(word for word in words if "=" not in word)
        self.ids = self.voters + tuple(settings["spare"].split(",") if "spare" in settings else ())
        for node in self.ids:
            self.disks[node] = Disk()
            self._boot(node)

    def _boot(self, node: str) -> None:
        disk = self.disks[node]
        config = Config(
            node_id=node,
            voters=self.voters if node in self.voters else (),
            election_timeout=1.0,
            heartbeat_interval=0.1,
            commit_notice_delay=0.0,  # the scripts have no pauses of half a millisecond
            max_entries_per_append=self.batch,
        )
        rng = random.Random(node)
        self.nodes[node] = Raft(config, disk.hard_state, disk.entries(), rng, self.now, snapshot=disk.snapshot)
        self.states[node] = disk.snapshot.data.decode() if disk.snapshot else ""

    def do_crash(self, node: str, kept: str = "0") -> None:
        disk = self.disks[node]
        for _ in range(int(kept)):
            disk.write_one()
        disk.lose_the_rest()
        del self.nodes[node]

    def do_restart(self, node: str) -> None:
        self._boot(node)
        self._drain(node)

    # --- inputs -----------------------------------------------------------------------------------

    def do_campaign(self, node: str) -> None:
        self.now = max(self.now, self.nodes[node].deadline)
        self.nodes[node].tick(self.now)
        self._drain(node)

    def do_wait(self, seconds: str, *names: str) -> None:
        until = self.now + float(seconds)
        chosen = names or tuple(self.nodes)
        while (due := min(self.nodes[node].deadline for node in chosen)) <= until:
            self.now = max(self.now, due)
            for node in chosen:
                if self.nodes[node].deadline <= self.now:
                    self.nodes[node].tick(self.now)
                    self._drain(node)
        self.now = until

    def do_propose(self, node: str, data: str) -> None:
        self._ask(node, lambda raft: raft.propose(data.encode(), self.now))

    def do_read(self, node: str, number: str) -> None:
        self._ask(node, lambda raft: raft.read_index(int(number), self.now))

    def do_transfer(self, node: str, to: str) -> None:
        self._ask(node, lambda raft: raft.transfer(to, self.now))

    def do_change(self, node: str, voters: str, learners: str = "") -> None:
        chosen = [name for name in learners.split(",") if name]
        self._ask(node, lambda raft: raft.change_membership(voters.split(","), chosen, self.now))

    def do_compact(self, node: str) -> None:
        snapshot = self.nodes[node].snapshot(self.states[node].encode())
        self.disks[node].compact(snapshot)
        self.nodes[node].compacted(snapshot, self.now)
        self._drain(node)

    def _ask(self, node: str, question: Callable[[Raft], object]) -> None:
        try:
            question(self.nodes[node])
        except (NotLeader, ChangeRefused, ValueError) as error:
            self.lines.append(f"{node}: refused: {error}")
        self._drain(node)

    def do_lost(self, node: str, peer: str) -> None:
        self.nodes[node].peer_lost(peer, self.now)
        self._drain(node)

    # --- network ----------------------------------------------------------------------------------

    def do_deliver(self, link: str, *words: str) -> None:
        for message in self._take(link, words):
            self._step(message)

    def do_drop(self, link: str, *words: str) -> None:
        self._take(link, words)

    def do_send(self, link: str, kind: str, *fields: str) -> None:
        sender, to = link.split("->")
        values = {name: _value(text) for name, text in (field.split("=") for field in fields)}
        self._step(getattr(types, kind)(sender=sender, to=to, **values))

    def _take(self, link: str, words: tuple[str, ...]) -> list[AnyMessage]:
        """The waiting messages on `link`, of one type if the words name one; they stay if the words say `keep`."""
        sender, to = link.split("->")
        kinds = [word for word in words if word != "keep"]
        chosen = [
            message
            for message in self.waiting
            if sender in ("*", message.sender)
            and to in ("*", message.to)
            and (not kinds or type(message).__name__ in kinds)
        ]
        if not chosen:
            self.lines.append("nothing waits there")
        if "keep" not in words:
            self.waiting = [message for message in self.waiting if message not in chosen]
        return chosen

    def _step(self, message: AnyMessage) -> None:
        if message.to in self.nodes:
            self.nodes[message.to].step(message, self.now)
            self._drain(message.to)

    # --- disks ------------------------------------------------------------------------------------

    def do_slow(self, node: str) -> None:
        self.slow.add(node)

    def do_fast(self, node: str) -> None:
        self.slow.discard(node)
        self.do_persist(node)

    def do_persist(self, node: str, count: str = "1000") -> None:
        queue = self.disks[node].queue
        for _ in range(min(int(count), len(queue))):
            self.nodes[node].persisted(self.disks[node].write_one(), self.now)
            self._drain(node)

    # --- until quiet ------------------------------------------------------------------------------

    def do_settle(self, *names: str) -> None:
        chosen = names or tuple(self.nodes)
        while True:
            moved = [message for message in self.waiting if message.sender in chosen and message.to in chosen]
            if not moved:
                break
            self.waiting = [message for message in self.waiting if message not in moved]
            for message in moved:
                self._step(message)
        self.lines = [line for line in self.lines if ": write " not in line and "->" not in line]

    def do_show(self, *names: str) -> None:
        for node in names or self.ids:
            raft = self.nodes.get(node)
            disk = self.disks[node]
            log = " ".join(_entry(entry) for entry in disk.log)
            if raft is None:
                self.lines.append(f"{node}: down, disk: term={disk.hard_state.term} log=[{log}]")
                continue
            leader = f" leader={raft.leader}" if raft.leader and raft.role is not Role.LEADER else ""
            self.lines.append(
                f"{node}: {raft.role} term={raft.term} vote={disk.hard_state.voted_for or '-'}{leader} "
                f"commit={raft.commit_index} last={raft.last_index} disk=[{log}]"
            )

    # --- output -----------------------------------------------------------------------------------

    def _drain(self, node: str) -> None:
        """Obey `Ready` until there is nothing to do."""
        while ready := self.nodes[node].ready():
            self._print(node, ready)
            self.waiting.extend(ready.messages)
            if ready.ticket:
                history: tuple[Entry, ...] = ()
                if ready.snapshot is not None:
                    history = tuple(_covered(ready.snapshot))
                write = Write(ready.ticket, ready.hard_state, ready.entries, ready.snapshot)
                self.disks[node].submit(write, history)
                if node not in self.slow:
                    self.nodes[node].persisted(self.disks[node].write_one(), self.now)

    def _print(self, node: str, ready: Ready) -> None:
        for event in ready.events:
            details = " ".join(
                f"{name}={_detail(value)}" for name, value in event.detail.items() if value not in ("", ())
            )
            self.lines.append(f"{node}: {event.kind} {details}".rstrip())
        self.lines.extend(_message(message) for message in ready.messages)
        if ready.ticket:
            state = ready.hard_state
            parts = [f"term={state.term} vote={state.voted_for or '-'}"] if state is not None else []
            if ready.snapshot is not None:
                parts.append(f"snapshot={_snapshot(ready.snapshot)}")
            parts += [_entry(entry) for entry in ready.entries]
            self.lines.append(f"{node}: write #{ready.ticket} {' '.join(parts)}")
        if ready.restore is not None:
            self.states[node] = ready.restore.data.decode()
            self.lines.append(f"{node}: restore {_snapshot(ready.restore)}")
        if ready.committed:
            self.states[node] += "".join(e.data.decode() for e in ready.committed if e.kind is EntryKind.COMMAND)
            self.lines.append(f"{node}: commit {' '.join(_entry(entry) for entry in ready.committed)}")
        for read in ready.reads:
            self.lines.append(f"{node}: read {read.request_id} {'failed' if read.index is None else read.index}")


def _entry(entry: Entry) -> str:
    """`3:x@2` is x at index 3 in term 2."""
    if entry.kind is EntryKind.CONFIG:
        members = Membership.decode(entry.data)
        text = f"voters={','.join(members.voters)}" + (f"/{','.join(members.learners)}" if members.learners else "")
    else:
        text = "noop" if entry.kind is EntryKind.NOOP else entry.data.decode()
    return f"{entry.index}:{text}@{entry.term}"


def _snapshot(snapshot: Snapshot) -> str:
    return f"{snapshot.index}@{snapshot.term}:{snapshot.data.decode()}"


def _covered(snapshot: Snapshot) -> list[Entry]:
    """What `show` prints for the part of a log that a received snapshot stands for."""
    return [
        Entry(index=index, term=snapshot.term, kind=EntryKind.COMMAND, data=b"*")
        for index in range(1, snapshot.index + 1)
    ]


def _message(message: AnyMessage) -> str:
    head = f"{message.sender}->{message.to} {type(message).__name__} term={message.term}"
    match message:
        case types.PreVote() | types.RequestVote():
            lost = " leader-lost" if getattr(message, "leader_lost", False) else ""
            transfer = " transfer" if getattr(message, "transfer", False) else ""
            return f"{head} last={message.last_log_index}@{message.last_log_term}{lost}{transfer}"
        case types.PreVoteReply() | types.RequestVoteReply():
            return f"{head} {'granted' if message.granted else 'refused'}"
        case types.AppendEntries():
            entries = " ".join(_entry(entry) for entry in message.entries) or "heartbeat"
            return (
                f"{head} after={message.prev_log_index}@{message.prev_log_term} {entries} "
                f"commit={message.commit_index} round={message.round}"
            )
        case types.AppendEntriesReply():
            hint = f"hint={message.hint_index}@{message.hint_term}"
            return f"{head} {f'match={message.match_index}' if message.success else hint} round={message.round}"
        case types.InstallSnapshot():
            return f"{head} {_snapshot(message.snapshot)} round={message.round}"
        case _:
            return head


def _detail(value: object) -> object:
    return ",".join(value) if isinstance(value, tuple) else value


def _value(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    if text == "()":
        return ()
    return int(text) if text.lstrip("-").isdigit() else text
