"""The status of a cluster, put together from what its members say. Pure: who is asked, and how, is the caller's.

The committed state is taken from the newest answer, by (incarnation, term, applied index); about itself, each member
has the last word. A member that did not answer is listed with None in every field that it alone could fill.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import msgspec

from raftctl.cluster.facts import MemberFacts, MySQLFacts, MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.issues import NOT_ASKED, find_issues
from raftctl.cluster.observation import MySQLObservation, ReceiverState
from raftctl.cluster.state import ClusterState, Member, MemberRole
from raftctl.cluster.status_model import (
    AtRisk,
    ClusterStatus,
    Durability,
    Health,
    Issue,
    IssueCode,
    MemberRow,
    MySQLRow,
    PauseInfo,
    Quorum,
    RaftRow,
)


class DirectAnswer(msgspec.Struct, frozen=True):
    """A member whose controller did not answer (`error` says how) while its mysqld did."""

    mysql: MySQLFacts
    error: str


Answer = MemberFacts | DirectAnswer | str  # str: one line, why nothing answered

# What the last observation says is no longer true in these states.
_UNSEEN = frozenset({MySQLState.DOWN, MySQLState.UNRESPONSIVE, MySQLState.UNKNOWN})


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All answers, sorted: what was heard from whom, and the newest committed state among it."""

    members: Mapping[str, Member]
    answers: Mapping[str, Answer]
    facts: Mapping[str, MemberFacts]
    state: ClusterState | None
    leader: str | None
    term: int | None
    quorum: Quorum

    def observation(self, name: str) -> MySQLObservation | None:
        """What was seen of a mysqld that still answers."""
        mysql = self.mysql(name)
        return mysql.observation if mysql is not None and mysql.state not in _UNSEEN else None

    def mysql(self, name: str) -> MySQLFacts | None:
        answer = self.answers.get(name)
        if isinstance(answer, MemberFacts):
            return answer.report.mysql
        return answer.mysql if isinstance(answer, DirectAnswer) else None


def build_status(
    *,
    members: Mapping[str, Member],
    answers: Mapping[str, Answer],
    now_via: Mapping[str, str] | None = None,
    cluster: str = "",
) -> ClusterStatus:
    """The status from one round of answers.

    `members` are those that the caller knows of (from its inventory, or its own state), `answers` what each said, or
    an error in one line; `now_via` names the way by which each was reached when it is not the API; `cluster` is the
    name to show while no member says it.
    """
    evidence = gather_evidence(members, answers)
    state = evidence.state
    rows = tuple(_member_row(evidence, name, now_via or {}) for name in sorted(evidence.members))
    found = find_issues(state, rows, evidence.quorum, _errors(evidence), _heard(evidence))
    issues = _two_branches(evidence) + found + _held_back(evidence)
    return ClusterStatus(
        cluster=(state.cluster if state else "") or cluster,
        engine=state.engine if state else None,
        incarnation=state.incarnation if state else None,
        epoch=state.epoch if state else None,
        term=evidence.term,
        leader=evidence.leader,
        primary=(state.primary or None) if state else None,
        paused=state.paused is not None if state else None,
        phase=state.phase if state else None,
        quorum=evidence.quorum,
        durability=_durability(state),
        health=judge(issues),
        issues=issues,
        members=rows,
        pause=_pause(state),
        failures_tolerated=failures_tolerated(state, rows, evidence.quorum),
        at_risk=_at_risk(evidence),
    )


def _line(state: ClusterState) -> tuple[int, str]:
    return state.incarnation, state.branch


def _two_branches(evidence: Evidence) -> tuple[Issue, ...]:
    """Several people, each on a side of a partition, have forced memberships: nobody else can say which one counts."""
    if evidence.state is None:
        return ()
    branches: dict[str, list[str]] = {}
    for name, facts in sorted(evidence.facts.items()):
        if facts.state.incarnation == evidence.state.incarnation and facts.state.branch:
            branches.setdefault(facts.state.branch, []).append(name)
    if len(branches) < 2:
        return ()
    sides = "; ".join(f"{', '.join(names)} in branch {branch}" for branch, names in branches.items())
    text = (
        f"incarnation {evidence.state.incarnation} was forced more than once: {sides}. Both may take writes: keep one "
    )
    text += "by `raftctl force-members NAME... --fence` with the names of its members"
    return (Issue(IssueCode.TWO_BRANCHES, None, text),)


