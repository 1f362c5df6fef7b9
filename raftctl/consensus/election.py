"""Elections: pre-vote, vote, and how rivals get out of each other's way (paper 5.2, 5.4.1; thesis 4.2.3, 9.6).

A campaign first asks with PreVote, which changes nobody's term. It starts when no leader was heard for the
randomised election timeout, or at once when the connection to the leader dies (`leader_lost`).

Rivals: two pre-candidates with equal logs would split the vote. The one with the smaller id yields: the greater
refuses it, unless the smaller one has refused the greater in this campaign and so could not help it.
A refused campaign is repeated after a short random back-off that doubles up to the election timeout.
"""

from __future__ import annotations

from raftctl.consensus import replication
from raftctl.consensus.state import State
from raftctl.consensus.types import (
    EventKind,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    Role,
    TimeoutNow,
)

# --- campaigning ----------------------------------------------------------------------------------


def tick(state: State) -> None:
    if state.now < state.election_deadline:
        return
    if state.now >= state.disk_deadline or not state.may_campaign:
        state.restart_election_timer()
    else:
        start_pre_vote(state, reason="election-timeout" if state.role is Role.FOLLOWER else "again")


def start_pre_vote(state: State, *, reason: str) -> None:
    """Ask every voter whether it would vote for this node in the next term."""
    assert state.may_campaign
    state.become_pre_candidate()
    state.campaigns += 1
    state.restart_election_timer()
    state.outbox.report(EventKind.PRE_VOTE_STARTED, term=state.term + 1, reason=reason)
    for voter in state.other_voters:
        state.outbox.send(
            PreVote(
                sender=state.id,
                to=voter,
                term=state.term + 1,
                last_log_index=state.log.last_index,
                last_log_term=state.log.last_term,
                leader_lost=state.leader_lost,
            )
        )
    _count_pre_votes(state)


def start_election(state: State, *, transfer: bool = False) -> None:
    """Enter the next term, vote for oneself and ask the others, once the own vote is on disk."""
    state.become_candidate()
    state.restart_election_timer()
    state.outbox.report(EventKind.ELECTION_STARTED, term=state.term, transfer=transfer)
    # The own vote is a message to oneself: like every grant it exists once it is durable.
    state.send_when_durable(RequestVoteReply(sender=state.id, to=state.id, term=state.term, granted=True))
    for voter in state.other_voters:
        state.send_when_durable(
            RequestVote(
                sender=state.id,
                to=voter,
                term=state.term,
                last_log_index=state.log.last_index,
                last_log_term=state.log.last_term,
                transfer=transfer,
            )
        )


def handle_pre_vote_reply(state: State, message: PreVoteReply) -> None:
    if state.role is not Role.PRE_CANDIDATE:
        return
    if message.granted and message.term != state.term + 1:
        return  # an answer to a campaign of another term
    state.votes[message.sender] = message.granted
    _count_pre_votes(state)
    if not message.granted:
        _retry_soon(state)


def handle_request_vote_reply(state: State, message: RequestVoteReply) -> None:
    if state.role is not Role.CANDIDATE:
        return
    state.votes[message.sender] = message.granted
    if state.membership.is_quorum(_granted(state)):
        replication.take_leadership(state)
    elif not message.granted:
        _retry_soon(state)


def handle_timeout_now(state: State, message: TimeoutNow) -> None:
    """The leader hands over: no pre-vote, the leader itself asks for this election (thesis 3.10)."""
    if message.sender != state.leader or not state.may_campaign:
        state.outbox.report(EventKind.MESSAGE_IGNORED, type="TimeoutNow", sender=message.sender, reason="not-my-leader")
        return
    start_election(state, transfer=True)


def _count_pre_votes(state: State) -> None:
    if state.role is Role.PRE_CANDIDATE and state.membership.is_quorum(_granted(state)):
        start_election(state)


def _granted(state: State) -> set[str]:
    return {voter for voter, granted in state.votes.items() if granted}


def _retry_soon(state: State) -> None:
    """Somebody refused: a rival may be ahead, or the others do not miss the leader yet. Ask again before a whole
    election timeout has passed, but less and less often."""
    config = state.config
    longest = min(config.heartbeat_interval * 2 ** min(state.campaigns - 1, 16), config.election_timeout)
    retry = state.now + longest * state.rng.uniform(0.5, 1.5)
    state.election_deadline = min(state.election_deadline, retry)


# --- voting ---------------------------------------------------------------------------------------


def handle_pre_vote(state: State, message: PreVote) -> None:
    refusal = _pre_vote_refusal(state, message)
    if refusal:
        state.outbox.report(EventKind.PRE_VOTE_REFUSED, candidate=message.sender, term=message.term, reason=refusal)
    # A grant carries the term asked about; a refusal this node's own, which tells a late node to catch up.
    term = state.term if refusal else message.term
    reply = PreVoteReply(sender=state.id, to=message.sender, term=term, granted=not refusal)
    if refusal:
        state.send_when_durable(reply)
    else:
        state.outbox.send(reply)


def handle_request_vote(state: State, message: RequestVote) -> None:
    refusal = _vote_refusal(state, message)
    if refusal:
        state.outbox.report(EventKind.VOTE_REFUSED, candidate=message.sender, term=state.term, reason=refusal)
    else:
        state.vote_for(message.sender)
        state.restart_election_timer()
        state.outbox.report(EventKind.VOTE_GRANTED, candidate=message.sender, term=state.term)
    state.send_when_durable(RequestVoteReply(sender=state.id, to=message.sender, term=state.term, granted=not refusal))


def _pre_vote_refusal(state: State, message: PreVote) -> str:
    if state.hears_leader:
        return "hears-leader"
    refusal = _vote_refusal(state, message)
    if not refusal and _outranks(state, message):
        return "outranked"
    return refusal


def _vote_refusal(state: State, message: PreVote | RequestVote) -> str:
    """Why this node would not vote for the sender in the message's term; "" when it would (figure 2)."""
    assert message.term >= state.term
    if state.joining:
        return "joining"
    if message.term == state.term and state.voted_for not in ("", message.sender):
        return "voted-for-another"
    if not state.log.is_up_to_date(last_index=message.last_log_index, last_term=message.last_log_term):
        return "log-behind"
    return ""


def _outranks(state: State, message: PreVote) -> bool:
    """Whether this node campaigns itself and is the one of the two that goes on."""
    if state.role not in (Role.PRE_CANDIDATE, Role.CANDIDATE):
        return False
    equal_logs = (message.last_log_index, message.last_log_term) == (state.log.last_index, state.log.last_term)
    return equal_logs and state.id > message.sender and state.votes.get(message.sender) is not False
