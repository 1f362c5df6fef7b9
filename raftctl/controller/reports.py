"""The last report of every member, with ages: what the leader's view is made of. Every controller keeps one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from raftctl.cluster.facts import MemberReport
from raftctl.cluster.state import ClusterState
from raftctl.planner.sync_set import receives
from raftctl.planner.view import CAUGHT_UP_SECONDS, ClusterView, Seen, proof


class _Kept(msgspec.Struct):
    report: MemberReport
    at: float
    receiving_at: float
    first: MemberReport
    marked: MemberReport  # the next to become `earlier`
    marked_at: float
    earlier: MemberReport | None = None


class ReportBook:
    """Times are seconds of one monotonic clock, passed in."""

    def __init__(self, now: float) -> None:
        self._kept: dict[str, _Kept] = {}
        self._listening_since = now

    def add(self, report: MemberReport, state: ClusterState, now: float) -> None:
        """Keep a report that just arrived; one connection carries them in order."""
        kept = self._kept.get(report.member)
        receiving = bool(state.primary) and receives(state, report)
        receiving_at = now if receiving else kept.receiving_at if kept else float("-inf")
        first = kept.first if kept and proof(kept.report) == proof(report) else report
        marked, marked_at, earlier = (kept.marked, kept.marked_at, kept.earlier) if kept else (report, now, None)
        if now - marked_at >= CAUGHT_UP_SECONDS:
            marked, marked_at, earlier = report, now, marked
        self._kept[report.member] = _Kept(report, now, receiving_at, first, marked, marked_at, earlier)

    def forget_time(self, now: float) -> None:
        """This process was away (stopped, starved): the silence of others in that time means nothing."""
        self._listening_since = now

    def latest(self, member: str) -> MemberReport | None:
        kept = self._kept.get(member)
        return kept.report if kept else None

    def view(
        self,
        *,
        now: float,
        version_since: float,
        failover_since: float,
        hung_up: Mapping[str, float],
        voters: tuple[str, ...] = (),
        learners: tuple[str, ...] = (),
    ) -> ClusterView:
        return ClusterView(
            members={
                name: Seen(
                    report=kept.report,
                    age=now - kept.at,
                    receiving_age=now - kept.receiving_at,
                    hung_up_seconds=hung_up.get(name),
                    first=kept.first,
                    earlier=kept.earlier,
                )
                for name, kept in self._kept.items()
            },
            listening_seconds=now - self._listening_since,
            version_seconds=now - version_since,
            failover_seconds=now - failover_since,
            voters=voters,
            learners=learners,
        )