def _held_back(evidence: Evidence) -> tuple[Issue, ...]:
    leader = evidence.facts.get(evidence.leader or "")
    texts = leader.held_back if leader is not None else ()
    return tuple(Issue(IssueCode.HELD_BACK, None, f"the leader waits: {text}") for text in texts)


def judge(issues: tuple[Issue, ...]) -> Health:
    """The worst of the issues."""
    if any(issue.code.critical for issue in issues):
        return Health.CRITICAL
    return Health.DEGRADED if issues else Health.OK


def gather_evidence(members: Mapping[str, Member], answers: Mapping[str, Answer]) -> Evidence:
    """Sort the answers; see `Evidence`."""
    facts = {name: answer for name, answer in answers.items() if isinstance(answer, MemberFacts)}
    newest = max(facts.values(), key=_age_key, default=None)
    state = newest.state if newest else None
    everyone = {**members, **(state.members if state else {})}
    configured = newest.raft.voters if newest else ()
    voters = frozenset(configured or (state.members if state and state.members else members))
    # Members of an earlier incarnation, or another branch, have no say: they were excluded by force.
    peers = {n: f for n, f in facts.items() if newest and _line(f.state) == _line(newest.state)}
    leader, live = _find_leader(peers, voters)
    heard = set(facts) & voters
    if leader is not None and live:
        heard |= {leader, *(peers[leader].connected if leader in peers else ())} & voters
    required = len(voters) // 2 + 1
    return Evidence(
        members=everyone,
        answers=answers,
        facts=facts,
        state=state,
        leader=leader,
        term=max((f.raft.term for f in peers.values()), default=None),
        quorum=Quorum(
            voters=len(voters),
            required=required,
            reachable=len(heard),
            ok=live and len(heard) >= required,
        ),
    )


def _age_key(facts: MemberFacts) -> tuple[int, int, int]:
    return facts.state.incarnation, facts.raft.term, facts.raft.applied_index


def _find_leader(peers: Mapping[str, MemberFacts], voters: frozenset[str]) -> tuple[str | None, bool]:
    """The leader of the highest term, and whether it is known to have recent contact with a majority: by its own
    word, or, when it cannot be asked, by the word of enough followers."""
    term = max((f.raft.term for f in peers.values()), default=0)
    current = {name: f for name, f in peers.items() if f.raft.term == term}
    for name, facts in current.items():
        if facts.raft.state == "leader":
            age = facts.quorum_contact_seconds
            return name, age is not None and age < contact_limit(facts.state)
    named = {f.raft.leader for f in current.values() if f.raft.leader}
    if len(named) != 1:
        return None, False
    (leader,) = named
    followers = {name for name, f in current.items() if hears_leader(f)} & voters
    return leader, len({leader, *followers} & voters) >= len(voters) // 2 + 1


def contact_limit(state: ClusterState) -> float:
    """After how many seconds without contact a leader or follower counts as cut off."""
    return 2 * state.settings.election_timeout


def hears_leader(facts: MemberFacts) -> bool:
    """Whether this follower is in contact with a leader. One that hears nothing does not stay a follower for longer
    than an election timeout, so naming a leader is enough."""
    return facts.raft.state == "follower" and bool(facts.raft.leader)


# --- one member -------------------------------------------------------------------------------------


