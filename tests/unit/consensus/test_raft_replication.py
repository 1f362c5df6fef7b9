"""Log replication, rule by rule: paper figure 2 and sections 5.3 and 5.4; thesis 6.2, 6.4, 10.2.1."""

from __future__ import annotations

import math

import pytest

from raftctl.consensus.progress import MAX_IN_FLIGHT
from raftctl.consensus.types import AppendEntries, EntryKind, EventKind, NotLeader, Role
from tests.support.raft_node import NodeUnderTest, acknowledge, append, ask_vote, log_of


def leader(**settings: object) -> NodeUnderTest:
    node = NodeUnderTest(**settings)  # type: ignore[arg-type]
    node.become_leader()
    return node


# --- follower -------------------------------------------------------------------------------------


def test_entries_are_refused_when_their_predecessor_is_missing_or_of_another_term() -> None:  # figure 2, point 2
    node = NodeUnderTest(term=2, log=log_of(1, 1, 2))
    node.step(append(term=3, after=(5, 3)), append(term=3, after=(3, 3)))
    assert [(reply.success, reply.hint_index, reply.hint_term) for reply in node.replies()] == [
        (False, 3, 2),
        (False, 3, 2),
    ]


def test_the_hint_skips_a_whole_term() -> None:  # 5.3, end
    node = NodeUnderTest(term=4, log=log_of(1, 4, 4, 4, 4))
    node.step(append(term=5, after=(5, 3)))
    assert [(reply.hint_index, reply.hint_term) for reply in node.replies()] == [(1, 1)]


def test_a_conflict_truncates_and_is_reported() -> None:  # figure 2, points 3 and 4
    node = NodeUnderTest(term=2, log=log_of(1, 1, 2, 2))
    node.step(append(term=3, after=(2, 1), entries=log_of(1, 1, 3)[2:]))
    assert node.raft.last_index == 3
    assert [reply.match_index for reply in node.replies()] == [3]
    assert [event.detail["first"] for event in node.events if event.kind is EventKind.LOG_TRUNCATED] == [3]


def test_a_delayed_shorter_message_does_not_truncate() -> None:  # 5.3
    node = NodeUnderTest(term=1, log=log_of(1, 1, 1))
    node.step(append(term=1, after=(0, 0), entries=log_of(1)))
    assert node.raft.last_index == 3
    assert node.written == []


def test_only_what_was_verified_is_acknowledged_and_committed() -> None:  # figure 2, point 5
    node = NodeUnderTest(term=1, log=log_of(1, 1, 1))
    node.step(append(term=2, after=(1, 1), commit=3))
    assert [reply.match_index for reply in node.replies()] == [1]
    assert node.raft.commit_index == 1


def test_an_acknowledgement_leaves_only_when_the_entries_are_on_disk() -> None:
    node = NodeUnderTest(term=1, persists=False)
    node.step(append(term=1, entries=log_of(1, 1)))
    assert node.replies() == []
    node.persist()
    assert [reply.match_index for reply in node.replies()] == [2]


def test_nothing_is_answered_in_a_term_that_is_not_on_disk() -> None:
    node = NodeUnderTest(persists=False)
    node.step(append(term=1))
    assert node.replies() == []
    node.persist()
    assert [reply.term for reply in node.replies()] == [1]


def test_a_heartbeat_is_answered_while_a_write_goes_on() -> None:
    node = NodeUnderTest(term=1, persists=False)
    node.step(append(term=1, entries=log_of(1)), append(term=1, after=(1, 1), round_number=2))
    assert [(reply.match_index, reply.round) for reply in node.replies()] == [(0, 2)]


def test_committed_entries_are_handed_out_only_when_durable_here() -> None:
    node = NodeUnderTest(term=1, persists=False)
    node.step(append(term=1, entries=log_of(1, 1), commit=2))
    assert (node.raft.commit_index, node.committed) == (2, [])
    node.persist()
    assert node.committed == list(log_of(1, 1))
    assert node.raft.applied_index == 2


def test_an_acknowledgement_that_waits_is_dropped_with_its_term() -> None:
    node = NodeUnderTest(term=1, persists=False)
    node.step(append(term=1, entries=log_of(1, 1)), ask_vote(term=2, last=(9, 2), transfer=True))
    node.persist()
    assert [type(message).__name__ for message in node.take()] == ["RequestVoteReply"]


