"""The shape of `raftctl status -o json` and of `GET /v1/status`: public and stable. Fields may be added, never renamed.

None always means "not known now" (nobody who would know answered) or "does not apply". Times are seconds, GTID sets
their canonical text.
"""

from __future__ import annotations

import enum

import msgspec


class Health(enum.StrEnum):
    """`ok`: nothing to do. `degraded`: writes are served, but redundancy is lost or somebody should look.
    `critical`: writes are not served, or not safely."""

    OK = "ok"
    DEGRADED = "degraded"
    CRITICAL = "critical"


class IssueCode(enum.StrEnum):
    MEMBER_UNREACHABLE = "member-unreachable"
    NO_QUORUM = "no-quorum"
    NO_LEADER_CONTACT = "no-leader-contact"
    NOT_A_MEMBER = "not-a-member"
    NOT_A_VOTER = "not-a-voter"
    LEAVING = "leaving"
    NOT_INITIALIZED = "not-initialized"
    CHANGE_UNDER_WAY = "change-under-way"
    NO_PRIMARY = "no-primary"
    PRIMARY_NOT_WRITABLE = "primary-not-writable"
    PRIMARY_UNREACHABLE = "primary-unreachable"
    TWO_WRITABLE = "two-writable"
    TWO_BRANCHES = "two-branches"
    ACKS_SHORT = "acks-short"
    SEMI_SYNC_OFF = "semi-sync-off"
    MYSQLD_DOWN = "mysqld-down"
    MYSQLD_UNRESPONSIVE = "mysqld-unresponsive"
    DISK_STALLED = "disk-stalled"
    DISK_FULL = "disk-full"
    CONNECTIONS_USED_UP = "connections-used-up"
    DATA_DAMAGED = "data-damaged"
    MYSQLD_UNKNOWN = "mysqld-unknown"
    FENCED = "fenced"
    JOINING = "joining"
    REBUILDING = "rebuilding"
    REPLICA_NOT_REPLICATING = "replica-not-replicating"
    REPLICA_LAGGING = "replica-lagging"
    NOT_IN_SYNC_SET = "not-in-sync-set"
    NOT_ACKNOWLEDGING = "not-acknowledging"
    ERRANT_TRANSACTIONS = "errant-transactions"
    HELD_BACK = "held-back"
    CERTIFICATE_EXPIRES = "certificate-expires"
    DURABILITY_LOWERED = "durability-lowered"
    PAUSED = "paused"

    @property
    def critical(self) -> bool:
        return self in _CRITICAL


_CRITICAL = frozenset(
    {
        IssueCode.NO_QUORUM,
        IssueCode.NOT_INITIALIZED,
        IssueCode.NO_PRIMARY,
        IssueCode.PRIMARY_NOT_WRITABLE,
        IssueCode.PRIMARY_UNREACHABLE,
        IssueCode.TWO_WRITABLE,
        IssueCode.TWO_BRANCHES,
        IssueCode.ACKS_SHORT,
        IssueCode.SEMI_SYNC_OFF,
    }
)


class Issue(msgspec.Struct, frozen=True):
    """`member` is None when the whole cluster is concerned."""

    code: IssueCode
    member: str | None
    text: str


class RaftRow(msgspec.Struct, frozen=True):
    state: str | None = None
    term: int | None = None
    commit_index: int | None = None
    applied_index: int | None = None
    log_index: int | None = None


class MySQLRow(msgspec.Struct, frozen=True):
    """`semi_sync`: in force here, on the primary as source, on a replica as one that acknowledges. `gtid_gap`: how many
    of the primary's transactions are not executed here; `receive_gap`: how many are not even received.
    `acknowledging_replicas` and `waiting_commits` are the primary's. `lag_seconds` is a replica's.
    `disk_waits_seconds`: for how long the disk of mysqld's files has been full, or has completed no write although one
    is due; `disk_full`: which directory has no space, "" for none.
    `damage`: what InnoDB said about damaged data, "" for nothing. `saved`: the latest file, on that host, of
    transactions that were removed there because the primary lacks them, "" without any. With as many `connections` as
    `connections_max` (max_connections) mysqld refuses clients."""

    address: str
    version: str | None = None
    state: str | None = None
    writable: bool | None = None
    gtid_executed: str | None = None
    gtid_received: str | None = None
    errant: str | None = None
    lag_seconds: float | None = None
    semi_sync: bool | None = None
    replicating_from: str | None = None
    error: str | None = None
    gtid_gap: int | None = None
    receive_gap: int | None = None
    acknowledging_replicas: int | None = None
    waiting_commits: int | None = None
    disk_waits_seconds: float | None = None
    disk_full: str | None = None
    damage: str | None = None
    saved: str | None = None
    connections: int | None = None
    connections_max: int | None = None


class MemberRow(msgspec.Struct, frozen=True):
    """`role` is the member's role in the cluster (data, witness, async), `address` its Raft address. `via` says how it
    was reached and is None when it was not. `note` is what its controller is doing, `lease_seconds` how long the
    primary may still stay writable without hearing from the leader. `vote` is voter, learner or none in Raft."""

    name: str
    role: str
    address: str
    api: str
    via: str | None
    raft: RaftRow
    mysql: MySQLRow | None
    in_sync_set: bool | None = None
    lease_seconds: float | None = None
    note: str | None = None
    raftctl_version: str | None = None
    vote: str | None = None
    zone: str = ""
    priority: int = 0
    certificate_days_left: float | None = None  # until its controller's certificate expires
    authority_days_left: float | None = None  # until the authority that its controller trusts does


class Quorum(msgspec.Struct, frozen=True):
    """`voters` and `reachable` are counts. `ok`: a leader has recent contact with a majority."""

    voters: int
    required: int
    reachable: int
    ok: bool


class Durability(msgspec.Struct, frozen=True):
    mode: str | None = None
    policy: str | None = None
    required_acks: int | None = None
    sync_set: tuple[str, ...] | None = None


class PauseInfo(msgspec.Struct, frozen=True):
    reason: str
    by: str
    at_ms: int


class AtRisk(msgspec.Struct, frozen=True):
    """`transactions`: acknowledged to clients, yet on no other member of the sync set as far as is known.
    `waiting_commits`: sessions whose commit waits for an acknowledgement; they were told nothing yet."""

    transactions: int | None = None
    waiting_commits: int | None = None


class ClusterStatus(msgspec.Struct, frozen=True):
    """`failures_tolerated`: how many more members, whichever, may be lost before writes stop for good."""

    cluster: str
    engine: str | None
    incarnation: int | None
    epoch: int | None
    term: int | None
    leader: str | None
    primary: str | None
    paused: bool | None
    phase: str | None
    quorum: Quorum
    durability: Durability
    health: Health
    issues: tuple[Issue, ...]
    members: tuple[MemberRow, ...]
    pause: PauseInfo | None = None
    failures_tolerated: int = 0
    at_risk: AtRisk = AtRisk()
