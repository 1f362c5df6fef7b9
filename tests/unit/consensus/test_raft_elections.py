"""Leader election, rule by rule: paper figure 2 and sections 5.2 and 5.4.1; thesis 3.10, 4.2.3, 9.6."""

from __future__ import annotations

import math

import pytest

from raftctl.consensus.types import (
    EventKind,
    HardState,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    Role,
    TimeoutNow,
)
from tests.support.raft_node import NodeUnderTest, append, ask_vote, log_of

FIVE = ("a", "b", "c", "d", "e")


def vote(*, sender: str, term: int, granted: bool = True) -> RequestVoteReply:
    return RequestVoteReply(sender=sender, to="a", term=term, granted=granted)


def pre_vote(*, term: int, last: tuple[int, int] = (0, 0), sender: str = "b", leader_lost: bool = False) -> PreVote:
    return PreVote(
        sender=sender, to="a", term=term, last_log_index=last[0], last_log_term=last[1], leader_lost=leader_lost
    )


def candidate(*, voters: tuple[str, ...] = ("a", "b", "c"), persists: bool = True) -> NodeUnderTest:
    """A node that won its pre-vote and is a candidate in term 1."""
    node = NodeUnderTest(voters=voters, persists=persists)
    node.time_out()
    node.step(*(PreVoteReply(sender=voter, to="a", term=1, granted=True) for voter in voters[1:]))
    assert node.raft.role is Role.CANDIDATE
    return node


# --- timeouts and pre-vote ------------------------------------------------------------------------


def test_the_election_timeout_is_drawn_from_one_to_two_times_the_setting() -> None:  # 5.2
    node = NodeUnderTest()
    drawn = []
    for _ in range(200):
        node.step(append(term=1))
        drawn.append(node.raft.deadline - node.now)
    assert min(drawn) >= 1.0
    assert max(drawn) < 2.0
    assert max(drawn) - min(drawn) > 0.5


def test_a_follower_that_hears_its_leader_does_not_campaign() -> None:  # 5.2
    node = NodeUnderTest()
    for _ in range(50):
        node.step(append(term=1))
        node.wait(0.9)
    assert node.raft.role is Role.FOLLOWER


def test_a_pre_vote_changes_neither_term_nor_vote() -> None:  # thesis 9.6
    asking, asked = NodeUnderTest(), NodeUnderTest()
    asking.time_out()
    asked.step(pre_vote(term=1))
    assert asked.take() == [PreVoteReply(sender="a", to="b", term=1, granted=True)]
    for node in (asking, asked):
        assert (node.raft.term, node.hard_state) == (0, HardState())


def test_a_pre_vote_is_asked_for_the_next_term_and_sent_without_a_write() -> None:
    node = NodeUnderTest(term=4, log=log_of(1, 4), persists=False)
    node.time_out()
    assert node.tickets == []
    assert [(m.to, m.term, m.last_log_index, m.last_log_term) for m in node.take() if isinstance(m, PreVote)] == [
        ("b", 5, 2, 4),
        ("c", 5, 2, 4),
    ]


@pytest.mark.parametrize("heard", [True, False])
def test_a_pre_vote_is_refused_while_the_leader_is_heard(heard: bool) -> None:  # thesis 4.2.3, 9.6
    node = NodeUnderTest()
    node.step(append(term=1, sender="c"))
    node.take()
    if not heard:
        node.now += 1.0
    node.step(pre_vote(term=2))
    assert [reply.granted for reply in node.take() if isinstance(reply, PreVoteReply)] == [not heard]


def test_only_the_loss_of_the_own_connection_ends_the_faith_in_a_leader() -> None:
    node = NodeUnderTest()
    node.step(append(term=1, sender="c"))
    node.take()
    node.step(pre_vote(term=2, leader_lost=True))
    assert not node.take()[0].granted  # type: ignore[union-attr]
    node.raft.peer_lost("c", node.now)
    node.step(pre_vote(term=2, last=(1, 1)))
    assert node.take()[-1] == PreVoteReply(sender="a", to="b", term=2, granted=True)


def test_losing_the_leader_starts_a_pre_vote_at_once() -> None:
    node = NodeUnderTest()
    node.step(append(term=1, sender="c"))
    node.take()
    node.raft.peer_lost("b", node.now)
    node.drain()
    assert node.take() == []
    node.raft.peer_lost("c", node.now)
    node.drain()
    assert [(m.to, m.leader_lost) for m in node.take() if isinstance(m, PreVote)] == [("b", True), ("c", True)]


