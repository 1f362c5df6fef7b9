"""The parts without messages: quorums, the log, tickets. Properties against dumb twins."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftctl.consensus.log import RaftLog
from raftctl.consensus.membership import Membership, majority
from raftctl.consensus.outbox import Outbox
from raftctl.consensus.types import Entry, EntryKind, RequestVoteReply
from tests.support.raft_node import log_of

# --- quorums --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (9, 5)])
def test_a_majority_is_more_than_half(voters: int, needed: int) -> None:
    assert majority(voters) == needed


def test_no_voters_have_no_majority() -> None:
    with pytest.raises(ValueError, match="no voters"):
        majority(0)


@pytest.mark.parametrize("size", range(1, 8))
def test_any_two_quorums_share_a_voter(size: int) -> None:
    members = Membership(voters=tuple(f"n{number}" for number in range(size)))
    quorums = [
        set(chosen)
        for count in range(size + 1)
        for chosen in itertools.combinations(members.voters, count)
        if members.is_quorum(chosen)
    ]
    assert quorums
    assert all(one & other for one in quorums for other in quorums)


def test_strangers_and_learners_make_no_quorum() -> None:
    members = Membership(voters=("a", "b", "c"), learners=("d", "e"))
    assert not members.is_quorum(["a", "d", "e", "x"])
    assert members.is_quorum(["a", "b"])


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9))
def test_the_agreed_value_is_the_greatest_that_a_majority_reached(values: list[int]) -> None:
    members = Membership(voters=tuple(str(number) for number in range(len(values))))
    reached = [value for value in range(21) if sum(v >= value for v in values) >= len(values) // 2 + 1]
    assert members.agreed(lambda voter: values[int(voter)]) == max(reached)


# --- log ------------------------------------------------------------------------------------------


def suffix(first: int, *terms: int) -> tuple[Entry, ...]:
    return tuple(
        Entry(index=first + offset, term=term, kind=EntryKind.COMMAND, data=b"") for offset, term in enumerate(terms)
    )


def log_with(*terms: int) -> RaftLog:
    """A durable log whose entry i has the i-th of `terms`."""
    return RaftLog(suffix(1, *terms), initial=Membership(voters=("a", "b", "c")))


@st.composite
def two_logs(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """The terms of two logs that Raft allows, and the length of their common beginning: after they part, the same
    index never has the same term."""
    common = sorted(draw(st.lists(st.integers(1, 3), max_size=5)))
    last = common[-1] if common else 1
    mine = common + sorted(draw(st.lists(st.sampled_from([last + 1, last + 3]), max_size=5)))
    leaders = common + sorted(draw(st.lists(st.sampled_from([last + 2, last + 4]), max_size=5)))
    return mine, leaders, len(common)


@given(logs=two_logs(), data=st.data())
def test_merging_any_part_of_a_leaders_log_truncates_only_on_conflict(
    logs: tuple[list[int], list[int], int], data: st.DataObject
) -> None:
    mine, leaders, shared = logs
    start = data.draw(st.integers(0, shared))
    end = data.draw(st.integers(start, len(leaders)))
    log = log_with(*mine)
    truncated = log.merge(suffix(start + 1, *leaders[start:end]))
    conflict = end > shared and len(mine) > shared
    expected = leaders[:end] if end > shared else mine
    assert [log.term_at(index) for index in range(1, log.last_index + 1)] == expected
    assert truncated == (shared + 1 if conflict else None)


@given(logs=two_logs())
def test_exchanging_hints_finds_where_the_logs_agree(logs: tuple[list[int], list[int], int]) -> None:
    """One exchange for every term at most, and never past the common beginning."""
    mine, leaders, shared = logs
    follower, leader = log_with(*mine), log_with(*leaders)
    previous = leader.last_index
    for _ in range(len(set(mine) | set(leaders)) + 1):
        term = leader.term_at(previous)
        assert term is not None
        if follower.term_at(previous) == term:
            break
        previous, _ = leader.agreement_hint(*follower.agreement_hint(previous, term))
        assert previous >= shared
    assert mine[:previous] == leaders[:previous]


def test_committed_entries_are_never_truncated() -> None:
    log = log_with(1, 1)
    log.commit_to(2)
    with pytest.raises(AssertionError, match="committed entry 2"):
        log.merge(suffix(2, 2))


def test_a_write_in_flight_is_not_credited_with_what_was_truncated_meanwhile() -> None:
    log = log_with()
    log.merge(suffix(1, 1, 1, 1))
    assert [entry.index for entry in log.stage(1)[1]] == [1, 2, 3]
    log.merge(suffix(2, 2))
    assert [(entry.index, entry.term) for entry in log.stage(2)[1]] == [(2, 2)]
    log.written(1)
    assert log.durable_index == 1
    log.written(2)
    assert log.durable_index == 2


def test_one_report_covers_earlier_tickets() -> None:
    log = log_with()
    for ticket, entry in enumerate(log_of(1, 1, 1), start=1):
        log.append(entry)
        log.stage(ticket)
    log.written(2)
    assert log.durable_index == 2
    log.written(3)
    assert log.durable_index == 3


def test_a_log_with_a_gap_is_refused() -> None:
    with pytest.raises(AssertionError, match="entry 3 after 1"):
        RaftLog((*log_of(1), *suffix(3, 1)), initial=Membership(voters=("a",)))


# --- tickets --------------------------------------------------------------------------------------


def test_messages_wait_for_the_ticket_that_holds_what_they_depend_on() -> None:
    outbox = Outbox()
    first, second, third = (RequestVoteReply(sender="a", to="b", term=term, granted=True) for term in (1, 2, 3))
    outbox.change_hard_state()
    outbox.send_when_durable(first, unstaged=False)
    assert outbox.open_ticket(now=0.0) == 1
    outbox.send_when_durable(second, unstaged=False)
    outbox.send_when_durable(third, unstaged=True)
    assert outbox.open_ticket(now=0.0) == 2
    assert not outbox.hard_state_durable
    assert outbox.close_ticket(1) == [first, second]
    assert outbox.hard_state_durable
    assert outbox.close_ticket(2) == [third]
    outbox.send_when_durable(first, unstaged=False)
    assert outbox.messages == [first]


def test_a_ticket_that_was_never_issued_is_an_error() -> None:
    with pytest.raises(AssertionError, match="ticket 1 was not issued"):
        Outbox().close_ticket(1)