def test_an_old_leader_is_told_the_current_term() -> None:  # figure 2, point 1
    node = NodeUnderTest(term=5)
    node.step(append(term=4, entries=log_of(4)))
    assert [(reply.success, reply.term) for reply in node.replies()] == [(False, 5)]
    assert node.raft.last_index == 0


# --- leader: sending ------------------------------------------------------------------------------


def test_a_new_leader_announces_itself_and_appends_a_noop() -> None:  # 5.2, thesis 6.4
    node = NodeUnderTest(term=1, log=log_of(1))
    node.become_leader()
    assert [(entry.index, entry.term) for entry in node.written] == [(2, 2)]
    node.step(acknowledge(term=2, match=2), append(term=3, sender="b", after=(2, 2)))
    node.become_leader()
    assert [entry.kind for entry in node.written] == [EntryKind.CONFIG, EntryKind.NOOP]


def test_the_first_leader_writes_down_who_votes_and_later_settings_do_not_count() -> None:
    node = leader()
    restarted = NodeUnderTest(voters=("a", "x", "y"), term=1, log=tuple(node.written))
    assert restarted.raft.voters == ("a", "b", "c")


def test_heartbeats_are_sent_every_interval() -> None:
    node = leader()
    for _ in range(5):
        node.step(acknowledge(term=1, match=1), acknowledge(term=1, match=1, sender="c"))
        node.take()
        node.now = node.raft.deadline
        node.raft.tick(node.now)
        node.drain()
        assert {(m.to, m.entries) for m in node.take() if isinstance(m, AppendEntries)} == {("b", ()), ("c", ())}
    assert node.now == pytest.approx(node.raft.deadline - 0.1)


def test_heartbeats_and_entries_go_out_while_the_own_write_goes_on() -> None:  # thesis 10.2.1
    node = NodeUnderTest(persists=False)
    node.become_leader()
    node.step(acknowledge(term=1, match=1))
    node.propose()
    assert [entry.index for message in node.appends("b") for entry in message.entries] == [2]
    node.wait(0.1)
    assert len(node.appends("b")) == 1


def test_proposals_between_two_readies_share_a_message() -> None:
    node = leader()
    node.step(acknowledge(term=1, match=1))
    node.take()
    for _ in range(5):
        node.raft.propose(b"x", node.now)
    node.drain()
    assert [len(message.entries) for message in node.appends("b")] == [5]


def test_messages_keep_to_the_limits_of_entries_and_bytes() -> None:
    node = leader(max_entries=3, max_bytes=100)
    node.step(acknowledge(term=1, match=1))
    node.take()
    for size in (10, 10, 10, 60, 60, 500, 10):
        node.raft.propose(b"x" * size, node.now)
    node.drain()
    assert [[len(entry.data) for entry in message.entries] for message in node.appends("b")] == [
        [10, 10, 10],
        [60],
        [60],
        [500],
        [10],
    ]


def test_the_number_of_unacknowledged_messages_is_bounded() -> None:
    node = leader()
    node.step(acknowledge(term=1, match=1))
    for _ in range(MAX_IN_FLIGHT + 10):
        node.propose()
    assert sum(1 for message in node.appends("b") if message.entries) == MAX_IN_FLIGHT
    node.step(acknowledge(term=1, match=3))
    assert sum(len(message.entries) for message in node.appends("b")) == 10


def test_a_refusal_moves_back_to_where_the_logs_can_agree() -> None:  # 5.3
    node = NodeUnderTest(term=6, log=log_of(1, 1, 2, 2, 5, 6))
    node.become_leader()
    node.step(acknowledge(term=7, hint=(5, 4)))
    assert [(m.prev_log_index, m.prev_log_term, len(m.entries)) for m in node.appends("b")] == [(4, 2, 3)]


def test_a_lost_message_is_found_out_by_the_next_heartbeat_and_sent_again() -> None:
    node = leader()
    node.step(acknowledge(term=1, match=1))
    node.propose()
    node.take()
    node.wait(0.1)
    assert [message.prev_log_index for message in node.appends("b")] == [2]
    node.step(acknowledge(term=1, hint=(1, 1), round_number=2))
    assert [len(message.entries) for message in node.appends("b")] == [1]


def test_after_a_lost_connection_one_message_looks_where_the_follower_is() -> None:
    node = leader()
    node.step(acknowledge(term=1, match=1))
    node.propose()
    node.propose()
    node.take()
    node.raft.peer_lost("b", node.now)
    node.drain()
    node.propose()
    appends = node.appends("b")
    assert [(message.prev_log_index, len(message.entries)) for message in appends] == [(1, 2)]


