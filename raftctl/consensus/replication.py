"""The leader's side: heartbeats, replication, commit, and stepping down (paper 5.3, 5.4; thesis 6.2, 10.2.1).

Heartbeats are empty appends of their own, never merged with entries: a follower whose disk is slow answers them at
once. Entries go out with the next Ready, many proposals in one message.
"""

from __future__ import annotations

import math

from raftctl.consensus import reads, transfer
from raftctl.consensus.progress import Progress
from raftctl.consensus.state import Leadership, State
from raftctl.consensus.types import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    EventKind,
    InstallSnapshot,
    TimeoutNow,
)

# --- becoming and ceasing to be the leader --------------------------------------------------------


def take_leadership(state: State) -> None:
    """Begin a reign: forget what earlier leaders knew of the followers, append a no-op (thesis 6.4).

    In a log without a configuration the first one takes the no-op's place: from then on the log says who votes, and
    nodes that are started with other settings cannot disagree about it."""
    first = state.log.last_index + 1
    progress = {node: Progress(next_index=first) for node in state.membership.nodes if node != state.id}
    state.become_leader(Leadership(now=state.now, progress=progress, first_index=first))
    state.outbox.report(EventKind.BECAME_LEADER, term=state.term, last_index=first)
    if state.log.configurations.current_index > 0:
        append(state, EntryKind.NOOP, b"")
    else:
        append(state, EntryKind.CONFIG, state.membership.encode())


def append(state: State, kind: EntryKind, data: bytes) -> int:
    """Append to the own log; replication and the own write start with the next Ready."""
    entry = Entry(index=state.log.last_index + 1, term=state.term, kind=kind, data=data)
    state.log.append(entry)
    return entry.index


def follow_membership(state: State) -> None:
    """Another configuration is in force: keep a Progress for each of its nodes."""
    leadership = _leadership(state)
    leadership.quorum_deadline = -math.inf  # other voters have other contacts
    known = leadership.progress
    leadership.progress = {
        node: known.get(node) or Progress(next_index=state.log.last_index)
        for node in state.membership.nodes
        if node != state.id
    }
    if leadership.transfer_target not in ("", *state.other_voters):
        transfer.abort(state)
    state.report_membership()


def quorum_contact(state: State) -> float:
    """The latest time t such that a majority answered a heartbeat that was sent at or after t."""
    leadership = _leadership(state)

    def contact(node: str) -> float:
        return state.now if node == state.id else leadership.progress[node].contact_at

    return state.membership.agreed(contact)


def check_quorum_deadline(state: State) -> float:
    """When a leader without new answers must step down (thesis 6.2). A new leader has a whole timeout first."""
    return max(quorum_contact(state), _leadership(state).since) + state.config.election_timeout


def deadline(state: State, leadership: Leadership) -> float:
    """When `tick` must be called next."""
    soonest = min(
        leadership.heartbeat_deadline, leadership.notice_deadline, leadership.transfer_deadline, state.disk_deadline
    )
    # Contacts only become later, so an earlier answer is a lower bound, which mostly is enough.
    if leadership.quorum_deadline < soonest:
        leadership.quorum_deadline = check_quorum_deadline(state)
    return min(soonest, leadership.quorum_deadline)


def tick(state: State) -> None:
    leadership = _leadership(state)
    if state.now >= check_quorum_deadline(state):
        state.become_follower(term=state.term, leader="", reason="no-contact-with-a-majority")
        return
    if state.now >= state.disk_deadline:
        state.become_follower(term=state.term, leader="", reason="own-disk-hangs")
        return
    if state.now >= leadership.heartbeat_deadline:
        leadership.round_wanted = True
    if state.now >= leadership.transfer_deadline:
        transfer.abort(state)


# --- sending --------------------------------------------------------------------------------------


def flush(state: State) -> None:
    """Queue what the followers lack, as far as each may be sent more now."""
    leadership = _leadership(state)
    if leadership.round_wanted:
        _start_round(state, leadership)
    for node, progress in leadership.progress.items():
        while progress.can_send and progress.next_index <= state.log.last_index:
            if progress.next_index <= state.log.start_index:
                _send_snapshot(state, node, progress)
            else:
                _send_entries(state, node, progress)
    if state.now >= leadership.notice_deadline:
        _announce_commit(state, leadership)
    transfer.flush(state)


def _announce_commit_soon(state: State, leadership: Leadership) -> None:
    leadership.notice_deadline = min(leadership.notice_deadline, state.now + state.config.commit_notice_delay)


def _announce_commit(state: State, leadership: Leadership) -> None:
    """Tell the commit index to whom no append has told it meanwhile."""
    leadership.notice_deadline = math.inf
    for node, progress in leadership.progress.items():
        if progress.commit_sent < state.log.commit_index and not progress.probing:
            _send(state, node, progress, entries=())


