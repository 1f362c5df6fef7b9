"""Which directions a partition drops."""

from __future__ import annotations

import pytest

from raftctl.errors import UsageError
from raftctl.sandbox.network import cuts, free_ports

MEMBERS = ["db1", "db2", "db3"]


def both(*pairs: tuple[str, str]) -> set[tuple[str, str]]:
    return {*pairs, *((b, a) for a, b in pairs)}


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([["db1"]], both(("db1", "db2"), ("db1", "db3"))),
        ([["db1", "db2"]], both(("db1", "db3"), ("db2", "db3"))),
        ([["db1"], ["db2", "db3"]], both(("db1", "db2"), ("db1", "db3"))),
        ([["db1"], ["db2"]], both(("db1", "db2"), ("db1", "db3"), ("db2", "db3"))),
    ],
)
def test_members_not_named_form_one_more_side(sides: list[list[str]], expected: set[tuple[str, str]]) -> None:
    assert cuts(MEMBERS, sides, one_way=False) == expected


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([["db1"]], {("db1", "db2"), ("db1", "db3")}),
        ([["db1"], ["db2"]], {("db1", "db2")}),
        ([["db1", "db2"], ["db3"]], {("db1", "db3"), ("db2", "db3")}),
    ],
)
def test_one_way_drops_only_from_the_first_side(sides: list[list[str]], expected: set[tuple[str, str]]) -> None:
    assert cuts(MEMBERS, sides, one_way=True) == expected


@pytest.mark.parametrize(
    ("sides", "one_way", "message"),
    [
        ([["db9"]], False, "not a member"),
        ([["db1"], ["db1", "db2"]], False, "named twice"),
        ([["db1", "db2", "db3"]], False, "cuts nothing"),
        ([["db1"], ["db2"], ["db3"]], True, "two sides"),
    ],
)
def test_nonsense_is_refused(sides: list[list[str]], one_way: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cuts(MEMBERS, sides, one_way=one_way)


def test_free_ports_are_distinct_and_below_the_ephemeral_range() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < 32768
