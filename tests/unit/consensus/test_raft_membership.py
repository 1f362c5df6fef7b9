"""Membership changes, learners and snapshots: thesis 4.1 to 4.3, 5.1 to 5.3."""

from __future__ import annotations

import math

import pytest

from raftctl.consensus.membership import Configurations, Membership
from raftctl.consensus.types import (
    ChangeRefusal,
    ChangeRefused,
    Entry,
    EntryKind,
    InstallSnapshot,
    RequestVoteReply,
    Role,
    Snapshot,
)
from tests.support.raft_node import NodeUnderTest, acknowledge, append, ask_vote, log_of

ABC = ("a", "b", "c")


def leader(**settings: object) -> NodeUnderTest:
    """A leader in term 1 whose no-op is committed and whose followers have just answered."""
    node = NodeUnderTest(**settings)  # type: ignore[arg-type]
    node.become_leader()
    node.step(*(acknowledge(term=1, match=1, sender=voter) for voter in node.raft.voters if voter != "a"))
    node.take()
    return node


def change(node: NodeUnderTest, voters: str, learners: str = "") -> int:
    index = node.raft.change_membership(voters.split(), learners.split(), node.now)
    node.drain()
    return index


def refusal(node: NodeUnderTest, voters: str, learners: str = "") -> ChangeRefusal:
    before = (node.raft.last_index, node.raft.voters, node.raft.learners)
    with pytest.raises(ChangeRefused) as caught:
        change(node, voters, learners)
    assert (node.raft.last_index, node.raft.voters, node.raft.learners) == before
    return caught.value.reason


def config(*, index: int, term: int, voters: tuple[str, ...], learners: tuple[str, ...] = ()) -> Entry:
    return Entry(
        index=index, term=term, kind=EntryKind.CONFIG, data=Membership.of(voters=voters, learners=learners).encode()
    )


def install(*, index: int, term: int, message_term: int = 2) -> InstallSnapshot:
    snapshot = Snapshot(index, term, Membership.of(voters=("a", "b", "d")), b"state")
    return InstallSnapshot(sender="b", to="a", term=message_term, snapshot=snapshot, round=1)


# --- newcomers ------------------------------------------------------------------------------------
# The entries that a newcomer is sent first may hold a configuration of old times, in which another node of its name had
# a vote: after a forced membership, or when several hosts were replaced. Newcomers alone could be a majority of it.

OLD = (config(index=1, term=1, voters=ABC), *log_of(1, 1, 1)[1:])


def newcomer(**settings: object) -> NodeUnderTest:
    """It holds the leader's entries 1 to 3; the configuration that makes it a learner is entry 5."""
    node = NodeUnderTest(voters=(), **settings)  # type: ignore[arg-type]
    node.step(append(term=2, entries=OLD, commit=3, config_index=5))
    node.take()
    return node


def grants(node: NodeUnderTest) -> bool:
    """Its vote for a candidate with a long log, in a term of its own."""
    node.now += 10.0
    node.take()
    node.step(ask_vote(term=node.raft.term + 1, last=(9, 9)))
    [reply] = node.take()
    assert isinstance(reply, RequestVoteReply)
    return reply.granted


def test_a_node_that_begins_with_nothing_does_not_vote() -> None:
    assert not grants(NodeUnderTest(voters=()))
    assert grants(NodeUnderTest(voters=ABC)), "the first members begin with nothing, too, and are told who votes"


def test_a_newcomer_does_not_vote_by_a_configuration_of_old_times() -> None:
    node = newcomer()
    assert node.raft.voters == ABC
    assert node.raft.deadline == math.inf, "nor campaign"
    node.raft.peer_lost("b", node.now)
    node.drain()
    assert node.take() == []
    assert not grants(node)


def test_a_newcomer_knows_after_a_restart_how_far_it_must_get() -> None:
    before = newcomer()
    again = NodeUnderTest(voters=(), term=2, log=OLD, floor=before.hard_state.floor)
    assert not grants(again)