def _start_round(state: State, leadership: Leadership) -> None:
    leadership.round_wanted = False
    leadership.round += 1
    leadership.round_began.append((leadership.round, state.now))
    forgotten = state.now - 2 * state.config.election_timeout
    while leadership.round_began[0][1] < forgotten:
        leadership.round_began.popleft()
    leadership.heartbeat_deadline = state.now + state.config.heartbeat_interval
    for node, progress in leadership.progress.items():
        _send(state, node, progress, entries=())


def _send_entries(state: State, node: str, progress: Progress) -> None:
    config = state.config
    entries = state.log.batch(
        progress.next_index, max_entries=config.max_entries_per_append, max_bytes=config.max_bytes_per_append
    )
    _send(state, node, progress, entries=entries)
    progress.sent(entries[-1].index)


def _send_snapshot(state: State, node: str, progress: Progress) -> None:
    """The follower needs entries that are compacted (thesis 5.3)."""
    snapshot = state.log.snapshot
    assert snapshot is not None
    state.outbox.send(
        InstallSnapshot(
            sender=state.id,
            to=node,
            term=state.term,
            snapshot=snapshot,
            round=_leadership(state).round,
            config_index=state.log.configurations.current_index,
        )
    )
    state.outbox.report(EventKind.SNAPSHOT_SENT, to=node, index=snapshot.index)
    progress.sent_snapshot(snapshot.index)


def _send(state: State, node: str, progress: Progress, *, entries: tuple[Entry, ...]) -> None:
    # A heartbeat to a follower that needs a snapshot names its end: refused, as it should be.
    previous = max(progress.next_index - 1, state.log.start_index)
    previous_term = state.log.term_at(previous)
    assert previous_term is not None
    progress.commit_sent = state.log.commit_index
    state.outbox.send(
        AppendEntries(
            sender=state.id,
            to=node,
            term=state.term,
            prev_log_index=previous,
            prev_log_term=previous_term,
            entries=entries,
            commit_index=state.log.commit_index,
            round=_leadership(state).round,
            config_index=state.log.configurations.current_index,
        )
    )


# --- acknowledgements -----------------------------------------------------------------------------


def handle_append_entries_reply(state: State, message: AppendEntriesReply) -> None:
    """An answer of this term, so one about this leader's own entries (stale terms never come here)."""
    leadership = state.leadership
    if leadership is None:
        return
    if message.match_index > state.log.last_index or message.round > leadership.round:
        state.outbox.report(
            EventKind.MESSAGE_IGNORED, type="AppendEntriesReply", sender=message.sender, reason="never-sent"
        )
        return
    progress = leadership.progress[message.sender]
    progress.heard(round_number=message.round, round_began=leadership.began(message.round))
    if not message.success:
        agreed, _ = state.log.agreement_hint(message.hint_index, message.hint_term)
        progress.rejected(agreed)
    else:
        if progress.acknowledged(message.match_index):
            advance_commit(state)
        if state.leadership is not None and progress.commit_sent < state.log.commit_index:
            _announce_commit_soon(state, leadership)  # it was not told when that was committed: it was being probed
    if state.leadership is not None:
        reads.release(state)


def advance_commit(state: State) -> None:
    """Commit what a majority holds durably, but only through an entry of this term (paper 5.4.2, figure 8)."""
    leadership = _leadership(state)
    if state.log.commit_index == state.log.last_index:
        return

    def held(node: str) -> int:
        return state.log.durable_index if node == state.id else leadership.progress[node].match_index

    index = state.membership.agreed(held)
    if state.log.term_at(index) == state.term and state.log.commit_to(index):
        _announce_commit_soon(state, _leadership(state))
        reads.release(state)
        if not state.is_voter and state.log.commit_index >= state.log.configurations.current_index:
            _leave(state)


def _leave(state: State) -> None:
    """This leader's own removal is committed, until which it had to go on (thesis 4.2.2): the most advanced voter takes
    over without waiting for a timeout."""
    leadership = _leadership(state)
    progress = leadership.progress
    leadership.notice_deadline = state.now
    flush(state)
    heir = max(state.membership.voters, key=lambda voter: progress[voter].match_index)
    state.outbox.send(TimeoutNow(sender=state.id, to=heir, term=state.term))
    state.become_follower(term=state.term, leader="", reason="removed")


def connection_lost(state: State, peer: str) -> None:
    progress = _leadership(state).progress.get(peer)
    if progress is not None:
        progress.connection_lost()


def _leadership(state: State) -> Leadership:
    assert state.leadership is not None, "only a leader does this"
    return state.leadership
