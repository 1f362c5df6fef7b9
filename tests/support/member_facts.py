"""Builders of what the members of a cluster say: a healthy cluster, and the same with one thing changed.

answers = healthy()                                  # db1 is primary, db2 leads, db3 follows; k = 1
answers["db3"] = without_mysqld(answers["db3"])      # db3's mysqld died
"""

from __future__ import annotations

from typing import Any

import msgspec

from raftctl.cluster.facts import MemberFacts, MemberReport, MySQLFacts, MySQLState, RaftFacts
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import Channel, MySQLObservation, ReceiverState, SemiSync
from raftctl.cluster.state import ClusterState, Member, MemberRole, Phase, Settings

replace = msgspec.structs.replace

UUIDS = {
    name: f"{number}" * 8 + "-0000-0000-0000-000000000000"
    for number, name in enumerate(("db1", "db2", "db3", "db4", "db5"), 1)
}


def gtids(last: int, *, server: str = "db1") -> GTIDSet:
    """Transactions 1 to `last` of a member's mysqld; 0 is the empty set."""
    return GTIDSet.parse(f"{UUIDS[server]}:1-{last}" if last else "")


def member(name: str, *, role: MemberRole = MemberRole.DATA, api: str = "") -> Member:
    number = int(name.lstrip("dbwa")) + (100 if role is MemberRole.WITNESS else 0)
    host = f"192.0.2.{number}"
    mysql = None if role is MemberRole.WITNESS else f"{host}:3306"
    return Member(name=name, role=role, raft=f"{host}:8007", api=api or f"{host}:8008", mysql=mysql)


def cluster_state(
    *,
    data: tuple[str, ...] = ("db1", "db2", "db3"),
    witnesses: tuple[str, ...] = (),
    primary: str = "db1",
    required_acks: int = 1,
    policy: str = "strict",
    **changes: Any,
) -> ClusterState:
    members = {name: member(name) for name in data}
    members |= {name: member(name, role=MemberRole.WITNESS) for name in witnesses}
    state = ClusterState(
        cluster="orders",
        version=7,
        phase=Phase.STEADY,
        epoch=4,
        primary=primary,
        sync_set=data,
        required_acks=required_acks,
        source_acks=required_acks,
        members=members,
        settings=Settings(durability=_durability(required_acks, len(data)), durability_policy=policy),
    )
    return replace(state, **changes)


def _durability(acks: int, members: int) -> str:
    return "majority" if acks == members // 2 else str(acks or "async")


def primary_mysqld(
    *, name: str = "db1", executed: int = 100, required_acks: int = 1, clients: int = 2, waiting: int = 0
) -> MySQLFacts:
    semi_sync = SemiSync(
        source_enabled=required_acks > 0,
        source_status=required_acks > 0,
        required_acks=required_acks,
        wait_sessions=waiting,
        clients=clients,
        replica_enabled=False,
        replica_status=False,
    )
    seen = _observation(
        name, executed=gtids(executed), received=GTIDSet(), channel=None, semi_sync=semi_sync, writable=True
    )
    return MySQLFacts(state=MySQLState.PRIMARY, observation=seen)


def replica_mysqld(
    *,
    name: str,
    source: str = "db1",
    executed: int = 100,
    received: int | None = None,
    lag: float | None = 0.0,
    receiver: ReceiverState = ReceiverState.ON,
    receiver_error: str = "",
    applier_running: bool = True,
    applier_error: str = "",
    acknowledges: bool = True,
    writable: bool = False,
) -> MySQLFacts:
    host, port = (member(source).mysql or "").rsplit(":", 1)
    channel = Channel(
        source_host=host,
        source_port=int(port),
        source_user=f"raftctl_repl_{name}",
        source_uuid=UUIDS[source],
        receiver=receiver,
        receiver_error_code=2003 if receiver_error else 0,
        receiver_error=receiver_error,
        applier_running=applier_running and not applier_error,
        applier_error_code=1062 if applier_error else 0,
        applier_error=applier_error,
        apply_lag_seconds=lag,
    )
    semi_sync = SemiSync(
        source_enabled=False,
        source_status=False,
        required_acks=1,
        wait_sessions=0,
        clients=0,
        replica_enabled=acknowledges,
        replica_status=acknowledges,
    )
    holds = gtids(executed if received is None else received)
    seen = _observation(
        name, executed=gtids(executed), received=holds, channel=channel, semi_sync=semi_sync, writable=writable
    )
    return MySQLFacts(state=MySQLState.REPLICA, observation=seen)


