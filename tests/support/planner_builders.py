"""Builders of cluster states, observations, reports and views. Keyword only; the defaults are a healthy cluster of
db1 (primary), db2 and db3 with k = 1 in epoch 1, everybody at A:1-100."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster.apply import Outcome, apply
from raftctl.cluster.facts import MemberReport, MySQLFacts, MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import Channel, MySQLObservation, ReceiverState, SemiSync
from raftctl.cluster.state import ClusterState, Engine, Member, MemberRole, Phase, Settings
from raftctl.planner.local import LocalContext
from raftctl.planner.view import ClusterView, Seen

UUIDS = {letter: f"{letter * 8}-0000-0000-0000-000000000000".lower() for letter in "ABCDEF"}
HEALTHY = "A:1-100"


def gtids(text: str) -> GTIDSet:
    """`A:1-100,B:7` with a letter for a server's UUID."""
    for letter, uuid in UUIDS.items():
        text = text.replace(f"{letter}:", f"{uuid}:")
    return GTIDSet.parse(text)


def a_member(name: str, *, role: MemberRole = MemberRole.DATA, priority: int = 0) -> Member:
    mysql = None if role is MemberRole.WITNESS else f"{name}:3306"
    return Member(name=name, role=role, raft=f"{name}:8007", api=f"{name}:8008", mysql=mysql, priority=priority)


def a_state(*, data: int = 3, members: Collection[Member] = (), **changes: Any) -> ClusterState:
    """`changes` replace fields of the healthy, steady state."""
    members = members or [a_member(f"db{i + 1}") for i in range(data)]
    names = tuple(sorted(m.name for m in members if m.role is MemberRole.DATA))
    healthy = ClusterState(
        cluster="test",
        engine=Engine.SEMI_SYNC,
        version=10,
        phase=Phase.STEADY,
        epoch=1,
        primary="db1",
        floor=gtids("A:1-50"),
        sync_set=names,
        required_acks=len(names) // 2,
        members={m.name: m for m in members},
    )
    acks = changes.get("required_acks", healthy.required_acks)
    return msgspec.structs.replace(healthy, **({"source_acks": acks} | changes))


def a_change(phase: Phase, **changes: Any) -> ClusterState:
    """A change of primary from db1 under way, in epoch 2."""
    return a_state(**({"phase": phase, "epoch": 2, "primary": "", "previous_primary": "db1"} | changes))


def an_init(*, data: int = 3, acks: int = 1, **changes: Any) -> c.InitCluster:
    members = tuple(a_member(f"db{i + 1}") for i in range(data))
    init = c.InitCluster(
        cluster="test",
        engine=Engine.SEMI_SYNC,
        members=members,
        settings=Settings(),
        primary="db1",
        floor=gtids("A:1-50"),
        sync_set=tuple(m.name for m in members),
        required_acks=acks,
    )
    return msgspec.structs.replace(init, **changes)


def a_promote(state: ClusterState, **changes: Any) -> c.Promote:
    """The promotion of db2 that two fenced replicas justify."""
    promote = c.Promote(
        based_on=state.version,
        target="db2",
        certificate=gtids(HEALTHY),
        sync_set=("db2", "db3"),
        required_acks=state.required_acks,
        locked=("db1",),
        proof=c.Proof.REPLICAS_FENCED,
        reporters=("db2", "db3"),
    )
    return msgspec.structs.replace(promote, **changes)


def applied(state: ClusterState, *commands: c.AnyCommand) -> ClusterState:
    """The state after commands that must all be applied."""
    for command in commands:
        state, outcome = apply(state, command, len(state.history) + 1)
        assert outcome == Outcome(), (command, outcome)
    return state


# --- one mysqld -------------------------------------------------------------------------------------


def a_channel(*, source: str = "db1", receiver: str = "ON", **changes: Any) -> Channel:
    channel = Channel(
        source_host=source,
        source_port=3306,
        source_user="",
        source_uuid=UUIDS["A"],
        receiver=ReceiverState(receiver),
        applier_running=True,
        apply_lag_seconds=0.0,
    )
    return msgspec.structs.replace(channel, **changes)


