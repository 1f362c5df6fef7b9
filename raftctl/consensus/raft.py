"""The Raft state machine of one node: inputs in, `Ready` out. No clock, disk, network or global randomness.

Here are the surface, the rules that hold for every message (addresses, terms) and the table of handlers; each
subject has a module of its own: election, follower, replication, reads, transfer.
The algorithm: Ongaro and Ousterhout 2014, figure 2; thesis (Ongaro 2014) for pre-vote (9.6), check-quorum (6.2),
transfer (3.10), ReadIndex (6.4). The order that the shell obeys stands at `types.Ready`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from raftctl.consensus import election, follower, membership_change, reads, replication, transfer
from raftctl.consensus.log import RaftLog
from raftctl.consensus.membership import Membership
from raftctl.consensus.state import Leadership, State
from raftctl.consensus.types import (
    AnyMessage,
    AppendEntries,
    AppendEntriesReply,
    Config,
    Entry,
    EntryKind,
    EventKind,
    HardState,
    InstallSnapshot,
    Message,
    NotLeader,
    PreVote,
    PreVoteReply,
    Ready,
    RequestVote,
    RequestVoteReply,
    Role,
    Snapshot,
    TimeoutNow,
)

HANDLERS: dict[type[Message], Callable[[State, Any], None]] = {
    PreVote: election.handle_pre_vote,
    PreVoteReply: election.handle_pre_vote_reply,
    RequestVote: election.handle_request_vote,
    RequestVoteReply: election.handle_request_vote_reply,
    AppendEntries: follower.handle_append_entries,
    AppendEntriesReply: replication.handle_append_entries_reply,
    TimeoutNow: election.handle_timeout_now,
    InstallSnapshot: follower.handle_install_snapshot,
}

REPLIES = (PreVoteReply, RequestVoteReply, AppendEntriesReply)


class Raft:
    """One node. Every `now` is in seconds of one monotonic clock."""

    def __init__(
        self,
        config: Config,
        hard_state: HardState,
        entries: Sequence[Entry],
        rng: random.Random,
        now: float,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Start from what is on disk: `hard_state`, and the durable log: `entries` after `snapshot`, whose state the
        state machine holds already."""
        log = RaftLog(entries, initial=Membership.of(config.voters), snapshot=snapshot)
        self._state = State(config, hard_state, log, rng, now)
        self._state.check_invariants()

    # --- what it is -------------------------------------------------------------------------------

    @property
    def term(self) -> int:
        return self._state.term

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def leader(self) -> str:
        """The leader of this term as far as this node knows, "" when it does not."""
        return self._state.leader

    @property
    def voters(self) -> tuple[str, ...]:
        return self._state.membership.voters

    @property
    def learners(self) -> tuple[str, ...]:
        return self._state.membership.learners

    @property
    def commit_index(self) -> int:
        return self._state.log.commit_index

    @property
    def last_index(self) -> int:
        return self._state.log.last_index

    @property
    def applied_index(self) -> int:
        """The last index handed out in `Ready.committed`."""
        return self._state.log.applied_index

    @property
    def deadline(self) -> float:
        """When `tick` must be called next; math.inf for a node that only waits for messages."""
        state = self._state
        if state.leadership is None:
            return state.election_deadline
        return replication.deadline(state, state.leadership)

    def quorum_contact(self, now: float) -> float:
        """The latest time t such that a majority, self included, answered a heartbeat that was sent at or after t.

        -math.inf when no round was answered yet. Raises NotLeader."""
        self._state.advance(now)
        self._require_leadership()
        return replication.quorum_contact(self._state)

    def has_settled(self, peer: str, since: float, now: float) -> bool:
        """Whether no election comes of a connection to `peer` that was made anew at `since`: the two have heard of each
        other's leadership since then. True of two followers that hear their leader by other connections."""
        state = self._state
        state.advance(now)
        if state.leadership is None:
            return state.hears_leader
        progress = state.leadership.progress.get(peer)
        return progress is None or progress.contact_at >= since

    # --- inputs -----------------------------------------------------------------------------------

    def step(self, message: AnyMessage, now: float) -> None:
        """Take a message from a peer. Messages that do not concern this node are reported and ignored."""
        state = self._state
        state.advance(now)
        reason = self._not_acceptable(message)
        if reason:
            state.outbox.report(
                EventKind.MESSAGE_IGNORED, type=type(message).__name__, sender=message.sender, reason=reason
            )
            return
        self._take(message)
        state.check_invariants()

    def tick(self, now: float) -> None:
        """Time has passed. Does nothing before `deadline`."""
        state = self._state
        state.advance(now)
        if state.leadership is not None:
            replication.tick(state)
        else:
            election.tick(state)
        state.check_invariants()

    def propose(self, data: bytes, now: float) -> int:
        """Append a command; returns its index, which says nothing about its commit. Raises NotLeader, also while
        the leadership is handed over: the target is the one to ask then."""
        state = self._state
        state.advance(now)
        leadership = self._require_leadership()
        if leadership.transfer_target:
            raise NotLeader(leadership.transfer_target)
        return replication.append(state, EntryKind.COMMAND, data)

    def read_index(self, request_id: int, now: float) -> None:
        """Ask for an index whose applied state makes a read linearizable; the answer is a ReadResult in a later
        Ready. Raises NotLeader."""
        state = self._state
        state.advance(now)
        self._require_leadership()
        reads.request(state, request_id)

    def transfer(self, to: str, now: float) -> None:
        """Hand the leadership to the voter `to`. Raises NotLeader, and ValueError when `to` is not another voter."""
        state = self._state
        state.advance(now)
        self._require_leadership()
        transfer.begin(state, to)

    def change_membership(self, voters: Sequence[str], learners: Sequence[str], now: float) -> int:
        """Replace the configuration by one that differs in at most one voter; returns the index of its entry. It is
        in force at once, and final when committed. Raises NotLeader, ChangeRefused."""
        state = self._state
        state.advance(now)
        leadership = self._require_leadership()
        return membership_change.propose(state, leadership, Membership.of(voters, learners))

    def snapshot(self, data: bytes) -> Snapshot:
        """A snapshot as of `applied_index`, when the state machine's state is `data`. Changes nothing here."""
        log = self._state.log
        term = log.term_at(log.applied_index)
        assert term is not None, "the state machine waits for a snapshot of the leader"
        return Snapshot(log.applied_index, term, log.configurations.at(log.applied_index), data)

    def compacted(self, snapshot: Snapshot, now: float) -> None:
        """`snapshot`, taken by this node, is durable and replaces the entries that it covers."""
        state = self._state
        state.advance(now)
        state.log.compact(snapshot)
        state.check_invariants()

    def peer_lost(self, peer: str, now: float, *, renewed: bool = False) -> None:
        """The connection to `peer` died. If it leads, ask for an election at once; nobody waits for a timeout.

        `renewed`: this side ended it, to make it anew. That says nothing of the peer: it still counts as heard, or two
        nodes that renew theirs at the same time would depose a leader that is well."""
        state = self._state
        state.advance(now)
        if state.leadership is not None:
            replication.connection_lost(state, peer)
        elif peer == state.leader and state.may_campaign and not renewed:
            state.leader_lost = True
            election.start_pre_vote(state, reason="leader-connection-lost")
        state.check_invariants()

    def persisted(self, ticket: int, now: float) -> None:
        """The write of `ticket`, and every earlier one, is durable."""
        state = self._state
        state.advance(now)
        state.log.written(ticket)
        for message in state.outbox.close_ticket(ticket):
            if message.to == state.id:
                self._take(message)
            else:
                state.outbox.send(message)
        if state.leadership is not None:
            replication.advance_commit(state)
        state.check_invariants()

    # --- output -----------------------------------------------------------------------------------

    def ready(self) -> Ready:
        """Everything to do now; falsy when there is nothing. Call after every input, once: another one is falsy."""
        state = self._state
        if state.leadership is not None:
            replication.flush(state)
        outbox = state.outbox
        ticket = 0
        hard_state = None
        snapshot: Snapshot | None = None
        entries: tuple[Entry, ...] = ()
        if outbox.hard_state_changed or state.log.has_unstaged:
            if outbox.hard_state_changed:
                hard_state = HardState(term=state.term, voted_for=state.voted_for, floor=state.floor)
            ticket = outbox.open_ticket(state.now)
            snapshot, entries = state.log.stage(ticket)
        ready = Ready(
            ticket=ticket,
            hard_state=hard_state,
            snapshot=snapshot,
            entries=entries,
            messages=tuple(outbox.messages),
            restore=state.log.take_restore(),
            committed=state.log.take_committed(),
            reads=tuple(outbox.reads),
            events=tuple(outbox.events),
        )
        outbox.messages, outbox.reads, outbox.events = [], [], []
        state.check_invariants()
        return ready

    # --- rules for every message ------------------------------------------------------------------

    def _take(self, message: AnyMessage) -> None:
        """Compare terms (figure 2, "rules for servers"), then hand over to the subject's module."""
        state = self._state
        if message.term < state.term:
            self._answer_stale_term(message)
            return
        if message.term > state.term and not _asks_only(message):
            state.become_follower(term=message.term, leader="", reason="higher-term")
        HANDLERS[type(message)](state, message)

    def _not_acceptable(self, message: AnyMessage) -> str:
        """Why `message` is not even looked at; "" when it is."""
        state = self._state
        if message.to != state.id:
            return "wrong-recipient"
        # Requests of nodes that this one does not know are taken (thesis 4.1): it may be the one whose configuration is
        # old. The transport lets only nodes of this cluster in. Answers count from members alone.
        known = message.sender in state.membership.nodes or not isinstance(message, REPLIES)
        if message.sender == state.id or not known:
            return "unknown-sender"
        if isinstance(message, RequestVote) and message.term > state.term:
            # Thesis 4.2.3: while a leader is heard, its term is not ended by somebody who missed it.
            return "hears-leader" if state.hears_leader and not message.transfer else ""
        return ""

    def _answer_stale_term(self, message: AnyMessage) -> None:
        """Figure 2: a request of an earlier term is refused and told the current one; an old reply is dropped."""
        state = self._state
        match message:
            case PreVote():
                state.send_when_durable(
                    PreVoteReply(sender=state.id, to=message.sender, term=state.term, granted=False)
                )
            case RequestVote():
                state.send_when_durable(
                    RequestVoteReply(sender=state.id, to=message.sender, term=state.term, granted=False)
                )
            case AppendEntries() | InstallSnapshot():
                state.send_when_durable(
                    AppendEntriesReply(
                        sender=state.id,
                        to=message.sender,
                        term=state.term,
                        success=False,
                        match_index=0,
                        round=message.round,
                    )
                )
            case _:
                state.outbox.report(
                    EventKind.MESSAGE_IGNORED,
                    type=type(message).__name__,
                    sender=message.sender,
                    reason="stale-term",
                )

    def _require_leadership(self) -> Leadership:
        if self._state.leadership is None:
            raise NotLeader(self._state.leader)
        return self._state.leadership


def _asks_only(message: AnyMessage) -> bool:
    """Pre-votes speak of a term that nobody has entered yet (thesis 9.6)."""
    return isinstance(message, PreVote) or (isinstance(message, PreVoteReply) and message.granted)
