"""One Raft node under test: builders, and a shell that persists at once unless told not to."""

from __future__ import annotations

import random

from raftctl.consensus.raft import Raft
from raftctl.consensus.types import (
    AnyMessage,
    AppendEntries,
    AppendEntriesReply,
    Config,
    Entry,
    EntryKind,
    Event,
    HardState,
    PreVoteReply,
    ReadResult,
    Ready,
    RequestVote,
    RequestVoteReply,
    Role,
    Snapshot,
)


def log_of(*terms: int) -> tuple[Entry, ...]:
    """A log whose entry i has the i-th of `terms`."""
    return tuple(
        Entry(index=index, term=term, kind=EntryKind.COMMAND, data=f"{index}@{term}".encode())
        for index, term in enumerate(terms, start=1)
    )


class NodeUnderTest:
    """Node `a`. What it does is collected until `take` is called."""

    def __init__(
        self,
        *,
        voters: tuple[str, ...] = ("a", "b", "c"),
        term: int = 0,
        voted_for: str = "",
        log: tuple[Entry, ...] = (),
        max_entries: int = 100,
        max_bytes: int = 1 << 20,
        persists: bool = True,
        snapshot: Snapshot | None = None,
        commit_notice_delay: float = 0.0,
        floor: int = 0,
    ) -> None:
        config = Config(
            node_id="a",
            voters=voters,
            election_timeout=1.0,
            heartbeat_interval=0.1,
            commit_notice_delay=commit_notice_delay,
            max_entries_per_append=max_entries,
            max_bytes_per_append=max_bytes,
        )
        self.now = 100.0
        rng = random.Random(1)
        self.raft = Raft(config, HardState(term, voted_for, floor), log, rng, self.now, snapshot=snapshot)
        self.persists = persists
        self.tickets: list[int] = []
        self.messages: list[AnyMessage] = []
        self.restored: list[Snapshot] = []
        self.committed: list[Entry] = []
        self.written: list[Entry] = []
        self.hard_state = HardState(term, voted_for, floor)
        self.reads: list[ReadResult] = []
        self.events: list[Event] = []

    # --- driving ----------------------------------------------------------------------------------

    def step(self, *messages: AnyMessage) -> None:
        for message in messages:
            self.raft.step(message, self.now)
        self.drain()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.raft.tick(self.now)
        self.drain()

    def time_out(self) -> None:
        self.now = max(self.now, self.raft.deadline)
        self.raft.tick(self.now)
        self.drain()

    def propose(self, data: bytes = b"x") -> int:
        index = self.raft.propose(data, self.now)
        self.drain()
        return index

    def persist(self) -> None:
        """Report everything written so far with one report."""
        if self.tickets:
            self.raft.persisted(self.tickets[-1], self.now)
            self.tickets = []
            self.drain()

    def drain(self) -> None:
        while ready := self.raft.ready():
            self._take(ready)
            if self.persists:
                self.persist()

    def _take(self, ready: Ready) -> None:
        self.messages += ready.messages
        if ready.restore is not None:
            self.restored.append(ready.restore)
        self.committed += ready.committed
        self.written += ready.entries
        self.reads += ready.reads
        self.events += ready.events
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.ticket:
            self.tickets.append(ready.ticket)

    # --- looking ----------------------------------------------------------------------------------

    def take(self) -> list[AnyMessage]:
        """The messages since the last call."""
        messages, self.messages = self.messages, []
        return messages

    def replies(self) -> list[AppendEntriesReply]:
        return [message for message in self.take() if isinstance(message, AppendEntriesReply)]

    def appends(self, to: str) -> list[AppendEntries]:
        return [message for message in self.take() if isinstance(message, AppendEntries) and message.to == to]

    # --- reaching states --------------------------------------------------------------------------

    def become_leader(self) -> None:
        """Win an election with the vote of every other voter; the no-op is written here and nowhere else."""
        self.time_out()
        term = self.raft.term + 1
        others = [voter for voter in self.raft.voters if voter != "a"]
        self.step(*(PreVoteReply(sender=other, to="a", term=term, granted=True) for other in others))
        self.persist()
        self.step(*(RequestVoteReply(sender=other, to="a", term=term, granted=True) for other in others))
        assert self.raft.role is Role.LEADER
        self.take()


def append(
    *,
    term: int,
    after: tuple[int, int] = (0, 0),
    entries: tuple[Entry, ...] = (),
    commit: int = 0,
    sender: str = "b",
    round_number: int = 1,
    config_index: int = 0,
) -> AppendEntries:
    """AppendEntries from `sender` to `a`, whose entries follow index and term `after`."""
    return AppendEntries(
        sender=sender,
        to="a",
        term=term,
        prev_log_index=after[0],
        prev_log_term=after[1],
        entries=entries,
        commit_index=commit,
        round=round_number,
        config_index=config_index,
    )


def acknowledge(
    *, term: int, match: int = 0, sender: str = "b", round_number: int = 1, hint: tuple[int, int] | None = None
) -> AppendEntriesReply:
    """An answer to `a`: success up to `match`, or a refusal with `hint`."""
    return AppendEntriesReply(
        sender=sender,
        to="a",
        term=term,
        success=hint is None,
        match_index=match,
        round=round_number,
        hint_index=hint[0] if hint else 0,
        hint_term=hint[1] if hint else 0,
    )


def ask_vote(*, term: int, last: tuple[int, int] = (0, 0), sender: str = "b", transfer: bool = False) -> RequestVote:
    """RequestVote to `a` from a log that ends at index and term `last`."""
    return RequestVote(
        sender=sender, to="a", term=term, last_log_index=last[0], last_log_term=last[1], transfer=transfer
    )
