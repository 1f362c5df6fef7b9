"""The state of one node (paper figure 2, "State") and the changes of role and term that every part shares.

Law of this module: `term` and `voted_for` change only here, and every change is marked for the disk.
"""

from __future__ import annotations

import math
import random
from collections import deque

import msgspec

from raftctl.consensus.log import RaftLog
from raftctl.consensus.membership import Membership
from raftctl.consensus.outbox import Outbox
from raftctl.consensus.progress import Progress
from raftctl.consensus.types import AnyMessage, Config, EventKind, HardState, ReadResult, Role


class PendingRead(msgspec.Struct):
    """A read that waits until `round` is confirmed by a majority and an entry of this term is committed."""

    request_id: int
    round: int


class Leadership:
    """What a leader keeps; it dies with the leadership."""

    def __init__(self, *, now: float, progress: dict[str, Progress], first_index: int) -> None:
        self.since = now
        self.progress = progress
        self.first_index = first_index  # of the no-op: its commit makes everything before it committed
        self.round = 0  # the newest heartbeat round
        self.round_began: deque[tuple[int, float]] = deque()
        self.round_wanted = True  # start a round with the next Ready
        self.heartbeat_deadline = now
        self.quorum_deadline = -math.inf  # check-quorum does not end this leadership before
        self.notice_deadline = math.inf  # when followers are told of a commit that no append has told them
        self.reads: list[PendingRead] = []
        self.transfer_target = ""
        self.transfer_deadline = math.inf
        self.transfer_sent = False

    def began(self, round_number: int) -> float | None:
        """When `round_number` began; None when that is long ago."""
        if not self.round_began or round_number < self.round_began[0][0]:
            return None
        return self.round_began[round_number - self.round_began[0][0]][1]


