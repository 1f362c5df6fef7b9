"""The vocabulary between the Raft core and its shell: messages, entries, durable state and `Ready`.

Law of this package: the same sequence of inputs gives the same outputs. The shell owns the disk, the
network and the clock, and obeys the order written at `Ready`.

Field names follow the Raft paper (Ongaro, Ousterhout 2014) figure 2 and the thesis (Ongaro 2014).
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from raftctl.consensus.membership import Membership
from raftctl.errors import RaftctlError


class NotLeader(RaftctlError):
    """Only the leader can do this. `leader_hint` is the node to ask instead, or "" when nobody is known."""

    def __init__(self, leader_hint: str = "") -> None:
        super().__init__(f"not the leader (ask {leader_hint})" if leader_hint else "not the leader")
        self.leader_hint = leader_hint


class ChangeRefusal(enum.StrEnum):
    """Why a membership change was not begun."""

    CHANGE_IN_PROGRESS = "change-in-progress"  # the newest configuration is not committed yet
    TERM_NOT_COMMITTED = "term-not-committed"  # no entry of this leader's term is committed yet
    MORE_THAN_ONE_VOTER = "more-than-one-voter"  # majorities of both configurations might not meet
    NO_VOTERS = "no-voters"
    NOT_A_LEARNER = "not-a-learner"  # a new voter must have been a learner: else it could block commits
    NOT_CAUGHT_UP = "not-caught-up"  # the learner lacks more entries than one message holds
    WOULD_LOSE_QUORUM = "would-lose-quorum"  # too few of the new voters answered within the election timeout


class ChangeRefused(RaftctlError):
    """A membership change was not begun; nothing happened. `reason` is a ChangeRefusal."""

    def __init__(self, reason: ChangeRefusal, detail: str = "") -> None:
        super().__init__(f"membership change refused: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason


class Role(enum.StrEnum):
    """Raft roles. Never used for MySQL, whose roles are primary and replica."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class EntryKind(enum.IntEnum):
    NOOP = 0  # appended by a new leader (thesis 6.4): its commit makes older entries committed
    COMMAND = 1  # data is a command of the cluster state machine
    CONFIG = 2  # data is an encoded Membership, in force from the moment it is appended (thesis 4.1)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One log entry. Indexes start at 1; index 0 with term 0 is the empty log."""

    index: int
    term: int
    kind: EntryKind
    data: bytes


class HardState(msgspec.Struct, frozen=True, array_like=True):
    """What must be on disk before any message that depends on it leaves (paper figure 2, "persistent state")."""

    term: int = 0
    voted_for: str = ""  # node id, or "" for nobody in this term
    floor: int = 0  # a node that began with nothing takes part in elections when its log reaches this far


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """The state after entry `index` of `term` was applied, in place of the log up to there (thesis 5.1)."""

    index: int
    term: int
    membership: Membership  # as of `index`
    data: bytes  # the cluster state machine's; a few kilobytes here, so it travels in one message


# --- messages -------------------------------------------------------------------------------------
# Every message carries the sender's term. `to` and `sender` are node ids; the transport adds the cluster id
# and the incarnation and refuses frames that carry others.


class Message(msgspec.Struct, frozen=True, array_like=True, tag_field="type"):
    sender: str
    to: str
    term: int


class PreVote(Message, frozen=True, array_like=True, tag=1):
    """Would you vote for me in `term`? (thesis 9.6). `term` is the candidate's term + 1; nobody's state changes.

    `leader_lost` says that the sender's connection to the leader it follows died: a receiver which still hears
    that leader answers no all the same (stickiness)."""

    last_log_index: int
    last_log_term: int
    leader_lost: bool = False


class PreVoteReply(Message, frozen=True, array_like=True, tag=2):
    granted: bool


class RequestVote(Message, frozen=True, array_like=True, tag=3):
    last_log_index: int
    last_log_term: int
    transfer: bool = False  # the leader asked for this election (thesis 3.10): stickiness does not apply


class RequestVoteReply(Message, frozen=True, array_like=True, tag=4):
    granted: bool


class AppendEntries(Message, frozen=True, array_like=True, tag=5):
    """Replication and heartbeat in one. `round` is the leader's heartbeat round, echoed in the reply: it proves
    when the follower last heard this leader (check-quorum, leases, ReadIndex)."""

    prev_log_index: int
    prev_log_term: int
    entries: tuple[Entry, ...]
    commit_index: int
    round: int
    config_index: int = 0  # of the leader's present configuration


class AppendEntriesReply(Message, frozen=True, array_like=True, tag=6):
    """`match_index` is what the follower has *durably* stored and verified against this leader when `success`; else a
    hint: the leader may back off to (`hint_index`, `hint_term`), the last place where the logs can agree."""

    success: bool
    match_index: int
    round: int
    hint_index: int = 0
    hint_term: int = 0


class TimeoutNow(Message, frozen=True, array_like=True, tag=7):
    """Leadership transfer (thesis 3.10): start an election at once."""


class InstallSnapshot(Message, frozen=True, array_like=True, tag=8):
    """For a follower that needs entries which the leader has compacted. Answered by an AppendEntriesReply."""

    snapshot: Snapshot
    round: int
    config_index: int = 0  # as in AppendEntries


AnyMessage = (
    PreVote
    | PreVoteReply
    | RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | TimeoutNow
    | InstallSnapshot
)


