"""The commands of the replicated log. Every decision about the cluster is one of these; `apply` gives them meaning.

A command that is a *decision* carries `based_on`: the state version that its proposer saw. It is rejected when
another decision was committed in between, so a plan is only ever carried out on the state it was made for.
"""

from __future__ import annotations

import enum

import msgspec

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import Engine, Member, MemberRole, Settings


class Cause(enum.StrEnum):
    """Why a failover began."""

    MYSQLD_DEAD = "mysqld-dead"  # its own controller says so
    MYSQLD_UNRESPONSIVE = "mysqld-unresponsive"
    HOST_SILENT = "host-silent"  # the leader heard nothing from its controller for the silence deadline
    REQUESTED = "requested"  # by a person
    PROMOTION_STUCK = "promotion-stuck"  # the target does not get done applying, another member has


class Proof(enum.StrEnum):
    """Why the promotion target is known to hold every acknowledged write (rule R3)."""

    REPLICAS_FENCED = "replicas-fenced"  # |S| - k members of S stopped receiving from the previous primary
    PRIMARY_FENCED = "primary-fenced"  # the previous primary is read-only with nothing in flight, and said what it has
    ASYNC_MAJORITY = "async-majority"  # k = 0: no proof; most advanced of a reachable majority, the lease waited out


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="command"):
    """`at_ms`: proposer's wall clock, for people; `by`: who asked ("raftctl" for automatic decisions)."""

    at_ms: int = 0
    by: str = "raftctl"


class Decision(Command, frozen=True, kw_only=True):
    based_on: int


class InitCluster(Command, frozen=True, kw_only=True, tag="init-cluster"):
    """First command of a cluster. Ignored (rejected) when the cluster is initialised already."""

    cluster: str
    engine: Engine
    members: tuple[Member, ...]
    settings: Settings
    primary: str
    floor: GTIDSet
    sync_set: tuple[str, ...]
    required_acks: int


class BeginFailover(Decision, frozen=True, kw_only=True, tag="begin-failover"):
    cause: Cause
    why: str = ""
    target: str = ""  # a person's wish; the planner follows it only when that member holds everything


class BeginSwitchover(Decision, frozen=True, kw_only=True, tag="begin-switchover"):
    target: str
    why: str = ""


class Promote(Decision, frozen=True, kw_only=True, tag="promote"):
    """Choose the primary of this epoch. `certificate` is the GTID set it holds; `reporters` gave the proof."""

    target: str
    certificate: GTIDSet
    sync_set: tuple[str, ...]
    required_acks: int  # any number is safe: the floor covers all that was acknowledged before
    locked: tuple[str, ...]
    proof: Proof
    reporters: tuple[str, ...]
    why: str = ""


class AbortSwitchover(Decision, frozen=True, kw_only=True, tag="abort-switchover"):
    """Give the reign back to the previous primary, which stays the one that holds everything: nobody else was promoted,
    and the sync set acknowledged under the same rules all the time."""

    why: str


class CompletePromotion(Decision, frozen=True, kw_only=True, tag="complete-promotion"):
    """The new primary is writable."""


class Lockout(Decision, frozen=True, kw_only=True, tag="lockout"):
    """The primary must keep this member from acknowledging. The member stays in S until ShrinkSyncSet."""

    member: str
    why: str


class ShrinkSyncSet(Decision, frozen=True, kw_only=True, tag="shrink-sync-set"):
    """Locked-out members leave S: `required_acks` members of the rest hold all that they may have acknowledged alone
    (rule R6). A lower k than before is for the policy `available`; the primary is told once this is committed.

    `floor` is for `strict`, when those that are left are fewer than k: nothing can be acknowledged any more, and it has
    all that ever was, which makes it the next floor. Writes wait until S has grown."""

    members: tuple[str, ...]
    required_acks: int
    why: str = ""
    floor: GTIDSet = GTIDSet()


class Admit(Decision, frozen=True, kw_only=True, tag="admit"):
    """A locked-out member may replicate again (without acknowledging unless it is still in S)."""

    member: str


class GrowSyncSet(Decision, frozen=True, kw_only=True, tag="grow-sync-set"):
    """A member that replicates from the primary joins S; k stays."""

    member: str


