"""The properties of Raft (paper figure 3) as checks that run on every step of a simulation.

They know nothing of the core's insides: they see what reaches disks, the network, state machines and clients.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence

from raftctl.consensus.membership import majority
from raftctl.consensus.types import (
    AnyMessage,
    AppendEntriesReply,
    Entry,
    HardState,
    RequestVote,
    RequestVoteReply,
)


class SafetyViolation(AssertionError):
    """A property that must never break was broken."""


def require(condition: bool, text: str) -> None:
    if not condition:
        raise SafetyViolation(text)


def digest(previous: int, entry: Entry) -> int:
    """The state machine of the simulation: its state is a digest of everything applied."""
    return zlib.crc32(f"{entry.index} {entry.term} {entry.data.hex()}".encode(), previous)


class Checks:
    def __init__(self, voters: Sequence[str]) -> None:
        self.voters = tuple(voters)  # of the first configuration
        self.states: list[int] = [0]  # the state machine's after each committed entry
        self.leaders: dict[int, str] = {}
        self.votes: dict[tuple[int, str], str] = {}
        self.entries: dict[tuple[int, int], tuple[Entry, int]] = {}  # (index, term) -> entry, predecessor's term
        self.committed: list[Entry] = []  # the one history; position i holds index i + 1
        self.commit_terms: list[int] = []  # for each of them a term by which it was committed
        self.floor = 0  # every read or write that begins now must come after this index

    @classmethod
    def of_sole_voter(cls, node: str, log: Sequence[Entry], term: int) -> Checks:
        """From here on `log` is the one history: as the only voter `node` commits all that it holds."""
        checks = cls([node])
        checks.appended(node, log, 0)
        for entry in log:
            checks.committed.append(entry)
            checks.states.append(digest(checks.states[-1], entry))
            checks.commit_terms.append(term)
        checks.floor = len(log)
        return checks

    # --- leaders and votes ------------------------------------------------------------------------

    def leader(self, node: str, term: int, log: Sequence[Entry]) -> None:
        """Election safety and leader completeness; `log` is the new leader's, without its no-op or with it."""
        known = self.leaders.setdefault(term, node)
        require(known == node, f"election safety: {known} and {node} both lead term {term}")
        for entry, committed_by in zip(reversed(self.committed), reversed(self.commit_terms), strict=True):
            if committed_by < term:  # an election of an earlier term may end late, and owes nothing
                has = len(log) >= entry.index and log[entry.index - 1] == entry
                require(has, f"leader completeness: {node} leads term {term} without committed {entry}")
                return

    def sent(self, message: AnyMessage, hard_state: HardState, log: Sequence[Entry]) -> None:
        """A message leaves a node whose disk holds `hard_state` and `log`: rule R1, persist before send."""
        text = f"persist before send: {message} leaves with {hard_state} and {len(log)} entries on disk"
        if isinstance(message, RequestVote):
            require(hard_state.term >= message.term, text)
        if isinstance(message, RequestVoteReply) and message.granted:
            known = self.votes.setdefault((message.term, message.sender), message.to)
            require(known == message.to, f"{message.sender} votes for {known} and {message.to}: {message}")
            require(hard_state.term >= message.term, text)
        if isinstance(message, AppendEntriesReply):
            require(hard_state.term >= message.term, text)
            require(len(log) >= message.match_index, text)

    # --- logs -------------------------------------------------------------------------------------

    def appended(self, node: str, entries: Sequence[Entry], previous_term: int) -> None:
        """Log matching: an index and term name one entry with one predecessor, so by induction one history."""
        for entry in entries:
            known = self.entries.setdefault((entry.index, entry.term), (entry, previous_term))
            require(known == (entry, previous_term), f"log matching: {node} holds {entry}, not {known}")
            previous_term = entry.term

    def applied(
        self,
        node: str,
        term: int,
        entries: Sequence[Entry],
        disks: dict[str, Sequence[Entry]],
        configurations: Callable[[], Collection[tuple[str, ...]]],
        left: Collection[str] = (),
    ) -> None:
        """State machine safety, and that what is applied, by a node in `term`, is durable on a majority.

        A majority of the voters in one of `configurations`: what is in force somewhere, or was just before. Those who
        `left` for a later incarnation may have held it: what they began anew with says nothing about that."""
        for entry in entries:
            if entry.index <= len(self.committed):
                known = self.committed[entry.index - 1]
                require(known == entry, f"state machine safety: {node} applies {entry}, others {known}")
                continue
            require(entry.index == len(self.committed) + 1, f"{node} skips to {entry}")
            holders = {
                name for name, disk in disks.items() if len(disk) >= entry.index and disk[entry.index - 1] == entry
            }
            require(
                any(len((holders | set(left)) & set(voters)) >= majority(len(voters)) for voters in configurations()),
                f"commit without a majority: {entry} is on the disks of {sorted(holders)}",
            )
            self.committed.append(entry)
            self.states.append(digest(self.states[-1], entry))
            self.commit_terms.append(term)

    def restored(self, node: str, index: int, state: int) -> None:
        """A snapshot holds what applying the log would have made."""
        require(state == self.states[index], f"{node} restores another state than the one after {index}")

    # --- clients ----------------------------------------------------------------------------------

    def write_acknowledged(self, entry: Entry, floor: int) -> None:
        """`floor` is this object's `floor` when the write began."""
        require(entry.index > floor, f"linearizability: {entry} began after {floor} was seen")
        self.floor = max(self.floor, entry.index)

    def read_answered(self, index: int, seen: int, floor: int) -> None:
        """A read got `index` and saw the state at `seen`; `floor` as for writes."""
        require(index >= floor, f"stale read: index {index} although {floor} was seen before it began")
        self.floor = max(self.floor, seen)
