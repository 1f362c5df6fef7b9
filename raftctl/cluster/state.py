"""The cluster state: what the replicated log has decided so far. Plain data; `apply` is the only way to change it.

Words: the *sync set* S are the data members whose acknowledgement counts (the primary included), *required acks* k
is the number of members of S besides the primary that are proven to hold whatever was acknowledged, an *epoch* is the
reign of one primary, the *floor* is the GTID set that the primary of this epoch had when it was promoted.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from raftctl.cluster.gtid import GTIDSet


class MemberRole(enum.StrEnum):
    """`data` runs MySQL and may become primary; `async` runs MySQL, never acknowledges and is never promoted;
    `witness` votes and stores the log, and runs no MySQL."""

    DATA = "data"
    WITNESS = "witness"
    ASYNC = "async"


class Engine(enum.StrEnum):
    SEMI_SYNC = "semi-sync"
    GROUP = "group"


class Phase(enum.StrEnum):
    """Where the change of primary stands.

    UNINITIALIZED --InitCluster--> PROMOTING
    STEADY --BeginSwitchover--> SWITCHOVER --Promote or AbortSwitchover--> PROMOTING
    STEADY, SWITCHOVER, PROMOTING --BeginFailover--> FAILOVER --Promote--> PROMOTING
    PROMOTING --CompletePromotion--> STEADY
    """

    UNINITIALIZED = "uninitialized"
    STEADY = "steady"
    SWITCHOVER = "switchover"  # the previous primary stops accepting writes and reports its final GTID set
    FAILOVER = "failover"  # replicas stop receiving from the previous primary and report what they hold
    PROMOTING = "promoting"  # the chosen primary applies what it received and becomes writable


class Member(msgspec.Struct, frozen=True):
    """One host. Addresses are `host:port`; `mysql` is None for a witness. `uid` is random, and tells a host that was
    added to a running cluster from an earlier one of the same name; "" for those that bootstrap began with."""

    name: str
    role: MemberRole
    raft: str
    api: str
    mysql: str | None = None
    zone: str = ""
    priority: int = 0
    uid: str = ""


class Settings(msgspec.Struct, frozen=True):
    """Policy that the planner follows. Times are seconds."""

    durability: str = "majority"  # majority | all | async | a number of replica acknowledgements
    durability_policy: str = "strict"  # strict | available
    failover_automatic: bool = True
    failover_cooldown: float = 60.0
    election_timeout: float = 1.0
    heartbeat_interval: float = 0.1

    @property
    def lease_ttl(self) -> float:
        """How long a primary may stay writable after it last heard from a leader with a quorum (rule R7).

        Long enough that the loss of the leader's host, which costs one election, does not stop a healthy primary.
        """
        return 4 * self.election_timeout

    @property
    def silence_deadline(self) -> float:
        """After how many seconds without a report the leader takes a member's host for lost."""
        return 2 * self.election_timeout


class Pause(msgspec.Struct, frozen=True):
    reason: str
    by: str
    at_ms: int


class HistoryEntry(msgspec.Struct, frozen=True):
    """One line of `raftctl history`. `at_ms` is wall-clock time (Unix milliseconds) of the proposer: for people only,
    no decision reads it. `before` and `after` name the primary where it changed."""

    index: int
    at_ms: int
    kind: str
    epoch: int
    by: str
    member: str = ""
    why: str = ""
    before: str = ""
    after: str = ""
    detail: dict[str, Any] = {}


HISTORY_LIMIT = 1000


class ClusterState(msgspec.Struct, frozen=True):
    """Everything the log decided. `version` counts decisions: a command names the version it was decided on and is
    rejected when another decision came between."""

    cluster: str = ""
    engine: Engine = Engine.SEMI_SYNC
    incarnation: int = 1
    branch: str = ""  # of the incarnation: two people may have forced memberships of one number
    version: int = 0
    phase: Phase = Phase.UNINITIALIZED
    epoch: int = 0
    primary: str = ""  # "" while a change of primary is under way
    failover_cause: str = ""  # Cause of the last failover, for the cooldown
    previous_primary: str = ""  # the primary of the epoch before; in SWITCHOVER and FAILOVER the one to be fenced
    target: str = ""  # SWITCHOVER: who is meant to take over ("" when the planner may choose)
    floor: GTIDSet = GTIDSet()
    sync_set: tuple[str, ...] = ()
    held: dict[str, GTIDSet] = {}  # what members of S held when they joined it or were promoted, where that is known
    required_acks: int = 0
    source_acks: int = 0  # what the primary is told to wait for: k, or more while k is about to grow (rule R6)
    locked: tuple[str, ...] = ()  # members whose replication account the primary keeps locked (rule R6)
    members: dict[str, Member] = {}
    roster: int = 0  # how often a member came or went
    joining: tuple[str, ...] = ()  # members that were added and do not do their duty yet
    leaving: str = ""  # the member that is on its way out
    retiring: tuple[str, ...] = ()  # data members that get the role async once they have left S
    rebuilds: dict[str, str] = {}  # members whose data is to be replaced, with the server UUID that goes with it
    settings: Settings = Settings()
    settings_number: int = 0  # how often they were changed
    settings_before: Settings | None = None  # what an undo returns to
    paused: Pause | None = None
    history: tuple[HistoryEntry, ...] = ()

    @property
    def accounts(self) -> int:
        """Which replication accounts there have to be: another number when a member came or went, and when a forced
        membership may have taken such decisions back, after some servers had acted on them."""
        return self.roster + self.incarnation - 1

    @property
    def data_members(self) -> tuple[str, ...]:
        """Names of the members that may acknowledge and be promoted, sorted."""
        return tuple(sorted(m.name for m in self.members.values() if m.role is MemberRole.DATA))

    @property
    def lasting_data_members(self) -> tuple[str, ...]:
        """The data members that durability is measured by: not those that have nothing yet, nor those that go."""
        return tuple(m for m in self.data_members if m not in (*self.joining, *self.retiring, self.leaving))

    def is_short_of_replicas(self) -> bool:
        """Whether S has too few replicas for any commit to be acknowledged: a promotion may leave it so."""
        return len(self.sync_set) - 1 < self.required_acks

    @property
    def is_async(self) -> bool:
        """Whether acknowledged writes may be lost by configuration. A k of 0 alone does not mean that: with `available`
        it says that only the primary is known to hold everything."""
        return self.settings.durability == "async" and self.required_acks == 0

    def fence_quorum(self) -> int:
        """How many members of S besides the previous primary must be fenced before a choice (rule R3): |S| - k."""
        return len(self.sync_set) - self.required_acks