def _member_row(evidence: Evidence, name: str, now_via: Mapping[str, str]) -> MemberRow:
    member, answer, state = evidence.members[name], evidence.answers.get(name, ""), evidence.state
    row = MemberRow(
        name=name,
        role=member.role,
        address=member.raft,
        api=member.api,
        via=None if isinstance(answer, str) else now_via.get(name, _usual_way(answer)),
        raft=RaftRow(),
        mysql=None if member.role is MemberRole.WITNESS else _mysql_row(evidence, name, member),
        in_sync_set=name in state.sync_set if state else None,
        vote=_vote(evidence, name),
        zone=member.zone,
        priority=member.priority,
    )
    if not isinstance(answer, MemberFacts):
        return row
    raft = answer.raft
    return msgspec.structs.replace(
        row,
        raft=RaftRow(raft.state, raft.term, raft.commit_index, raft.applied_index, raft.log_index),
        lease_seconds=answer.report.lease_seconds,
        note=answer.report.note or None,
        raftctl_version=answer.version,
        certificate_days_left=answer.certificate.days_left if answer.certificate else None,
        authority_days_left=answer.certificate.authority_days_left if answer.certificate else None,
    )


def _vote(evidence: Evidence, name: str) -> str | None:
    """By the newest word of anybody about Raft's configuration."""
    newest = max(evidence.facts.values(), key=_age_key, default=None)
    if newest is None or not newest.raft.voters:
        return None
    return "voter" if name in newest.raft.voters else "learner" if name in newest.raft.learners else "none"


def _usual_way(answer: MemberFacts | DirectAnswer) -> str:
    return "api" if isinstance(answer, MemberFacts) else "direct"


def _mysql_row(evidence: Evidence, name: str, member: Member) -> MySQLRow:
    mysql = evidence.mysql(name)
    row = MySQLRow(address=member.mysql or "")
    if mysql is None:
        known = name in evidence.facts
        return msgspec.structs.replace(row, state=MySQLState.UNKNOWN) if known else row
    row = msgspec.structs.replace(
        row,
        state=mysql.state,
        writable=False if mysql.state is MySQLState.DOWN else None,
        error=mysql.error or None,
        errant=str(mysql.errant),
        disk_waits_seconds=mysql.disk_waits_seconds,
        disk_full=mysql.disk_full,
        damage=mysql.damage,
        saved=mysql.saved,
    )
    seen = mysql.observation
    if seen is None:
        return row
    row = msgspec.structs.replace(  # true of a stopped mysqld too: the version and what is on its disk
        row,
        version=seen.version,
        gtid_executed=str(seen.gtid_executed),
        gtid_received=str(seen.gtid_received),
    )
    return row if mysql.state in _UNSEEN else _living_row(evidence, name, row, seen)


def _living_row(evidence: Evidence, name: str, row: MySQLRow, seen: MySQLObservation) -> MySQLRow:
    row = msgspec.structs.replace(row, connections=seen.connections, connections_max=seen.connections_max or None)
    primary = evidence.state.primary if evidence.state else ""
    if name == primary or (seen.writable and not primary):
        return msgspec.structs.replace(
            row,
            writable=seen.writable,
            semi_sync=seen.semi_sync.source_enabled and seen.semi_sync.source_status,
            acknowledging_replicas=seen.semi_sync.clients,
            waiting_commits=seen.semi_sync.wait_sessions,
        )
    channel, ahead = seen.channel, evidence.observation(primary)
    receiving = channel is not None and channel.receiver is ReceiverState.ON
    return msgspec.structs.replace(
        row,
        writable=seen.writable,
        semi_sync=seen.semi_sync.replica_status,
        replicating_from=_source_name(evidence, seen) if receiving else None,
        lag_seconds=channel.apply_lag_seconds if channel is not None and receiving else None,
        error=row.error or _channel_error(seen),
        gtid_gap=(ahead.gtid_executed - seen.gtid_executed).count() if ahead else None,
        receive_gap=(ahead.gtid_executed - seen.holds).count() if ahead else None,
    )


def _source_name(evidence: Evidence, seen: MySQLObservation) -> str | None:
    """The member that this mysqld replicates from, or its address when it is none of ours."""
    if seen.channel is None:
        return None
    address = f"{seen.channel.source_host}:{seen.channel.source_port}"
    for name, member in evidence.members.items():
        other = evidence.observation(name)
        if member.mysql == address or (other is not None and other.server_uuid == seen.channel.source_uuid):
            return name
    return address


