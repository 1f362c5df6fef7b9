"""The follower's side of replication (paper figure 2, AppendEntries, receiver implementation).

An acknowledgement names what was verified against this leader *and* is on disk here. The log may hold more, from
earlier leaders: that is neither acknowledged nor committed.
"""

from __future__ import annotations

from raftctl.consensus.state import State
from raftctl.consensus.types import AppendEntries, AppendEntriesReply, EventKind, InstallSnapshot, Role


def handle_append_entries(state: State, message: AppendEntries) -> None:
    _hear_leader(state, message)
    log = state.log
    verified = _verify_predecessor(state, message)
    if verified is None:
        hint_index, hint_term = log.agreement_hint(message.prev_log_index, message.prev_log_term)
        _send_now(state, _reply(state, message, success=False, hint_index=hint_index, hint_term=hint_term))
        return
    membership, joining = state.membership, state.joining
    truncated = log.merge(message.entries)
    state.join_up_to(message.config_index)  # what was truncated may have been what it had to reach
    if truncated is not None:
        state.outbox.report(EventKind.LOG_TRUNCATED, first=truncated, leader=message.sender)
    if state.membership != membership:
        state.report_membership()
    if joining != state.joining:
        state.restart_election_timer()
    log.commit_to(min(message.commit_index, verified))
    _acknowledge(state, message, verified)


def handle_install_snapshot(state: State, message: InstallSnapshot) -> None:
    """Thesis 5.3, figure 5.3. What the snapshot covers is committed; the own log is kept if it already agrees with
    it there, and replaced as a whole if not."""
    _hear_leader(state, message)
    log, snapshot = state.log, message.snapshot
    if snapshot.index <= log.commit_index:
        _send_now(state, _reply(state, message, success=True, match_index=min(log.commit_index, log.durable_index)))
        return
    if log.term_at(snapshot.index) == snapshot.term:
        log.commit_to(snapshot.index)
    else:
        log.install(snapshot)
        state.outbox.report(EventKind.SNAPSHOT_RECEIVED, index=snapshot.index, leader=message.sender)
        state.join_up_to(message.config_index)
        state.report_membership()
    state.send_when_durable(_reply(state, message, success=True, match_index=snapshot.index))


def _hear_leader(state: State, message: AppendEntries | InstallSnapshot) -> None:
    leader = message.sender
    assert state.role is not Role.LEADER, f"two leaders in term {state.term}: {state.id} and {leader}"
    if state.role is not Role.FOLLOWER or state.leader != leader:
        assert state.leader in ("", leader), f"two leaders in term {state.term}: {state.leader} and {leader}"
        state.become_follower(term=state.term, leader=leader, reason="")
    state.heard_leader_at = state.now
    state.leader_lost = False
    state.campaigns = 0
    state.join_up_to(message.config_index)
    state.restart_election_timer()


def _verify_predecessor(state: State, message: AppendEntries) -> int | None:
    """The index up to which the log will match the leader's after this message; None when it does not fit.

    Up to the commit index the logs match without a look: every leader has all committed entries."""
    log = state.log
    end = message.prev_log_index + len(message.entries)
    if message.prev_log_index <= log.commit_index:
        return max(end, log.commit_index)
    return end if log.term_at(message.prev_log_index) == message.prev_log_term else None


def _acknowledge(state: State, message: AppendEntries, verified: int) -> None:
    """Acknowledge `verified` once it is on disk. A heartbeat is answered at once, with what is on disk already:
    the leader must hear from a follower whose disk is slow."""
    durable = state.log.durable_index
    if verified <= durable or not message.entries:
        _send_now(state, _reply(state, message, success=True, match_index=min(verified, durable)))
    else:
        state.send_when_durable(_reply(state, message, success=True, match_index=verified))


def _send_now(state: State, reply: AppendEntriesReply) -> None:
    """Every answer depends on the term; this one on nothing else."""
    if state.outbox.hard_state_durable:
        state.outbox.send(reply)
    else:
        state.send_when_durable(reply)


def _reply(
    state: State,
    message: AppendEntries | InstallSnapshot,
    *,
    success: bool,
    match_index: int = 0,
    hint_index: int = 0,
    hint_term: int = 0,
) -> AppendEntriesReply:
    return AppendEntriesReply(
        sender=state.id,
        to=message.sender,
        term=state.term,
        success=success,
        match_index=match_index,
        round=message.round,
        hint_index=hint_index,
        hint_term=hint_term,
    )
