"""What is wrong with a cluster, as a list of issues with stable codes. Pure; used by `raftctl.cluster.status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from raftctl.cluster.durability import wanted_acks
from raftctl.cluster.facts import STALLED_SECONDS, MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import ClusterState, MemberRole, Phase
from raftctl.cluster.status_model import Issue, IssueCode, MemberRow, MySQLRow, Quorum

LAG_WARNING_SECONDS = 10.0
CERTIFICATE_WARNING_DAYS = 90.0
NOT_ASKED = "it was not asked"  # instead of a controller's error

_BY_STATE = {
    MySQLState.DOWN: (IssueCode.MYSQLD_DOWN, "mysqld is not running"),
    MySQLState.UNRESPONSIVE: (IssueCode.MYSQLD_UNRESPONSIVE, "mysqld does not answer in time"),
    MySQLState.UNKNOWN: (IssueCode.MYSQLD_UNKNOWN, "mysqld was not observed yet"),
    MySQLState.FENCED: (IssueCode.FENCED, "mysqld is fenced: it serves nobody"),
    MySQLState.JOINING: (IssueCode.JOINING, "mysqld is joining the cluster"),
    MySQLState.REBUILDING: (IssueCode.REBUILDING, "the data is being replaced by a clone"),
}


def find_issues(
    state: ClusterState | None,
    rows: tuple[MemberRow, ...],
    quorum: Quorum,
    errors: Mapping[str, str],
    heard: frozenset[str],
) -> tuple[Issue, ...]:
    """Everything that is wrong, the critical first, then in the order cluster, members by name.

    `errors` says for members whose controller did not answer why; `heard` are the members in contact with the leader.
    """
    found = [
        *_quorum_issues(rows, quorum, errors, heard),
        *_writable_issues(rows),
        *_authority_issue(rows),
        *(_cluster_issues(state, rows, heard) if state else ()),
        *(issue for row in rows for issue in _member_issues(state, row)),
    ]
    return tuple(sorted(found, key=lambda issue: not issue.code.critical))


def _quorum_issues(
    rows: tuple[MemberRow, ...], quorum: Quorum, errors: Mapping[str, str], heard: frozenset[str]
) -> Iterator[Issue]:
    if not quorum.ok:
        what = f"{quorum.reachable} of {quorum.voters} voters answer, {quorum.required} are required"
        if rows and all(errors.get(row.name, "").startswith(NOT_ASKED) for row in rows):
            what = "not known: no controller was asked"
        if quorum.reachable >= quorum.required:
            what = f"{quorum.reachable} of {quorum.voters} voters answer, but no leader has contact with a majority"
        yield Issue(IssueCode.NO_QUORUM, None, what)
    for row in rows:
        if row.name in errors:
            also = "; the leader hears it" if row.name in heard else ""
            yield Issue(IssueCode.MEMBER_UNREACHABLE, row.name, f"controller: {errors[row.name]}{also}")
        elif quorum.ok and row.name not in heard:
            yield Issue(IssueCode.NO_LEADER_CONTACT, row.name, "the controller has no contact with the leader")


def _writable_issues(rows: tuple[MemberRow, ...]) -> Iterator[Issue]:
    writable = [row.name for row in rows if row.mysql is not None and row.mysql.writable]
    if len(writable) > 1:
        yield Issue(IssueCode.TWO_WRITABLE, None, f"several mysqlds are writable: {', '.join(writable)}")


def _authority_issue(rows: tuple[MemberRow, ...]) -> Iterator[Issue]:
    """One line for all members: they trust the same one, or will once a rotation has come to its end."""
    left = min((row.authority_days_left for row in rows if row.authority_days_left is not None), default=None)
    if left is not None and left < CERTIFICATE_WARNING_DAYS:
        text = f"the certificate authority expires in {left:.0f} days: `raftctl rotate certificates --authority`"
        yield Issue(IssueCode.CERTIFICATE_EXPIRES, None, text)


def _cluster_issues(state: ClusterState, rows: tuple[MemberRow, ...], heard: frozenset[str]) -> Iterator[Issue]:
    if state.phase is Phase.UNINITIALIZED:
        yield Issue(IssueCode.NOT_INITIALIZED, None, "the cluster is not initialised: run `raftctl bootstrap`")
    elif not state.primary:
        yield Issue(IssueCode.NO_PRIMARY, None, f"no primary: {state.phase} to epoch {state.epoch} is under way")
    else:
        if state.phase is not Phase.STEADY:
            text = f"{state.phase} to epoch {state.epoch} is under way"
            yield Issue(IssueCode.CHANGE_UNDER_WAY, state.primary, text)
        yield from _primary_issues(state, rows, heard)
    yield from _durability_issue(state)
    if state.paused is not None:
        text = f"automatic failover is paused by {state.paused.by}: {state.paused.reason or 'no reason given'}"
        yield Issue(IssueCode.PAUSED, None, text)


def _durability_issue(state: ClusterState) -> Iterator[Issue]:
    """`available` has lowered k."""
    wanted = wanted_acks(state, state.data_members)
    if state.phase is Phase.UNINITIALIZED or state.required_acks >= wanted:
        return
    text = f"durability is lowered: {state.required_acks} of {wanted} replicas hold every acknowledged write"
    if state.required_acks == 0 and state.primary:
        text += f"; if {state.primary} is lost, nobody takes over by itself, and without its data writes are lost"
    yield Issue(IssueCode.DURABILITY_LOWERED, None, text)


def _primary_issues(state: ClusterState, rows: tuple[MemberRow, ...], heard: frozenset[str]) -> Iterator[Issue]:
    mysql = next((row.mysql for row in rows if row.name == state.primary), None)
    if mysql is None or mysql.state is None:
        if state.primary not in heard:
            yield Issue(IssueCode.PRIMARY_UNREACHABLE, state.primary, "nobody hears the primary")
        return
    if not mysql.writable:
        yield Issue(IssueCode.PRIMARY_NOT_WRITABLE, state.primary, f"the primary is {mysql.state}, not writable")
        return
    if state.source_acks == 0:
        return
    if not mysql.semi_sync:
        text = "semi-sync is not in force: writes are acknowledged before a replica has them"
        yield Issue(IssueCode.SEMI_SYNC_OFF, state.primary, text)
    elif (mysql.acknowledging_replicas or 0) < state.source_acks:
        text = (
            f"writes wait: {state.source_acks} acknowledgements are required, "
            f"{mysql.acknowledging_replicas} replicas are there to give one; {mysql.waiting_commits} commits wait"
        )
        yield Issue(IssueCode.ACKS_SHORT, state.primary, text)


def _member_issues(state: ClusterState | None, row: MemberRow) -> Iterator[Issue]:
    if state and state.members and row.name not in state.members:
        yield Issue(IssueCode.NOT_A_MEMBER, row.name, "it is in the inventory, but not in the cluster")
        return
    if row.vote not in (None, "voter"):
        yield Issue(IssueCode.NOT_A_VOTER, row.name, "it does not vote yet: it has to catch up with the log first")
    if state and state.leaving == row.name:
        yield Issue(IssueCode.LEAVING, row.name, "it is being removed")
    if row.certificate_days_left is not None and row.certificate_days_left < CERTIFICATE_WARNING_DAYS:
        left = row.certificate_days_left
        text = f"its certificate expires in {left:.0f} days: `raftctl rotate certificates`"
        if left <= 0:
            text = "its certificate has expired: `raftctl bootstrap` writes new ones"
        yield Issue(IssueCode.CERTIFICATE_EXPIRES, row.name, text)
    mysql = row.mysql
    if mysql is None or mysql.state is None:
        if state and _should_be_in_sync_set(state, row):
            yield _not_in_sync_set(row)
        return
    if mysql.state in _BY_STATE:
        code, text = _BY_STATE[MySQLState(mysql.state)]
        why = row.note or mysql.error  # the controller's word includes what it heard from MySQL
        yield Issue(code, row.name, f"{text}: {why}" if why else text)
    if mysql.disk_full:
        yield Issue(IssueCode.DISK_FULL, row.name, f"no space is left for {mysql.disk_full}: mysqld waits for some")
    elif (waits := mysql.disk_waits_seconds or 0.0) >= STALLED_SECONDS:
        text = f"the disk of mysqld's files has completed no write for {waits:.0f} s"
        yield Issue(IssueCode.DISK_STALLED, row.name, text)
    if mysql.connections_max and (mysql.connections or 0) >= mysql.connections_max:
        text = f"{mysql.connections} connections, max_connections is {mysql.connections_max}: mysqld refuses clients"
        yield Issue(IssueCode.CONNECTIONS_USED_UP, row.name, text)
    if mysql.damage:
        yield Issue(IssueCode.DATA_DAMAGED, row.name, f"InnoDB reports damaged data: {mysql.damage}")
    if mysql.errant:
        count = GTIDSet.parse(mysql.errant).count()
        yield Issue(
            IssueCode.ERRANT_TRANSACTIONS, row.name, f"{count} transactions that the primary lacks: {mysql.errant}"
        )
    if mysql.state == MySQLState.REPLICA and state and row.name != state.primary:
        yield from _replica_issues(state, row, mysql)
    if state and _should_be_in_sync_set(state, row):
        yield _not_in_sync_set(row)


def _replica_issues(state: ClusterState, row: MemberRow, mysql: MySQLRow) -> Iterator[Issue]:
    if mysql.replicating_from is None or mysql.error:
        text = f"replication does not work: {mysql.error}" if mysql.error else "replication is not connected"
        yield Issue(IssueCode.REPLICA_NOT_REPLICATING, row.name, text)
    elif state.primary and mysql.replicating_from != state.primary:
        text = f"replicates from {mysql.replicating_from} instead of {state.primary}"
        yield Issue(IssueCode.REPLICA_NOT_REPLICATING, row.name, text)
    elif row.in_sync_set and state.required_acks and not mysql.semi_sync:
        yield Issue(IssueCode.NOT_ACKNOWLEDGING, row.name, "in the sync set, but acknowledges nothing")
    if mysql.lag_seconds is not None and mysql.lag_seconds > LAG_WARNING_SECONDS:
        text = f"{mysql.lag_seconds:.0f} s behind what it received"
        yield Issue(IssueCode.REPLICA_LAGGING, row.name, text)


def _should_be_in_sync_set(state: ClusterState, row: MemberRow) -> bool:
    settled = state.phase is not Phase.UNINITIALIZED
    return settled and row.role == MemberRole.DATA and not row.in_sync_set


def _not_in_sync_set(row: MemberRow) -> Issue:
    return Issue(IssueCode.NOT_IN_SYNC_SET, row.name, "not in the sync set: it can neither acknowledge nor be promoted")
