"""Forced membership, the Raft part (rule R10): make one survivor the only voter, when the majority is lost
for good.

It rewrites nothing: one CONFIG entry is appended to the survivor's own log, in a new term. As the only voter
the node then commits everything that its log holds, also what no majority had. Choose the survivor with the
greatest `position`; the other survivors join it again as newcomers, with empty logs, through ordinary
membership changes. The node must run with a higher incarnation from then on, or the old majority, should it
return, could still talk to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from raftctl.consensus.membership import Membership
from raftctl.consensus.types import Entry, EntryKind, HardState
from raftctl.raftnode.wal import Wal
from raftctl.raftnode.wal_records import Recovered


class LogPosition(NamedTuple):
    """Logs are compared by the term of their last entry, then by its index (paper section 5.4.1)."""

    last_term: int
    last_index: int


def position(directory: Path, *, cluster_id: str, node_id: str) -> LogPosition:
    """Where the log of a stopped controller ends. Raises the errors of `Wal.open`."""
    wal, recovered = Wal.open(directory, cluster_id=cluster_id, node_id=node_id)
    wal.close()
    return _last(recovered)


def make_sole_voter(
    directory: Path, *, cluster_id: str, node_id: str, learners: Iterable[str] = (), command: bytes = b""
) -> LogPosition:
    """Append a configuration with `node_id` as its only voter, and `command` after it, to the log of its stopped
    controller; returns where that log ends then. `learners` get the log when they come with an empty one.

    Repeating it is harmless. Raises the errors of `Wal.open` (LogInUseError while the controller runs)."""
    wal, recovered = Wal.open(directory, cluster_id=cluster_id, node_id=node_id)
    try:
        hard_state, entries = sole_voter(recovered, node_id=node_id, learners=learners, command=command)
        wal.append(hard_state, entries)
    finally:
        wal.close()
    return LogPosition(hard_state.term, entries[-1].index)


def sole_voter(
    recovered: Recovered, *, node_id: str, learners: Iterable[str] = (), command: bytes = b""
) -> tuple[HardState, list[Entry]]:
    """What to append to a log that holds `recovered`, to make `node_id` its only voter."""
    last = _last(recovered)
    term = max(recovered.hard_state.term, last.last_term) + 1
    entries = [Entry(last.last_index + 1, term, EntryKind.CONFIG, Membership.of([node_id], learners).encode())]
    if command:
        entries.append(Entry(last.last_index + 2, term, EntryKind.COMMAND, command))
    return HardState(term, node_id), entries


def _last(recovered: Recovered) -> LogPosition:
    if recovered.entries:
        return LogPosition(recovered.entries[-1].term, recovered.entries[-1].index)
    if recovered.snapshot is not None:
        return LogPosition(recovered.snapshot.term, recovered.snapshot.index)
    return LogPosition(0, 0)
