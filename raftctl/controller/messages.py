"""What controllers tell each other beside Raft: reports, leases and requests to the leader. MessagePack, tagged."""

from __future__ import annotations

import enum

import msgspec

from raftctl.cluster.codec import pack, unpack
from raftctl.cluster.commands import AnyCommand
from raftctl.cluster.facts import MemberReport
from raftctl.cluster.state import Member, MemberRole


class ReportMessage(msgspec.Struct, frozen=True, tag="report"):
    """To every peer, so that whoever leads next knows the members already. `roster`: the number of the one by which the
    sender connects."""

    report: MemberReport
    roster: int | None = None


class RosterMessage(msgspec.Struct, frozen=True, tag="roster"):
    """To a peer that connects by an older roster: its log may come from a leader that it does not know yet."""

    number: int
    members: dict[str, Member]


class LeaseGrant(msgspec.Struct, frozen=True, tag="lease"):
    """The leader's answer to the primary's report `seq`: stay writable for `ttl` seconds from when that was *sent*."""

    epoch: int
    seq: int
    ttl: float


class Switchover(msgspec.Struct, frozen=True, tag="switchover"):
    by: str
    target: str = ""
    dry_run: bool = False


class Failover(msgspec.Struct, frozen=True, tag="failover"):
    by: str
    target: str = ""
    dry_run: bool = False


class Propose(msgspec.Struct, frozen=True, tag="propose"):
    """Have this very command committed."""

    command: AnyCommand


class MemberChange(enum.StrEnum):
    ADD = "add"
    REMOVE = "remove"
    REBUILD = "rebuild"
    REJOIN = "rejoin"
    SET = "set"


class ChangeMember(msgspec.Struct, frozen=True, tag="change-member"):
    """`member` is the one to be added, None for the other changes; `role`, `zone` and `priority` are for SET, None for
    what stays."""

    by: str
    change: MemberChange
    name: str
    member: Member | None = None
    dry_run: bool = False
    role: MemberRole | None = None
    zone: str | None = None
    priority: int | None = None


Operation = Switchover | Failover | Propose | ChangeMember


class OperationResult(msgspec.Struct, frozen=True):
    """`applied`: it was committed and took effect. Otherwise `reason` is a value of planner.refusal.Reason, of
    cluster.apply.Rejection, or "no-quorum"."""

    applied: bool
    reason: str = ""
    text: str = ""
    hint: str = ""
    plan: tuple[str, ...] = ()
    index: int = 0  # of the log entry
    target: str = ""


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """To the leader: carry this out."""

    request_id: int
    operation: Operation


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    request_id: int
    result: OperationResult


PeerMessage = ReportMessage | RosterMessage | LeaseGrant | Ask | Answer


def encode(message: PeerMessage) -> bytes:
    return pack(message)


def decode(body: bytes) -> PeerMessage:
    """Raises msgspec.DecodeError (a ValidationError too) on what this version does not understand."""
    message: PeerMessage = unpack(body, PeerMessage)
    return message
