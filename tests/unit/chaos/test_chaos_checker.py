"""The checker finds what it is there to find: each rule broken once, and histories that are allowed let through."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.checker import (
    Counts,
    Final,
    Reign,
    check_bank,
    check_register,
    check_reigns,
    check_rows,
    count,
)
from tests.chaos.journal import Operation, Outcome, Work


def op(
    *,
    number: int,
    began: float = 0.0,
    ended: float = 1.0,
    work: Work = Work.APPEND,
    outcome: Outcome = Outcome.OK,
    member: str = "db1",
    saw: int = 0,
) -> Operation:
    return Operation(
        client="c", work=work, member=member, began=began, ended=ended, outcome=outcome, number=number, saw=saw
    )


def change(number: int, saw: int, began: float, ended: float, outcome: Outcome = Outcome.OK) -> Operation:
    return op(number=number, saw=saw, began=began, ended=ended, outcome=outcome, work=Work.CHANGE)


# --- rows -----------------------------------------------------------------------------------------------


def rows(operations: list[Operation], present: list[int]) -> tuple[list[str], Counts]:
    counts = count(operations)
    return check_rows(operations, Work.APPEND, present, counts), counts


def test_acknowledged_rows_that_are_there_once_are_fine() -> None:
    found, counts = rows([op(number=1), op(number=2, outcome=Outcome.FAILED)], [1])
    assert (found, counts.acknowledged, counts.failed) == ([], 1, 1)


def test_a_missing_acknowledged_row_is_lost() -> None:
    found, counts = rows([op(number=1)], [])
    assert (len(found), counts.lost) == (1, 1)


def test_a_row_that_is_there_twice_is_a_duplicate() -> None:
    found, counts = rows([op(number=1)], [1, 1])
    assert (len(found), counts.duplicates) == (1, 1)


def test_a_refused_row_must_not_be_there_and_an_unsure_one_may() -> None:
    assert len(rows([op(number=1, outcome=Outcome.FAILED)], [1])[0]) == 1
    for present in ([], [1]):
        found, counts = rows([op(number=1, outcome=Outcome.UNKNOWN)], present)
        assert (found, counts.surprising) == ([], len(present))


def test_a_row_that_nobody_wrote_is_found() -> None:
    assert len(rows([], [7])[0]) == 1


# --- bank -----------------------------------------------------------------------------------------------


def bank(*, balances: dict[int, int], seen: int = 20) -> list[str]:
    final = Final(appended=[], ledger=[(1, 0, 1, 3)], balances=balances, registers={})
    return check_bank([op(number=1, work=Work.TOTAL, saw=seen)], final, balance=10)


def test_the_bank_balances() -> None:
    assert bank(balances={0: 7, 1: 13}) == []


def test_a_torn_transfer_is_found() -> None:
    assert len(bank(balances={0: 7, 1: 10})) == 1
    assert len(bank(balances={0: 7, 1: 13}, seen=17)) == 1


# --- registers ------------------------------------------------------------------------------------------


def test_changes_one_after_the_other_are_a_chain() -> None:
    assert check_register([change(1, 0, 0, 1), change(2, 1, 2, 3)], 2, Counts()) == []


def test_a_change_that_read_an_older_value_lost_the_one_between() -> None:
    counts = Counts()
    found = check_register([change(1, 0, 0, 1), change(2, 0, 2, 3)], 2, counts)
    assert (len(found), counts.lost) == (1, 1)


def test_an_order_against_real_time_is_found() -> None:
    assert len(check_register([change(1, 2, 0, 1), change(2, 0, 2, 3)], 1, Counts())) == 1


def test_an_unsure_change_may_take_effect_at_any_later_time() -> None:
    unsure = change(1, 2, 0, 1, Outcome.UNKNOWN)
    assert check_register([unsure, change(2, 0, 2, 3)], 1, Counts()) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 3), st.sampled_from(list(Outcome))), max_size=4
    ),
    st.integers(0, 4),
)
def test_agrees_with_trying_every_order(drawn: list[tuple[int, int, int, Outcome]], final: int) -> None:
    changes = [
        change(number, saw, began, began + took, outcome)
        for number, (saw, began, took, outcome) in enumerate(drawn, start=1)
        if saw != number
    ]
    assert (check_register(changes, final, Counts()) == []) == linearizable(changes, final)


def linearizable(changes: list[Operation], final: int) -> bool:
    """By definition: some order of all acknowledged and some unsure changes explains every value read and the final
    one, and no change stands behind one that began after it had ended."""
    acknowledged = [c for c in changes if c.outcome is Outcome.OK]
    unsure = [c for c in changes if c.outcome is Outcome.UNKNOWN]
    for size in range(len(unsure) + 1):
        for some in itertools.combinations(unsure, size):
            if any(_explains(order, final) for order in itertools.permutations([*acknowledged, *some])):
                return True
    return False


def _explains(order: tuple[Operation, ...], final: int) -> bool:
    value = 0
    for place, step in enumerate(order):
        if step.saw != value:
            return False
        value = step.number
        if step.outcome is Outcome.OK and any(step.ended < earlier.began for earlier in order[:place]):
            return False
    return value == final


# --- reigns ---------------------------------------------------------------------------------------------

REIGNS = [
    Reign(epoch=1, member="db1", since=0),
    Reign(epoch=2, member="db2", since=10),
    Reign(epoch=3, member="db1", since=20),
]


def test_acknowledgements_in_the_order_of_the_reigns_are_fine() -> None:
    history = [
        op(number=1, began=1, ended=2),
        op(number=2, began=9, ended=12, member="db2"),
        op(number=3, began=8, ended=13),  # sent before the change of primary; the answer came late
        op(number=4, began=21, ended=22),
    ]
    assert check_reigns(history, REIGNS) == []


def test_the_old_primary_acknowledges_beside_the_new_one() -> None:
    history = [
        op(number=1, began=11, ended=12, member="db2"),
        op(number=2, began=13, ended=14, member="db1"),
    ]
    assert len(check_reigns(history, REIGNS)) == 1


def test_two_members_take_turns_in_one_reign() -> None:
    history = [
        op(number=1, began=21, ended=22, member="db1"),
        op(number=2, began=23, ended=24, member="db2"),
    ]
    assert len(check_reigns(history, REIGNS)) == 1


def test_a_member_that_never_was_primary_acknowledges() -> None:
    assert len(check_reigns([op(number=1, member="db3")], REIGNS)) == 1