def test_a_connection_to_the_leader_that_is_made_anew_is_no_loss_of_it() -> None:
    node = NodeUnderTest()
    node.step(append(term=1, sender="c"))
    node.take()
    node.raft.peer_lost("c", node.now, renewed=True)
    node.drain()
    assert node.take() == []
    node.step(pre_vote(term=2, last=(1, 1)))
    granted = [reply.granted for reply in node.take() if isinstance(reply, PreVoteReply)]
    assert granted == [False], "it counts as heard"


def test_a_refusal_from_a_later_term_ends_the_campaign_and_teaches_the_term() -> None:
    node = NodeUnderTest()
    node.time_out()
    node.step(PreVoteReply(sender="b", to="a", term=7, granted=False))
    assert (node.raft.role, node.raft.term, node.hard_state) == (Role.FOLLOWER, 7, HardState(7, ""))


def test_a_refused_campaign_is_repeated_before_the_election_timeout() -> None:
    node = NodeUnderTest()
    node.time_out()
    node.step(PreVoteReply(sender="b", to="a", term=0, granted=False))
    assert node.raft.deadline <= node.now + 0.15


def test_repeated_refusals_are_answered_with_growing_patience() -> None:
    node = NodeUnderTest()
    pauses = []
    for _ in range(12):
        node.time_out()
        node.step(PreVoteReply(sender="b", to="a", term=0, granted=False))
        pauses.append(node.raft.deadline - node.now)
    assert max(pauses[:1]) <= 0.15
    assert min(pauses[-4:]) >= 0.5


@pytest.mark.parametrize(("rival", "granted"), [("0", False), ("b", True)])
def test_of_two_rivals_with_equal_logs_the_smaller_id_yields(rival: str, granted: bool) -> None:
    node = NodeUnderTest(voters=("0", "a", "b"))
    node.time_out()
    node.take()
    node.step(pre_vote(term=1, sender=rival))
    assert [reply.granted for reply in node.take() if isinstance(reply, PreVoteReply)] == [granted]


def test_a_node_without_a_vote_never_campaigns() -> None:
    node = NodeUnderTest(voters=("b", "c"))
    assert node.raft.deadline == math.inf
    node.wait(1000.0)
    node.raft.peer_lost("b", node.now)
    node.drain()
    assert node.take() == []


# --- votes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "granted"),
    [
        ((3, 2), True),  # equal
        ((4, 2), True),  # same term, longer
        ((2, 2), False),  # same term, shorter
        ((1, 3), True),  # later term, shorter
        ((9, 1), False),  # earlier term, longer
        ((0, 0), False),
    ],
)
def test_a_vote_goes_only_to_a_log_that_is_at_least_as_up_to_date(last: tuple[int, int], granted: bool) -> None:
    node = NodeUnderTest(term=2, log=log_of(1, 2, 2))  # 5.4.1
    node.step(ask_vote(term=3, last=last))
    assert node.take() == [RequestVoteReply(sender="a", to="b", term=3, granted=granted)]
    node.now += 10
    node.step(pre_vote(term=4, last=last))
    assert [reply.granted for reply in node.take() if isinstance(reply, PreVoteReply)] == [granted]


def test_one_vote_per_term_and_the_same_answer_to_a_repeated_question() -> None:  # figure 2
    node = NodeUnderTest()
    node.step(ask_vote(term=1, sender="b"), ask_vote(term=1, sender="c"), ask_vote(term=1, sender="b"))
    assert [(m.to, m.granted) for m in node.take() if isinstance(m, RequestVoteReply)] == [
        ("b", True),
        ("c", False),
        ("b", True),
    ]


def test_a_vote_of_an_earlier_life_binds() -> None:  # figure 2, persistent state
    node = NodeUnderTest(term=1, voted_for="c")
    node.step(ask_vote(term=1, sender="b"))
    assert node.take() == [RequestVoteReply(sender="a", to="b", term=1, granted=False)]


def test_a_request_of_an_earlier_term_is_refused_with_the_current_one() -> None:  # figure 2
    node = NodeUnderTest(term=5)
    node.step(ask_vote(term=4), pre_vote(term=4))
    assert node.take() == [
        RequestVoteReply(sender="a", to="b", term=5, granted=False),
        PreVoteReply(sender="a", to="b", term=5, granted=False),
    ]


