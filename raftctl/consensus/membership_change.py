"""Single-step membership change (thesis 4.1 to 4.3): one voter more or less, one change at a time.

Majorities of two configurations that differ by one voter always share a node, so no second phase is needed. It is
safe only if the configuration before is committed and the leader has committed an entry of its own term (the
correction of 2015 to the thesis). The other refusals keep a mistake from taking the cluster's quorum away.
"""

from __future__ import annotations

from raftctl.consensus import replication
from raftctl.consensus.membership import Membership
from raftctl.consensus.state import Leadership, State
from raftctl.consensus.types import ChangeRefusal, ChangeRefused, EntryKind


def propose(state: State, leadership: Leadership, new: Membership) -> int:
    """Append the configuration, which is in force from now on. Returns its index. Raises ChangeRefused."""
    _require_settled(state, leadership)
    _require_one_step(state.membership, new)
    _require_quorum_after(state, leadership, new)
    index = replication.append(state, EntryKind.CONFIG, new.encode())
    replication.follow_membership(state)
    replication.advance_commit(state)
    return index


def _require_settled(state: State, leadership: Leadership) -> None:
    if state.log.commit_index < leadership.first_index:
        raise ChangeRefused(ChangeRefusal.TERM_NOT_COMMITTED)
    if state.log.commit_index < state.log.configurations.current_index:
        raise ChangeRefused(ChangeRefusal.CHANGE_IN_PROGRESS)


def _require_one_step(old: Membership, new: Membership) -> None:
    if not new.voters:
        raise ChangeRefused(ChangeRefusal.NO_VOTERS)
    different = set(old.voters) ^ set(new.voters)
    if len(different) > 1:
        raise ChangeRefused(ChangeRefusal.MORE_THAN_ONE_VOTER, ", ".join(sorted(different)))
    for node in set(new.voters) - set(old.voters) - set(old.learners):
        raise ChangeRefused(ChangeRefusal.NOT_A_LEARNER, node)


def _require_quorum_after(state: State, leadership: Leadership, new: Membership) -> None:
    """A majority of the new voters answers, and a voter that comes in holds nearly the whole log already.

    It holds the present configuration in any case, without which it would not vote (`State.joining`)."""
    oldest = state.now - state.config.election_timeout
    answering = [
        node
        for node in new.voters
        if node == state.id or (node in leadership.progress and leadership.progress[node].contact_at >= oldest)
    ]
    if not new.is_quorum(answering):
        raise ChangeRefused(ChangeRefusal.WOULD_LOSE_QUORUM, f"only {', '.join(answering) or 'nobody'} would answer")
    for node in set(new.voters) - set(state.membership.voters):
        held = leadership.progress[node].match_index
        nearly_all = held + state.config.max_entries_per_append >= state.log.last_index
        if not nearly_all or held < state.log.configurations.current_index:
            raise ChangeRefused(ChangeRefusal.NOT_CAUGHT_UP, node)