class State:
    def __init__(self, config: Config, hard_state: HardState, log: RaftLog, rng: random.Random, now: float) -> None:
        self.config = config
        self.id = config.node_id
        self.rng = rng
        self.now = now
        self.log = log
        self.outbox = Outbox()

        self.term = hard_state.term
        self.voted_for = hard_state.voted_for
        self.floor = hard_state.floor
        self.role = Role.FOLLOWER
        self.leader = ""
        self.leadership: Leadership | None = None  # not None exactly when the role is LEADER

        self.heard_leader_at = -math.inf
        self.leader_lost = False  # this node's own connection to the leader it followed died
        self.votes: dict[str, bool] = {}  # answers to this node's own (pre-)campaign, by identity
        self.campaigns = 0  # campaigns since a leader was last known: stretches the back-off
        self.election_deadline = math.inf
        self.restart_election_timer()

    # --- time -------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Time never runs backwards here, whatever order the shell read its clock in."""
        self.now = max(self.now, now)

    def restart_election_timer(self) -> None:
        """Randomised, so that rivals rarely wake together (paper section 5.2)."""
        if self.may_campaign:
            self.election_deadline = self.now + self.config.election_timeout * self.rng.uniform(1.0, 2.0)
        else:
            self.election_deadline = math.inf

    @property
    def disk_deadline(self) -> float:
        """When the oldest write will have taken an election timeout.

        A node whose disk hangs can neither vote for itself nor apply what is committed: it does not lead, and does not
        try to."""
        return self.outbox.writing_since + self.config.election_timeout

    @property
    def hears_leader(self) -> bool:
        """Stickiness (thesis 4.2.3, 9.6): this node knows a live leader and helps nobody to depose it."""
        if self.role is Role.LEADER:
            return True  # check-quorum ends a leadership without contact
        return not self.leader_lost and self.now - self.heard_leader_at < self.config.election_timeout

    # --- membership -------------------------------------------------------------------------------

    @property
    def membership(self) -> Membership:
        return self.log.configurations.current

    def report_membership(self) -> None:
        """Another configuration is in force: say so; perhaps this node may campaign now, or no longer."""
        self.outbox.report(
            EventKind.MEMBERSHIP_CHANGED,
            index=self.log.configurations.current_index,
            voters=self.membership.voters,
            learners=self.membership.learners,
        )
        if self.role is not Role.LEADER:
            self.restart_election_timer()

    @property
    def is_voter(self) -> bool:
        return self.id in self.membership.voters

    @property
    def may_campaign(self) -> bool:
        """A leader may die after it appended its own removal and before that is committed.

        If nobody else has its log, only it can lead again and finish (thesis 4.2.2)."""
        return not self.joining and self.log.configurations.may_vote(self.id, commit_index=self.log.commit_index)

    @property
    def joining(self) -> bool:
        """This node began with nothing and does not hold its leader's configuration yet.

        Until then the configuration that it finds in its log may be one of old times, when another node of its name had
        a vote: newcomers alone could be a majority of it and elect one of them, who lacks what is committed since."""
        return self.log.last_index < self.floor or (not self.config.voters and self.log.last_index == 0)

    def join_up_to(self, config_index: int) -> None:
        """The present leader's configuration stands there in its log."""
        if self.joining and self.floor != config_index:
            self.floor = config_index
            self.outbox.write_hard_state()

    @property
    def other_voters(self) -> list[str]:
        return [voter for voter in self.membership.voters if voter != self.id]

    # --- output -----------------------------------------------------------------------------------

    def send_when_durable(self, message: AnyMessage) -> None:
        self.outbox.send_when_durable(message, unstaged=self.log.has_unstaged)

    # --- roles and terms --------------------------------------------------------------------------

    def become_follower(self, *, term: int, leader: str, reason: str) -> None:
        """Follow `leader` ("" when nobody is known) in `term`, which is not below the current one."""
        assert term >= self.term, "terms never decrease"
        if term > self.term:
            self._enter_term(term, voted_for="")
        self._end_leadership(reason)
        self.role = Role.FOLLOWER
        self.votes = {}
        if leader and leader != self.leader:
            self.outbox.report(EventKind.FOLLOWING, leader=leader, term=term)
        self.leader = leader
        self.restart_election_timer()

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won; term and vote stay (thesis 9.6)."""
        assert self.role is not Role.LEADER
        self.role = Role.PRE_CANDIDATE
        self.leader = ""
        self.votes = {self.id: True}

    def become_candidate(self) -> None:
        """Enter the next term with the own vote, which counts once it is durable."""
        assert self.role is not Role.LEADER
        assert self.may_campaign
        self._enter_term(self.term + 1, voted_for=self.id)
        self.role = Role.CANDIDATE
        self.leader = ""
        self.votes = {}

    def become_leader(self, leadership: Leadership) -> None:
        assert self.role is Role.CANDIDATE
        assert self.voted_for == self.id
        assert self.outbox.hard_state_durable, "an election was won with a vote that is not on disk"
        self.role = Role.LEADER
        self.leader = self.id
        self.leadership = leadership
        self.votes = {}
        self.campaigns = 0
        self.election_deadline = math.inf

    def vote_for(self, node: str) -> None:
        assert self.voted_for in ("", node), "one vote per term"
        if self.voted_for != node:
            self.voted_for = node
            self.outbox.change_hard_state()

    def _enter_term(self, term: int, *, voted_for: str) -> None:
        assert term > self.term
        self.term = term
        self.voted_for = voted_for
        self.heard_leader_at = -math.inf  # whoever was heard led an earlier term
        self.leader_lost = False
        self.outbox.change_hard_state()

    def _end_leadership(self, reason: str) -> None:
        if self.leadership is None:
            return
        self.outbox.report(EventKind.STEPPED_DOWN, term=self.term, reason=reason)
        self.outbox.reads.extend(ReadResult(read.request_id, None) for read in self.leadership.reads)
        self.leadership = None
        self.heard_leader_at = -math.inf

    def check_invariants(self) -> None:
        log = self.log
        assert (self.role is Role.LEADER) == (self.leadership is not None)
        assert log.applied_index <= min(log.commit_index, log.durable_index)
        assert log.start_index <= log.commit_index <= log.last_index
        assert log.last_term <= self.term, "an entry of a term that this node has not entered"
