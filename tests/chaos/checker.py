"""What must be so after a run, whatever happened in it. Pure: histories and final contents in, violations out.

Only acknowledged operations promise something. One whose client got an error while committing may be there or not;
one that was refused before that must not be there.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tests.chaos.journal import Operation, Outcome, Work


class Final(msgspec.Struct, frozen=True):
    """What the primary holds in the end."""

    appended: list[int]
    ledger: list[tuple[int, int, int, int]]  # number, payer, payee, amount
    balances: dict[int, int]
    registers: dict[int, int]


class Reign(msgspec.Struct, frozen=True):
    """`member` became primary in `epoch`, not before `since` (monotonic seconds)."""

    epoch: int
    member: str
    since: float


class Counts(msgspec.Struct):
    """`surprising`: an error while committing, and it is there all the same; that is allowed."""

    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    surprising: int = 0
    lost: int = 0
    duplicates: int = 0
    reads: int = 0


def count(operations: Iterable[Operation]) -> Counts:
    counts = Counts()
    for op in operations:
        if op.work is Work.TOTAL:
            counts.reads += op.outcome is Outcome.OK
        elif op.outcome is Outcome.OK:
            counts.acknowledged += 1
        elif op.outcome is Outcome.FAILED:
            counts.failed += 1
        else:
            counts.unknown += 1
    return counts


def check_rows(operations: Sequence[Operation], work: Work, present: Iterable[int], counts: Counts) -> list[str]:
    """Each acknowledged number is there, none twice, none that was refused, none that nobody wrote."""
    copies = Counter(present)
    outcomes = {op.number: op for op in operations if op.work is work}
    found = []
    for number, op in outcomes.items():
        if op.outcome is Outcome.OK and number not in copies:
            counts.lost += 1
            found.append(f"lost: {_named(op)}")
        elif op.outcome is Outcome.FAILED and number in copies:
            found.append(f"refused and present: {_named(op)}")
        elif op.outcome is Outcome.UNKNOWN and number in copies:
            counts.surprising += 1
    for number, times in copies.items():
        if times > 1:
            counts.duplicates += 1
            found.append(f"{work} {number} is there {times} times")
        if number not in outcomes:
            found.append(f"{work} {number} is there and nobody wrote it")
    return found


def check_bank(operations: Iterable[Operation], final: Final, *, balance: int) -> list[str]:
    """No read ever saw another total, and the final balances are what the ledger says."""
    total = balance * len(final.balances)
    found = [
        f"a total of {op.saw} instead of {total}: {_named(op)}"
        for op in operations
        if op.work is Work.TOTAL and op.outcome is Outcome.OK and op.saw != total
    ]
    expected = dict.fromkeys(final.balances, balance)
    for _, payer, payee, amount in final.ledger:
        expected[payer] -= amount
        expected[payee] += amount
    if expected != final.balances:
        found.append(f"balances {final.balances} do not agree with the ledger, which makes them {expected}")
    return found


def check_registers(operations: Iterable[Operation], final: Mapping[int, int], counts: Counts) -> list[str]:
    """Each register's changes are linearizable. Values are unique and each change names the value it replaced, so
    there is one possible order: the chain back from the final value."""
    by_key: dict[int, list[Operation]] = defaultdict(list)
    for op in operations:
        if op.work is Work.CHANGE:
            by_key[op.key].append(op)
    found = []
    for key, changes in sorted(by_key.items()):
        found += [f"register {key}: {text}" for text in check_register(changes, final[key], counts)]
    return found


def check_register(changes: Sequence[Operation], final: int, counts: Counts) -> list[str]:
    """One register that began with 0: every acknowledged change is in the chain, no refused one is, and the chain's
    order agrees with real time."""
    by_value = {op.number: op for op in changes}
    chain: list[Operation] = []
    value = final
    while value:
        op = by_value.get(value)
        if op is None or len(chain) > len(changes):
            return [f"the value {value} was written by nobody"]
        chain.append(op)
        value = op.saw
    chain.reverse()
    members = {op.number for op in chain}
    found = []
    for op in changes:
        if op.outcome is Outcome.OK and op.number not in members:
            counts.lost += 1
            found.append(f"lost: {_named(op)}")
    found += [f"refused and present: {_named(op)}" for op in chain if op.outcome is Outcome.FAILED]
    counts.surprising += sum(op.outcome is Outcome.UNKNOWN for op in chain)
    return found + _out_of_order(chain)


def _out_of_order(chain: Sequence[Operation]) -> list[str]:
    """A change that ended before one in front of it in the chain began. One without an answer never ended."""
    found = []
    latest: Operation | None = None  # of those so far, the one that began last
    for op in chain:
        if latest and op.outcome is Outcome.OK and op.ended < latest.began:
            found.append(f"{_named(op)} follows {_named(latest)}, which began after it had ended")
        if latest is None or op.began > latest.began:
            latest = op
    return found


def check_reigns(operations: Iterable[Operation], reigns: Sequence[Reign]) -> list[str]:
    """Every acknowledgement fits into a reign of the member that gave it, in the order of the epochs.

    An operation that began after another one was acknowledged belongs to the same reign or to a later one; it ended
    after its reign had begun, and it began before the next one did: by then its member was fenced. Giving each
    the earliest reign that it can have shows whether there is a way: two members that acknowledge side by side leave
    none."""
    acknowledged = [op for op in operations if op.work is not Work.TOTAL and op.outcome is Outcome.OK]
    ordered = sorted(reigns, key=lambda reign: reign.epoch)
    ends = [*(reign.since for reign in ordered[1:]), float("inf")]
    ended: list[float] = []  # of operations placed so far, ascending, with the latest epoch up to there beside it
    latest: list[int] = []
    found = []
    for op in sorted(acknowledged, key=lambda op: op.began):
        position = bisect.bisect_left(ended, op.began)
        floor = latest[position - 1] if position else 0
        possible = (
            reign.epoch
            for reign, end in zip(ordered, ends, strict=True)
            if reign.member == op.member and reign.epoch >= floor and reign.since <= op.ended and op.began <= end
        )
        epoch = next(possible, 0)
        if not epoch:
            found.append(f"acknowledged outside of {op.member}'s reign, at epoch {floor} or later: {_named(op)}")
            continue
        _place(ended, latest, op.ended, epoch)
    return found


def _place(ended: list[float], latest: list[int], end: float, epoch: int) -> None:
    position = bisect.bisect_right(ended, end)
    before = latest[position - 1] if position else 0
    ended.insert(position, end)
    latest.insert(position, max(before, epoch))
    for later in range(position + 1, len(latest)):
        if latest[later] >= epoch:
            break
        latest[later] = epoch


def _named(op: Operation) -> str:
    return f"{op.work} {op.number} of {op.client} at {op.member}, {op.began:.3f} to {op.ended:.3f}"