def _observation(
    name: str, *, executed: GTIDSet, received: GTIDSet, channel: Channel | None, semi_sync: SemiSync, writable: bool
) -> MySQLObservation:
    return MySQLObservation(
        server_uuid=UUIDS[name],
        server_id=int(name[2:]),
        version="9.7.4",
        uptime_seconds=3600,
        read_only=not writable,
        super_read_only=not writable,
        offline_mode=False,
        gtid_owned=GTIDSet(),
        gtid_executed=executed,
        gtid_purged=GTIDSet(),
        gtid_received=received,
        channel=channel,
        semi_sync=semi_sync,
    )


def healthy(*, state: ClusterState | None = None, leader: str = "db2", term: int = 5) -> dict[str, MemberFacts]:
    """What every member of a healthy cluster says."""
    state = state or cluster_state()
    replicas = len(state.data_members) - 1
    found = {}
    for name, described in state.members.items():
        mysql = None
        if described.role is MemberRole.DATA and name == state.primary:
            mysql = primary_mysqld(name=name, required_acks=state.required_acks, clients=replicas)
        elif described.role is MemberRole.DATA:
            mysql = replica_mysqld(name=name, source=state.primary or "db1", acknowledges=state.required_acks > 0)
        found[name] = facts(name=name, state=state, leader=leader, term=term, mysql=mysql)
    return found


def facts(
    *, name: str, state: ClusterState, leader: str, term: int = 5, mysql: MySQLFacts | None = None
) -> MemberFacts:
    leads = name == leader
    return MemberFacts(
        node=name,
        version="0.1.0",
        raft=RaftFacts(
            state="leader" if leads else "follower",
            term=term,
            leader=leader,
            commit_index=42,
            applied_index=42,
            log_index=43 if leads else 42,
        ),
        report=MemberReport(
            member=name,
            seq=9,
            version=state.version,
            epoch=state.epoch,
            lease_seconds=3.8 if name == state.primary else None,
            mysql=mysql,
        ),
        state=state,
        connected=tuple(sorted(set(state.members) - {name})) if leads else (leader,),
        quorum_contact_seconds=0.05 if leads else None,
    )


def with_mysql(answer: MemberFacts, mysql: MySQLFacts | None, **report: Any) -> MemberFacts:
    return replace(answer, report=replace(answer.report, mysql=mysql, **report))


def with_mysql_state(answer: MemberFacts, state: MySQLState, *, error: str = "") -> MemberFacts:
    """The member's mysqld is in another state; what was seen of it last stays."""
    assert answer.report.mysql is not None
    return with_mysql(answer, replace(answer.report.mysql, state=state, error=error))


def cut_off(answers: dict[str, MemberFacts], name: str) -> dict[str, MemberFacts]:
    """The others have lost contact with `name`; it answers us all the same."""
    alone = replace(answers[name], connected=())
    if alone.raft.state == "follower":
        alone = replace(alone, raft=replace(alone.raft, state="pre-candidate", leader=""))
    others = {
        other: replace(answer, connected=tuple(peer for peer in answer.connected if peer != name))
        for other, answer in answers.items()
    }
    return {**others, name: alone}


def leaderless(answers: dict[str, MemberFacts]) -> dict[str, MemberFacts]:
    """An election is under way: nobody leads, nobody hears a leader."""
    return {
        name: replace(
            answer,
            raft=replace(answer.raft, state="candidate", leader=""),
            connected=(),
            quorum_contact_seconds=None,
        )
        for name, answer in answers.items()
    }


def with_state(answers: dict[str, MemberFacts], **changes: Any) -> dict[str, MemberFacts]:
    """All have applied a state with these changes."""
    return {name: replace(answer, state=replace(answer.state, **changes)) for name, answer in answers.items()}