# --- leader: commit -------------------------------------------------------------------------------


def test_an_entry_commits_when_a_majority_holds_it() -> None:  # 5.3
    node = leader(voters=("a", "b", "c", "d", "e"))
    node.step(acknowledge(term=1, match=1))
    assert node.raft.commit_index == 0
    node.step(acknowledge(term=1, match=1), acknowledge(term=1, match=1))
    assert node.raft.commit_index == 0
    node.step(acknowledge(term=1, match=1, sender="c"))
    assert node.raft.commit_index == 1


def test_the_leader_counts_itself_only_when_its_write_is_done() -> None:  # thesis 10.2.1
    node = NodeUnderTest(persists=False)
    node.become_leader()
    node.step(acknowledge(term=1, match=1))
    assert node.raft.commit_index == 0
    node.persist()
    assert node.raft.commit_index == 1


def test_two_followers_commit_without_the_leader_which_hands_out_later() -> None:
    node = NodeUnderTest(persists=False)
    node.become_leader()
    node.step(acknowledge(term=1, match=1), acknowledge(term=1, match=1, sender="c"))
    assert (node.raft.commit_index, node.committed) == (1, [])
    node.persist()
    assert [entry.index for entry in node.committed] == [1]


def test_entries_of_earlier_terms_commit_only_with_one_of_the_own() -> None:  # 5.4.2
    node = NodeUnderTest(term=2, log=log_of(1, 2))
    node.become_leader()
    node.step(acknowledge(term=3, match=2), acknowledge(term=3, match=2, sender="c"))
    assert node.raft.commit_index == 0
    node.step(acknowledge(term=3, match=3))
    assert node.raft.commit_index == 3


def test_followers_are_told_of_a_commit_after_a_moment() -> None:
    """Whoever waits for the commit is answered first."""
    node = leader(commit_notice_delay=0.001)
    node.step(acknowledge(term=1, match=1))
    assert [entry.index for entry in node.committed] == [1]
    assert node.appends("b") == []
    assert node.raft.deadline == node.now + 0.001
    node.step(acknowledge(term=1, match=1, sender="c"))
    node.wait(0.001)
    told = [message for message in node.take() if isinstance(message, AppendEntries)]
    assert [(message.to, message.commit_index) for message in told] == [("b", 1), ("c", 1)]
    node.wait(0.001)
    assert node.take() == [], "told once"


def test_a_follower_that_was_silent_at_the_commit_is_told_when_it_answers() -> None:
    node = leader(commit_notice_delay=0.001)
    node.step(acknowledge(term=1, match=1))
    node.wait(0.001)
    assert node.appends("c") == []
    node.step(acknowledge(term=1, match=1, sender="c"))
    node.wait(0.001)
    assert [message.commit_index for message in node.appends("c")] == [1]


def test_an_append_tells_of_a_commit_and_saves_the_notice() -> None:
    node = leader(commit_notice_delay=0.001)
    node.step(acknowledge(term=1, match=1), acknowledge(term=1, match=1, sender="c"))
    node.propose()
    assert [message.commit_index for message in node.appends("b")] == [1]
    node.wait(0.001)
    assert node.take() == []


def test_an_acknowledgement_for_what_was_never_sent_is_ignored() -> None:
    node = leader()
    node.step(acknowledge(term=1, match=5), acknowledge(term=1, match=1, round_number=99))
    assert node.raft.commit_index == 0
    assert [event.detail["reason"] for event in node.events[-2:]] == ["never-sent", "never-sent"]


def test_only_a_leader_takes_proposals() -> None:
    node = NodeUnderTest()
    with pytest.raises(NotLeader) as caught:
        node.propose()
    assert caught.value.leader_hint == ""
    node.step(append(term=1, sender="c"))
    with pytest.raises(NotLeader) as caught:
        node.propose()
    assert caught.value.leader_hint == "c"


# --- quorum contact, check-quorum -----------------------------------------------------------------


def test_quorum_contact_is_when_the_answered_round_was_sent() -> None:
    node = leader(voters=("a", "b", "c", "d", "e"))
    began = node.now
    assert node.raft.quorum_contact(node.now) == -math.inf
    node.wait(0.1)
    node.now += 0.5
    node.step(acknowledge(term=1, match=1, round_number=2), acknowledge(term=1, match=1, sender="c", round_number=1))
    assert node.raft.quorum_contact(node.now) == began
    node.step(acknowledge(term=1, match=1, sender="d", round_number=2))
    assert node.raft.quorum_contact(node.now) == began + 0.1


