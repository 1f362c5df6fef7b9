"""Linearizable reads without log entries: ReadIndex (thesis 6.4).

A read is answered when (1) an entry of this leader's term is committed, so the leader knows everything that was
committed before, and (2) a majority answered a heartbeat round that began after the request, so nobody else had
become leader by then.
"""

from __future__ import annotations

from raftctl.consensus.state import PendingRead, State
from raftctl.consensus.types import ReadResult


def request(state: State, request_id: int) -> None:
    """Wait for the next heartbeat round; requests until the next Ready share one."""
    leadership = state.leadership
    assert leadership is not None
    leadership.reads.append(PendingRead(request_id, leadership.round + 1))
    leadership.round_wanted = True
    if not state.other_voters:
        leadership.round_wanted = False
        leadership.reads[-1].round = leadership.round
        release(state)


def release(state: State) -> None:
    """Answer the reads whose round a majority has confirmed."""
    leadership = state.leadership
    assert leadership is not None
    if not leadership.reads or state.log.commit_index < leadership.first_index:
        return

    def confirmed(node: str) -> int:
        return leadership.round if node == state.id else leadership.progress[node].acked_round

    newest = state.membership.agreed(confirmed)
    answered = [read for read in leadership.reads if read.round <= newest]
    leadership.reads = [read for read in leadership.reads if read.round > newest]
    state.outbox.reads.extend(ReadResult(read.request_id, state.log.commit_index) for read in answered)