def test_a_newcomer_votes_when_it_holds_its_leaders_configuration() -> None:
    node = newcomer()
    rest = (*log_of(1, 1, 1, 2)[3:], config(index=5, term=2, voters=("b", "c"), learners=("a",)))
    node.step(append(term=2, after=(3, 1), entries=rest, commit=3, config_index=5))
    assert node.raft.learners == ("a",)
    assert grants(node)


def test_a_newcomer_that_was_promoted_campaigns() -> None:
    node = newcomer()
    rest = (*log_of(1, 1, 1, 2)[3:], config(index=5, term=2, voters=ABC))
    node.step(append(term=2, after=(3, 1), entries=rest, commit=3, config_index=5))
    assert node.raft.deadline < math.inf, "though the voters are those of the configuration of old times again"


def test_the_next_leader_says_anew_how_far_a_newcomer_must_get() -> None:
    """The entry that the first one spoke of may be lost with it."""
    node = newcomer()
    node.step(append(term=3, sender="c", after=(3, 1), commit=3, config_index=2))
    assert grants(node)


def test_a_truncation_takes_back_how_far_a_newcomer_had_to_get() -> None:
    """It held an uncommitted configuration; the next leader's log is shorter, and makes it a voter all the same."""
    node = newcomer()
    lost = (*log_of(1, 1, 1, 2, 2, 2, 2)[3:], config(index=8, term=2, voters=("b", "c"), learners=("a",)))
    node.step(append(term=2, after=(3, 1), entries=lost, commit=3, config_index=8))
    kept = (Entry(4, 3, EntryKind.NOOP, b""), config(index=5, term=3, voters=ABC))
    node.step(append(term=3, sender="c", after=(3, 1), entries=kept, commit=3, config_index=5))
    assert node.raft.last_index == 5
    assert node.hard_state.floor == 5
    assert node.raft.deadline < math.inf
    assert grants(node)


# --- changes --------------------------------------------------------------------------------------


def test_a_change_waits_for_a_commit_of_the_leaders_term() -> None:  # correction of 2015 to the thesis, 4.1
    node = NodeUnderTest()
    node.become_leader()
    assert refusal(node, "a b") is ChangeRefusal.TERM_NOT_COMMITTED


def test_one_change_at_a_time() -> None:
    node = leader()
    change(node, "a b c", "d")
    assert refusal(node, "a b", "d") is ChangeRefusal.CHANGE_IN_PROGRESS
    node.step(acknowledge(term=1, match=2))
    change(node, "a b", "d")


@pytest.mark.parametrize(
    ("voters", "learners", "reason"),
    [
        ("a", "", ChangeRefusal.MORE_THAN_ONE_VOTER),
        ("a b d", "", ChangeRefusal.MORE_THAN_ONE_VOTER),
        ("", "a b c", ChangeRefusal.NO_VOTERS),
        ("a b c d", "", ChangeRefusal.NOT_A_LEARNER),
    ],
)
def test_changes_that_are_not_one_safe_step_are_refused(voters: str, learners: str, reason: ChangeRefusal) -> None:
    assert refusal(leader(), voters, learners) is reason


def test_a_learner_becomes_a_voter_when_it_has_nearly_the_whole_log() -> None:  # thesis 4.2.1
    node = leader(max_entries=2)
    change(node, "a b c", "d")
    node.step(acknowledge(term=1, match=2), acknowledge(term=1, match=0, sender="d"))
    for _ in range(2):
        node.propose()
    assert refusal(node, "a b c d") is ChangeRefusal.NOT_CAUGHT_UP
    node.step(acknowledge(term=1, match=2, sender="d"))
    change(node, "a b c d")
    assert (node.raft.voters, node.raft.learners) == (("a", "b", "c", "d"), ())


def test_a_change_that_leaves_too_few_answering_voters_is_refused() -> None:
    node = leader()
    for number in range(2, 14):
        node.wait(0.1)
        node.step(acknowledge(term=1, match=1, sender="b", round_number=number))
    assert refusal(node, "a c") is ChangeRefusal.WOULD_LOSE_QUORUM
    change(node, "a b")