def _channel_error(seen: MySQLObservation) -> str | None:
    channel = seen.channel
    if channel is None:
        return None
    if channel.applier_error:
        return f"applier: {channel.applier_error}"
    if not channel.applier_running:
        return "the applier is stopped"
    # "Error reconnecting to source 'u@h:p'. This was attempt 1/9, with a delay of ... Message: what went wrong"
    message = channel.receiver_error.rpartition(" Message: ")[2]
    return f"receiver: {message}" if message else None


# --- the whole --------------------------------------------------------------------------------------


def _errors(evidence: Evidence) -> dict[str, str]:
    """Why each member's controller did not answer."""
    errors = {}
    for name in evidence.members:
        answer = evidence.answers.get(name, NOT_ASKED)
        if not isinstance(answer, MemberFacts):
            errors[name] = answer.error if isinstance(answer, DirectAnswer) else answer
    return errors


def _heard(evidence: Evidence) -> frozenset[str]:
    """Members that the leader hears, or that hear the leader."""
    leader = evidence.facts.get(evidence.leader or "")
    followers = {name for name, facts in evidence.facts.items() if hears_leader(facts)}
    connected = leader.connected if leader is not None and evidence.quorum.ok else ()
    return frozenset(followers | {*connected, evidence.leader or ""})


def _durability(state: ClusterState | None) -> Durability:
    if state is None:
        return Durability()
    return Durability(
        mode=state.settings.durability,
        policy=state.settings.durability_policy,
        required_acks=state.required_acks,
        sync_set=state.sync_set,
    )


def _pause(state: ClusterState | None) -> PauseInfo | None:
    if state is None or state.paused is None:
        return None
    return PauseInfo(reason=state.paused.reason, by=state.paused.by, at_ms=state.paused.at_ms)


def failures_tolerated(state: ClusterState | None, rows: tuple[MemberRow, ...], quorum: Quorum) -> int:
    """How many more members, whichever they are, may be lost while writes go on, after a failover if need be.

    With h working replicas in S and f losses: if the primary is not among them, k of h - f must remain to acknowledge.
    If it is, |S| - k of the h - (f - 1) others must be there to be fenced (rule R3), and after the promotion of one of
    them k of the other h - f must acknowledge. `available` may lower k, but needs somebody to promote.
    """
    if state is None or not quorum.ok:
        return 0
    primary = next((row.mysql for row in rows if row.name == state.primary), None)
    if primary is None or not primary.writable:
        return 0
    k = state.required_acks
    working = sum(
        1
        for row in rows
        if row.in_sync_set and row.name != state.primary and row.mysql is not None and _works(row.mysql, k)
    )
    floor = 0 if state.settings.durability_policy == "available" else k
    fenceable = working if state.is_async else working + 1 - state.fence_quorum()
    return max(0, min(quorum.reachable - quorum.required, working - floor, fenceable))


def _works(replica: MySQLRow, required_acks: int) -> bool:
    replicating = replica.state == MySQLState.REPLICA and replica.replicating_from is not None
    return replicating and (required_acks == 0 or bool(replica.semi_sync))


def _at_risk(evidence: Evidence) -> AtRisk:
    state = evidence.state
    primary = evidence.observation(state.primary) if state else None
    if state is None or primary is None:
        return AtRisk()
    waiting = primary.semi_sync.wait_sessions
    in_force = primary.semi_sync.source_enabled and primary.semi_sync.source_status
    if state.required_acks and in_force:
        return AtRisk(transactions=0, waiting_commits=waiting)
    elsewhere = GTIDSet()
    for name in state.sync_set:
        other = evidence.observation(name)
        if name != state.primary and other is not None:
            elsewhere |= other.holds
    return AtRisk(transactions=(primary.gtid_executed - elsewhere).count(), waiting_commits=waiting)
