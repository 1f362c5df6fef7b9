"""Leadership transfer (thesis 3.10): stop taking proposals, bring the target up to date, tell it to campaign."""

from __future__ import annotations

import math

from raftctl.consensus.state import State
from raftctl.consensus.types import EventKind, TimeoutNow


def begin(state: State, target: str) -> None:
    """Hand the leadership to `target`; given up after an election timeout. Raises ValueError for a node that is
    not another voter."""
    leadership = state.leadership
    assert leadership is not None
    if target not in state.other_voters:
        raise ValueError(f"leadership can only go to another voter, not to {target}")
    leadership.transfer_target = target
    leadership.transfer_deadline = state.now + state.config.election_timeout
    leadership.transfer_sent = False
    state.outbox.report(EventKind.TRANSFER_STARTED, to=target)


def flush(state: State) -> None:
    """Send TimeoutNow once the target holds the whole log."""
    leadership = state.leadership
    assert leadership is not None
    target = leadership.transfer_target
    if not target or leadership.transfer_sent:
        return
    if leadership.progress[target].match_index == state.log.last_index:
        leadership.transfer_sent = True
        state.outbox.send(TimeoutNow(sender=state.id, to=target, term=state.term))


def abort(state: State) -> None:
    """The target did not take over in time: take proposals again."""
    leadership = state.leadership
    assert leadership is not None
    state.outbox.report(EventKind.TRANSFER_ABORTED, to=leadership.transfer_target)
    leadership.transfer_target = ""
    leadership.transfer_deadline = math.inf