def test_a_leader_without_answers_steps_down_after_an_election_timeout() -> None:  # thesis 6.2
    node = leader()
    began = node.now
    for _ in range(20):
        if node.raft.role is Role.LEADER:
            node.time_out()
    assert node.raft.role is Role.FOLLOWER
    assert node.now == pytest.approx(began + 1.0)
    assert node.events[-1].detail["reason"] == "no-contact-with-a-majority"
    with pytest.raises(NotLeader):
        node.raft.quorum_contact(node.now)


def test_a_leader_that_slept_steps_down_before_it_does_anything_else() -> None:
    node = leader()
    node.step(acknowledge(term=1, match=1))
    node.wait(5.0)
    assert node.raft.role is Role.FOLLOWER


def test_a_leader_whose_disk_hangs_steps_down_and_does_not_campaign() -> None:
    node = NodeUnderTest(persists=False)
    node.become_leader()
    for number in range(1, 12):
        node.step(acknowledge(term=1, match=1, round_number=number))
        node.wait(0.1)
    assert node.raft.role is Role.FOLLOWER
    assert node.events[-1].detail["reason"] == "own-disk-hangs"
    node.take()
    node.time_out()
    assert node.take() == []
    node.persist()
    node.time_out()
    assert node.raft.role is Role.PRE_CANDIDATE


# --- reads ----------------------------------------------------------------------------------------


def test_a_read_waits_for_a_round_that_began_after_it() -> None:  # thesis 6.4
    node = leader()
    node.step(acknowledge(term=1, match=1))
    node.raft.read_index(7, node.now)
    node.drain()
    assert [message.round for message in node.appends("b")][-1] == 2
    node.step(acknowledge(term=1, match=1, sender="c", round_number=1))
    assert node.reads == []
    node.step(acknowledge(term=1, match=1, sender="c", round_number=2))
    assert [(read.request_id, read.index) for read in node.reads] == [(7, 1)]


def test_a_read_waits_for_a_commit_of_the_leaders_own_term() -> None:  # thesis 6.4, step 1
    node = NodeUnderTest(term=1, log=log_of(1))
    node.become_leader()
    node.raft.read_index(7, node.now)
    node.drain()
    node.step(acknowledge(term=2, match=1, round_number=2))
    assert node.reads == []
    node.step(acknowledge(term=2, match=2, round_number=2))
    assert [(read.request_id, read.index) for read in node.reads] == [(7, 2)]


def test_reads_between_two_readies_share_a_round() -> None:
    node = leader()
    node.take()
    for number in range(10):
        node.raft.read_index(number, node.now)
    node.drain()
    assert len(node.appends("b")) == 1


def test_reads_fail_when_the_leadership_is_lost() -> None:
    node = leader()
    node.raft.read_index(7, node.now)
    node.step(append(term=2, sender="c"))
    assert [(read.request_id, read.index) for read in node.reads] == [(7, None)]


def test_a_lone_voter_reads_without_asking_anybody() -> None:
    node = NodeUnderTest(voters=("a",))
    node.time_out()
    node.raft.read_index(7, node.now)
    node.drain()
    assert [(read.request_id, read.index) for read in node.reads] == [(7, 1)]


# --- transfer -------------------------------------------------------------------------------------


def test_a_transfer_waits_until_the_target_has_the_log() -> None:  # thesis 3.10
    node = leader()
    node.raft.transfer("b", node.now)
    node.drain()
    with pytest.raises(NotLeader) as caught:
        node.propose()
    assert caught.value.leader_hint == "b"
    assert "TimeoutNow" not in [type(message).__name__ for message in node.take()]
    node.step(acknowledge(term=1, match=1))
    assert "TimeoutNow" in [type(message).__name__ for message in node.take()]


def test_a_transfer_is_given_up_after_an_election_timeout() -> None:
    node = leader()
    node.raft.transfer("b", node.now)
    for _ in range(11):
        node.wait(0.1)
        node.step(acknowledge(term=1, match=1, sender="c", round_number=1))
        if node.raft.role is Role.LEADER:
            last = max(message.round for message in node.appends("c"))
            node.step(acknowledge(term=1, match=1, sender="c", round_number=last))
    assert EventKind.TRANSFER_ABORTED in [event.kind for event in node.events]
    assert node.propose() == 2