def test_a_change_is_in_force_at_once() -> None:  # thesis 4.1
    node = leader()
    change(node, "a b")
    assert node.raft.voters == ("a", "b")
    node.propose()
    node.step(acknowledge(term=1, match=3))
    assert node.raft.commit_index == 3


def test_a_learner_that_lacks_the_present_configuration_is_no_voter_yet() -> None:
    """However short the log is: it would not vote."""
    node = leader()
    change(node, "a b c", "d")
    node.step(*(acknowledge(term=1, match=2, sender=voter) for voter in "bc"))
    node.step(acknowledge(term=1, match=1, sender="d"))
    assert refusal(node, "a b c d") is ChangeRefusal.NOT_CAUGHT_UP
    node.step(acknowledge(term=1, match=2, sender="d"))
    change(node, "a b c d")


def test_learners_are_sent_the_log_and_not_counted() -> None:  # thesis 4.2.1
    node = leader()
    change(node, "a b c", "d")
    node.step(acknowledge(term=1, match=2))
    node.propose()
    assert node.appends("d")
    node.step(acknowledge(term=1, match=3, sender="d"))
    assert node.raft.commit_index == 2


def test_a_removed_node_is_not_sent_to_and_not_counted() -> None:
    node = leader(voters=("a", "b", "c", "d", "e"))
    change(node, "a b c d")
    node.take()
    node.propose()
    assert node.appends("e") == []
    node.step(acknowledge(term=1, match=3, sender="e"), acknowledge(term=1, match=3, sender="b"))
    assert node.raft.commit_index == 1


def test_a_leader_that_removes_itself_stays_until_that_is_committed() -> None:  # thesis 4.2.2
    node = leader()
    change(node, "b c")
    node.step(acknowledge(term=1, match=2))
    assert node.raft.role is Role.LEADER
    node.step(acknowledge(term=1, match=2, sender="c"))
    assert (node.raft.role, node.raft.deadline) == (Role.FOLLOWER, math.inf)


def test_a_follower_takes_a_configuration_when_it_is_appended_and_drops_it_when_it_is_truncated() -> None:
    node = NodeUnderTest(term=1, log=log_of(1))
    node.step(append(term=1, after=(1, 1), entries=(config(index=2, term=1, voters=("a", "b", "c", "d")),)))
    assert node.raft.voters == ("a", "b", "c", "d")
    node.step(append(term=2, sender="c", after=(1, 1), entries=log_of(1, 2)[1:]))
    assert node.raft.voters == ABC


def test_a_configuration_in_the_log_counts_after_a_restart() -> None:
    node = NodeUnderTest(term=1, log=(*log_of(1), config(index=2, term=1, voters=("a", "x"))))
    assert node.raft.voters == ("a", "x")


def test_a_node_that_joins_follows_a_leader_it_does_not_know_and_campaigns_once_it_votes() -> None:
    node = NodeUnderTest(voters=())
    assert node.raft.deadline == math.inf
    node.step(append(term=1, entries=(config(index=1, term=1, voters=("b", "c"), learners=("a",)),)))
    assert (node.raft.leader, node.raft.learners, node.raft.deadline) == ("b", ("a",), math.inf)
    node.step(append(term=1, after=(1, 1), entries=(config(index=2, term=1, voters=ABC),)))
    assert node.raft.deadline < math.inf


def test_configurations_are_remembered_by_index() -> None:
    first, second, third = (Membership.of(voters=(name,)) for name in "xyz")
    history = Configurations(first, base_index=0)
    history.appended(3, second)
    history.appended(7, third)
    assert [history.at(index) for index in (0, 2, 3, 6, 7, 9)] == [first, first, second, second, third, third]
    history.compacted(4)
    assert [history.at(index) for index in (4, 7)] == [second, third]
    history.truncated(7)
    assert (history.current, history.current_index) == (second, 4)


# --- snapshots ------------------------------------------------------------------------------------