def test_a_vote_leaves_only_when_it_is_on_disk() -> None:
    node = NodeUnderTest(persists=False)
    node.step(ask_vote(term=1))
    assert node.take() == []
    assert node.hard_state == HardState(1, "b")
    node.persist()
    assert node.take() == [RequestVoteReply(sender="a", to="b", term=1, granted=True)]


def test_the_request_for_votes_leaves_only_when_the_own_vote_is_on_disk() -> None:
    node = candidate(persists=False)
    assert not [m for m in node.take() if isinstance(m, RequestVote)]
    node.persist()
    assert [m.to for m in node.take() if isinstance(m, RequestVote)] == ["b", "c"]


def test_the_own_vote_counts_only_when_it_is_on_disk() -> None:
    node = candidate(voters=FIVE, persists=False)
    node.step(vote(sender="b", term=1), vote(sender="c", term=1))
    assert node.raft.role is Role.CANDIDATE
    node.persist()
    assert node.raft.role is Role.LEADER


def test_votes_are_counted_by_identity() -> None:
    node = candidate(voters=FIVE)
    node.step(*(vote(sender="b", term=1) for _ in range(5)))
    assert node.raft.role is Role.CANDIDATE
    node.step(vote(sender="c", term=1))
    assert node.raft.role is Role.LEADER


def test_votes_of_strangers_and_of_other_terms_are_not_counted() -> None:
    node = candidate()
    node.step(vote(sender="x", term=1), vote(sender="b", term=0))
    assert node.raft.role is Role.CANDIDATE
    assert [event.detail["reason"] for event in node.events if event.kind is EventKind.MESSAGE_IGNORED] == [
        "unknown-sender",
        "stale-term",
    ]


def test_four_voters_need_three_votes() -> None:  # rule R1: floor(n/2) + 1
    node = candidate(voters=("a", "b", "c", "d"))
    node.step(vote(sender="b", term=1))
    assert node.raft.role is Role.CANDIDATE
    node.step(vote(sender="c", term=1))
    assert node.raft.role is Role.LEADER


def test_a_lone_voter_elects_itself_once_its_vote_is_on_disk() -> None:
    node = NodeUnderTest(voters=("a",), persists=False)
    node.time_out()
    assert node.raft.role is Role.CANDIDATE
    node.persist()
    assert node.raft.role is Role.LEADER
    assert node.committed == []
    node.persist()
    assert [entry.index for entry in node.committed] == [1]


def test_a_candidate_follows_whoever_won_its_term() -> None:  # 5.2
    node = candidate()
    node.step(append(term=1, sender="c"))
    assert (node.raft.role, node.raft.leader, node.raft.term) == (Role.FOLLOWER, "c", 1)


def test_a_later_term_makes_a_follower_of_everybody() -> None:  # figure 2, rules for servers
    node = NodeUnderTest()
    node.become_leader()
    node.step(vote(sender="b", term=9, granted=False))
    assert (node.raft.role, node.raft.term, node.raft.leader) == (Role.FOLLOWER, 9, "")
    assert node.events[-1].kind is EventKind.STEPPED_DOWN


def test_who_hears_a_leader_ignores_a_candidate_unless_the_leader_asked_for_it() -> None:  # thesis 4.2.3, 3.10
    node = NodeUnderTest()
    node.step(append(term=1, sender="c"))
    node.take()
    node.step(ask_vote(term=2))
    assert (node.take(), node.raft.term) == ([], 1)
    node.step(ask_vote(term=2, transfer=True))
    assert node.take() == [RequestVoteReply(sender="a", to="b", term=2, granted=True)]


def test_timeout_now_starts_an_election_without_a_pre_vote() -> None:  # thesis 3.10
    node = NodeUnderTest()
    node.step(append(term=1, sender="c"))
    node.take()
    node.step(TimeoutNow(sender="b", to="a", term=1))
    assert node.raft.role is Role.FOLLOWER
    node.step(TimeoutNow(sender="c", to="a", term=1))
    assert (node.raft.role, node.raft.term) == (Role.CANDIDATE, 2)
    assert all(message.transfer for message in node.take() if isinstance(message, RequestVote))


def test_two_leaders_in_one_term_stop_the_node() -> None:
    node = NodeUnderTest()
    node.become_leader()
    with pytest.raises(AssertionError, match="two leaders in term 1"):
        node.step(append(term=1, sender="c"))