class ChangeAcks(Decision, frozen=True, kw_only=True, tag="change-acks"):
    """Another number of acknowledgements, by the orders of rule R6. Lower: both at once, the primary follows. Higher:
    first `source_acks` alone; once the primary waits for so many and as many members hold everything that it had
    then, `required_acks` as well."""

    required_acks: int
    source_acks: int
    why: str = ""


class ForceMembers(Command, frozen=True, kw_only=True, tag="force-members"):
    """The majority is lost for good, and a person goes on with `survivors` (rule R10). Written into the log of a
    stopped controller, which then is the only voter; `learners` are all others: they begin anew. `target` is the
    primary, with `certificate`, all that it holds. `branch` is random: another person may force another membership of
    the same number."""

    incarnation: int
    survivors: tuple[str, ...]
    learners: tuple[str, ...]
    target: str
    certificate: GTIDSet
    why: str = ""
    branch: str = ""


class ChangeSettings(Command, frozen=True, kw_only=True, tag="change-settings"):
    """Another policy instead of the one with number `replaces`; whoever did not see that one is rejected."""

    replaces: int
    settings: Settings


class AddMember(Decision, frozen=True, kw_only=True, tag="add-member"):
    """A new member, whose `uid` no host had before. It does not vote and a data member is locked out; the leader takes
    it into Raft, then into the sync set, until CompleteJoin."""

    member: Member
    why: str = ""


class CompleteJoin(Decision, frozen=True, kw_only=True, tag="complete-join"):
    """The new member votes and does what its role is for; durability counts on it from now on."""

    member: str


class BeginRemoval(Decision, frozen=True, kw_only=True, tag="begin-removal"):
    """The member is to leave: it gives the primary's role away, then leaves S, then Raft, then the state."""

    member: str
    why: str = ""


class CancelRemoval(Decision, frozen=True, kw_only=True, tag="cancel-removal"):
    """The member stays after all. What it has left already it returns to by itself."""

    member: str
    why: str = ""


class RemoveMember(Decision, frozen=True, kw_only=True, tag="remove-member"):
    """The last step of a removal: the member has left S and Raft, and its name is free."""

    member: str


class SetMember(Decision, frozen=True, kw_only=True, tag="set-member"):
    """Another role, zone or priority; None: stays. From data to async it takes effect with CompleteRetirement, when the
    member has left S; from async to data it joins S like a new member. A witness has no MySQL and stays one."""

    member: str
    role: MemberRole | None = None
    zone: str | None = None
    priority: int | None = None
    why: str = ""


class CompleteRetirement(Decision, frozen=True, kw_only=True, tag="complete-retirement"):
    """The member has left S, cannot acknowledge by mistake, and has the role async from now on."""

    member: str


class BeginRebuild(Decision, frozen=True, kw_only=True, tag="begin-rebuild"):
    """Replace the data of the member's server, which has this UUID, by a CLONE; CLONE ends in another UUID. It leaves
    S before its data goes."""

    member: str
    server_uuid: str
    why: str = ""


class CompleteRebuild(Decision, frozen=True, kw_only=True, tag="complete-rebuild"):
    """The member's server has another UUID, and so other data."""

    member: str


class PauseFailover(Command, frozen=True, kw_only=True, tag="pause"):
    reason: str


class ResumeFailover(Command, frozen=True, kw_only=True, tag="resume"):
    pass


class Record(Command, frozen=True, kw_only=True, tag="record"):
    """Something that a member did and that belongs into the history: a fencing rung, a rejoin, a rebuild."""

    kind: str
    member: str
    epoch: int
    why: str = ""
    detail: dict[str, str | int | float | bool] = {}


AnyCommand = (
    InitCluster
    | BeginFailover
    | BeginSwitchover
    | Promote
    | AbortSwitchover
    | CompletePromotion
    | Lockout
    | ShrinkSyncSet
    | Admit
    | GrowSyncSet
    | ChangeAcks
    | ForceMembers
    | ChangeSettings
    | AddMember
    | CompleteJoin
    | BeginRemoval
    | CancelRemoval
    | RemoveMember
    | SetMember
    | CompleteRetirement
    | BeginRebuild
    | CompleteRebuild
    | PauseFailover
    | ResumeFailover
    | Record
)
