"""What the leader knows when it decides: who reported what, and how long ago."""

from __future__ import annotations

import msgspec

from raftctl.cluster.facts import MemberReport, MySQLState
from raftctl.cluster.state import ClusterState

UP_STATES = frozenset({MySQLState.PRIMARY, MySQLState.REPLICA, MySQLState.JOINING, MySQLState.FENCED})


CAUGHT_UP_SECONDS = 1.0  # a replica that holds what the primary had so long ago receives as fast as it is written


class Seen(msgspec.Struct, frozen=True):
    """The last report of a member. Ages are seconds on the leader's monotonic clock: `age` of the report,
    `receiving_age` of the last report that showed its receiver connected to the primary of the time. `hung_up_seconds`:
    for how long its controller has been away since it ended the connection itself, as a process that ends does; None
    when it is there, or when the connection was given up here, which proves nothing. `first` is the earliest report
    that proved the same as the last one (`proof`): what the member had when that became so. `earlier` is a report from
    CAUGHT_UP_SECONDS ago or a little more, None when none is kept."""

    report: MemberReport
    age: float
    receiving_age: float = float("inf")
    hung_up_seconds: float | None = None
    first: MemberReport | None = None
    earlier: MemberReport | None = None


def proof(report: MemberReport) -> tuple[object, ...]:
    """What a primary's report says about who can acknowledge there, and how many must."""
    return report.version, report.locked, report.source_acks


class ClusterView(msgspec.Struct, frozen=True):
    """`listening_seconds`: for how long this controller has been hearing reports without a gap of its own;
    `version_seconds`: for how long the state has been at its version, as far as it saw. Both bound what silence is.
    `failover_seconds`: since the last failover began, as far as this controller saw: never more than it really is.
    `voters` and `learners` are Raft's configuration."""

    members: dict[str, Seen]
    listening_seconds: float
    version_seconds: float
    failover_seconds: float = float("inf")
    voters: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()

    def report(self, state: ClusterState, member: str) -> MemberReport | None:
        """The member's report unless it is older than the silence deadline."""
        seen = self.members.get(member)
        return seen.report if seen and seen.age < state.settings.silence_deadline else None

    def up(self, state: ClusterState, member: str) -> MemberReport | None:
        """The member's fresh report if its mysqld answers and its disk completes writes."""
        report = self.report(state, member)
        mysql = report.mysql if report else None
        return report if mysql and mysql.state in UP_STATES and not mysql.disk_stalled else None

    def silent(self, state: ClusterState, member: str) -> bool:
        """Whether the member has been silent for the whole deadline, and this controller there to notice."""
        return self.report(state, member) is None and self.listening_seconds >= state.settings.silence_deadline