# --- output ---------------------------------------------------------------------------------------


class EventKind(enum.StrEnum):
    """Stable names of what the core reports; the shell logs them."""

    PRE_VOTE_STARTED = "pre-vote-started"
    PRE_VOTE_REFUSED = "pre-vote-refused"  # by this node
    ELECTION_STARTED = "election-started"
    VOTE_GRANTED = "vote-granted"
    VOTE_REFUSED = "vote-refused"  # by this node
    BECAME_LEADER = "became-leader"
    STEPPED_DOWN = "stepped-down"  # a leader that is one no more; `reason` says why
    FOLLOWING = "following"  # a leader became known
    LOG_TRUNCATED = "log-truncated"
    SNAPSHOT_SENT = "snapshot-sent"
    SNAPSHOT_RECEIVED = "snapshot-received"
    MEMBERSHIP_CHANGED = "membership-changed"  # in force; `index` of its entry, 0 when an entry was truncated away
    TRANSFER_STARTED = "transfer-started"
    TRANSFER_ABORTED = "transfer-aborted"
    MESSAGE_IGNORED = "message-ignored"  # `reason`: stale-term, unknown-sender, wrong-recipient, ...


class Event(msgspec.Struct, frozen=True):
    """Something that happened and a person may want to know. `detail` holds plain values."""

    kind: EventKind
    detail: dict[str, Any]


class ReadResult(msgspec.Struct, frozen=True):
    """Answer to a `read_index` request (thesis 6.4): once the local state has applied `index`, a read is linearizable.
    `index` is None when leadership was lost or there is none: ask again."""

    request_id: int
    index: int | None


class Ready(msgspec.Struct, frozen=True):
    """All that the shell must do now, in this order:

    1. send `messages` at once: they depend on nothing unpersisted (the leader's AppendEntries may overlap its
       own fsync, thesis 10.2.1: the leader counts itself only when its own write is durable);
    2. make `hard_state` (if not None), `snapshot` (if not None) and `entries` durable in one write, which a crash keeps
       or loses as a whole, or keeps a beginning of in this order. `snapshot` replaces the whole log. `entries[0].index`
       may be at or below the end of the log on disk: everything from that index on is replaced;
    3. only then call `Raft.persisted(ticket)`; the core then releases the messages that depended on this write
       (votes, acknowledgements) in a following Ready. Tickets must be reported in order, and one report covers
       every earlier ticket (several Readys may share one fsync); 0 means nothing to write;
    4. load `restore` (if not None) into the state machine in place of its state, then apply `committed` in order. Both
       are already durable on this node.
    """

    ticket: int = 0
    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    entries: tuple[Entry, ...] = ()
    messages: tuple[AnyMessage, ...] = ()
    restore: Snapshot | None = None
    committed: tuple[Entry, ...] = ()
    reads: tuple[ReadResult, ...] = ()
    events: tuple[Event, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ticket or self.messages or self.restore or self.committed or self.reads or self.events)


class Config(msgspec.Struct, frozen=True):
    """Static settings of one node. Times are seconds; the election timeout is drawn from [1, 2) times
    `election_timeout` (paper section 5.2). `voters` counts until the log holds a configuration, which
    the first leader writes; a node that is to join has none and learns them from the leader.

    A commit travels to the followers with the next append, or alone after `commit_notice_delay`: whoever waits for the
    commit is answered first, and under load it costs no messages of its own."""

    node_id: str
    voters: tuple[str, ...]
    election_timeout: float = 1.0
    heartbeat_interval: float = 0.1
    commit_notice_delay: float = 0.0005
    max_entries_per_append: int = 100
    max_bytes_per_append: int = 1 << 20


# The machine itself (`raftctl.consensus.raft.Raft`) has this surface:
#
#   Raft(config, hard_state, entries, rng, now, snapshot=None)   entries: the durable log (after the snapshot, whose
#                                 state the shell has loaded already); rng: random.Random; now: monotonic seconds
#   step(message, now)            feed a message from a peer (already authenticated and decoded)
#   tick(now)                     time passed; call at `deadline` or later
#   deadline -> float             when tick() must be called next (math.inf: a node without a vote waits for messages)
#   propose(data, now) -> int     index of the appended entry; raises NotLeader(leader_hint)
#   read_index(request_id, now)   leader only (raises NotLeader); answered by a ReadResult in a later Ready
#   peer_lost(peer, now, renewed=False)   the transport's connection to `peer` died; or this side makes it anew
#   transfer(to, now)             leadership transfer; raises NotLeader, ValueError (`to` is not another voter)
#   persisted(ticket, now)        the write of that Ready is durable
#   change_membership(voters, learners, now) -> int    index of the entry; raises NotLeader, ChangeRefused(reason)
#   snapshot(data) -> Snapshot    of the state machine's state `data` as of applied_index; the shell makes it durable
#   compacted(snapshot, now)      it is durable, and the entries it covers are gone from the disk
#   ready() -> Ready              once after every input: what to do now; falsy when that is nothing
#   term, role, leader ("" unknown), commit_index, last_index, applied_index, voters, learners -> properties
#   quorum_contact(now) -> float  leader only: the latest time t such that a majority (self included) answered a
#                                 heartbeat that was *sent* at or after t: the base of leases (-inf: none yet)
#   has_settled(peer, since, now) -> bool   whether losing another connection now deposes nobody: see there