def test_a_snapshot_replaces_the_log_and_is_acknowledged_and_loaded_when_durable() -> None:  # thesis 5.3
    node = NodeUnderTest(term=1, log=log_of(1, 1), persists=False)
    node.step(install(index=5, term=2))
    assert (node.replies(), node.restored) == ([], [])
    assert (node.raft.commit_index, node.raft.last_index, node.raft.applied_index) == (5, 5, 0)
    node.persist()
    assert [reply.match_index for reply in node.replies()] == [5]
    assert [snapshot.data for snapshot in node.restored] == [b"state"]
    assert (node.raft.applied_index, node.raft.voters) == (5, ("a", "b", "d"))


def test_entries_after_a_snapshot_that_is_being_written_are_handed_out_after_it() -> None:
    node = NodeUnderTest(term=2, persists=False)
    node.step(
        install(index=5, term=2),
        append(term=2, after=(5, 2), entries=log_of(1, 1, 1, 1, 1, 2)[5:], commit=6),
    )
    assert node.committed == []
    node.persist()
    assert len(node.restored) == 1
    assert [entry.index for entry in node.committed] == [6]


def test_a_snapshot_of_what_the_log_holds_commits_it_and_writes_nothing() -> None:
    node = NodeUnderTest(term=2, log=log_of(1, 2, 2))
    node.step(install(index=2, term=2))
    assert (node.raft.commit_index, node.raft.last_index, node.restored) == (2, 3, [])
    assert [reply.match_index for reply in node.replies()] == [2]


def test_an_old_snapshot_is_acknowledged_with_what_is_committed() -> None:
    node = NodeUnderTest(term=2, log=log_of(1, 2, 2))
    node.step(append(term=2, after=(3, 2), commit=3), install(index=2, term=2))
    assert [reply.match_index for reply in node.replies()] == [3, 3]
    assert node.restored == []


def test_a_follower_behind_the_logs_beginning_is_sent_the_snapshot_once() -> None:
    node = leader()
    node.propose()
    node.step(acknowledge(term=1, match=2, sender="c"))
    node.raft.compacted(node.raft.snapshot(b"state"), node.now)
    node.take()
    node.step(acknowledge(term=1, hint=(1, 1)))
    sent = [message for message in node.take() if isinstance(message, InstallSnapshot)]
    assert [(message.to, message.snapshot.index, message.snapshot.data) for message in sent] == [("b", 2, b"state")]
    node.propose()
    assert node.appends("b") == []
    node.step(acknowledge(term=1, match=2))
    assert [entry.index for message in node.appends("b") for entry in message.entries] == [3]


def test_a_snapshot_holds_the_configuration_of_its_index() -> None:
    node = leader()
    change(node, "a b c", "d")
    assert node.raft.snapshot(b"").membership == Membership(voters=ABC)
    node.step(acknowledge(term=1, match=2))
    assert node.raft.snapshot(b"").membership == Membership(voters=ABC, learners=("d",))


def test_a_node_starts_from_its_snapshot_and_the_log_after_it() -> None:
    snapshot = Snapshot(3, 1, Membership(voters=("a", "b")), b"state")
    node = NodeUnderTest(term=2, snapshot=snapshot, log=log_of(1, 1, 1, 2)[3:])
    assert (node.raft.applied_index, node.raft.commit_index, node.raft.last_index) == (3, 3, 4)
    assert node.raft.voters == ("a", "b")


def test_a_compaction_that_a_leaders_snapshot_has_overtaken_does_nothing() -> None:
    node = NodeUnderTest(term=1, log=log_of(1, 1))
    node.step(append(term=1, after=(2, 1), commit=2))
    mine = node.raft.snapshot(b"mine")
    node.step(install(index=5, term=2))
    node.raft.compacted(mine, node.now)
    assert node.raft.last_index == 5


def test_the_write_of_a_log_that_was_replaced_meanwhile_makes_nothing_durable() -> None:
    node = NodeUnderTest(term=1, persists=False)
    node.step(append(term=1, entries=log_of(1, 1, 1, 1, 1, 1, 1)))
    (entries_ticket,) = node.tickets
    node.step(install(index=5, term=2))
    node.raft.persisted(entries_ticket, node.now)
    node.drain()
    assert (node.restored, node.replies()) == ([], [])
    node.persist()
    assert [snapshot.index for snapshot in node.restored] == [5]
    assert [reply.match_index for reply in node.replies()] == [5]