def a_purged_channel() -> Channel:
    """Its source does not have any more what it needs: MySQL's own words."""
    said = (
        "Got fatal error 1236 from source when reading data from binary log: 'Cannot replicate because the source "
        "purged required binary logs. Replicate the missing transactions from elsewhere, or provision a new replica.'"
    )
    return a_channel(receiver="OFF", receiver_error_code=13114, receiver_error=said)


def a_semi_sync(**changes: Any) -> SemiSync:
    replica = SemiSync(
        source_enabled=False,
        source_status=False,
        required_acks=0,
        wait_sessions=0,
        clients=0,
        replica_enabled=True,
        replica_status=True,
    )
    return msgspec.structs.replace(replica, **changes)


def a_replica(*, executed: str = HEALTHY, received: str = "", owned: str = "", **changes: Any) -> MySQLObservation:
    """Read-only, replicating from db1, acknowledging."""
    replica = MySQLObservation(
        server_uuid=UUIDS["B"],
        server_id=2,
        version="8.4.6",
        uptime_seconds=60,
        read_only=True,
        super_read_only=True,
        offline_mode=False,
        gtid_owned=gtids(owned),
        gtid_executed=gtids(executed),
        gtid_purged=GTIDSet(),
        gtid_received=gtids(received),
        channel=a_channel(),
        semi_sync=a_semi_sync(),
    )
    semi_sync = changes.get("semi_sync", replica.semi_sync)
    return msgspec.structs.replace(replica, **({"relay_log_synced": semi_sync.replica_enabled} | changes))


def a_source(*, acks: int = 1, waiting: int = 0, clients: int = 2, **changes: Any) -> MySQLObservation:
    """Writable, waiting for acknowledgements, with all replicas connected."""
    semi_sync = a_semi_sync(
        source_enabled=acks > 0,
        source_status=acks > 0,
        required_acks=acks,
        wait_sessions=waiting,
        clients=clients,
        replica_enabled=False,
        replica_status=False,
    )
    source: dict[str, Any] = {"channel": None, "semi_sync": semi_sync, "read_only": False, "super_read_only": False}
    return a_replica(**(source | changes))


def a_context(**changes: Any) -> LocalContext:
    """Confirmed, with a lease, nobody locked."""
    return msgspec.structs.replace(LocalContext(confirmed=True, lease_valid=True, locked=(), source_acks=1), **changes)


# --- reports and views ------------------------------------------------------------------------------


def a_report(
    member: str,
    *,
    state: ClusterState,
    seen: MySQLObservation | None = None,
    mysql: MySQLState | None = None,
    errant: str = "",
    fenced: bool = False,
    **changes: Any,
) -> MemberReport:
    """What the controller of `member` says, acting on `state`. `fenced`: for its epoch, holding what is seen."""
    is_primary = state.primary == member
    seen = seen or (a_source(acks=state.source_acks) if is_primary else a_replica())
    word = mysql or (MySQLState.PRIMARY if is_primary else MySQLState.REPLICA)
    report = MemberReport(
        member=member,
        seq=1,
        version=state.version,
        epoch=state.epoch,
        fenced_epoch=state.epoch if fenced else 0,
        holds=seen.holds,
        locked=state.locked if is_primary else (),
        source_acks=state.source_acks if is_primary else None,
        mysql=MySQLFacts(word, seen, errant=gtids(errant)),
    )
    return msgspec.structs.replace(report, **changes)


def a_view(
    state: ClusterState,
    *,
    reports: Collection[MemberReport] = (),
    missing: Collection[str] = (),
    ages: Mapping[str, float] | None = None,
    receiving_ages: Mapping[str, float] | None = None,
    hung_up: Mapping[str, float] | None = None,
    listening: float = 3600.0,
    version_seconds: float = 3600.0,
) -> ClusterView:
    """Everybody healthy and just heard, except for `reports` of one's own, the `missing` and those with `ages`."""
    told = {m: a_report(m, state=state) for m in state.data_members} | {r.member: r for r in reports}
    return ClusterView(
        members={
            m: Seen(
                report=report,
                age=(ages or {}).get(m, 0.1),
                receiving_age=(receiving_ages or {}).get(m, 0.1),
                hung_up_seconds=(hung_up or {}).get(m),
            )
            for m, report in told.items()
            if m not in missing
        },
        listening_seconds=listening,
        version_seconds=version_seconds,
    )
