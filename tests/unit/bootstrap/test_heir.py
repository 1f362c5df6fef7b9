"""Whose log goes on when a membership is forced."""

from __future__ import annotations

import pytest

from raftctl.bootstrap.force import choose_heir
from raftctl.controller.forced import LogEnd
from raftctl.errors import HostError

HEIRS: dict[str, tuple[dict[str, LogEnd], tuple[str, int]]] = {
    "the longest log": ({"db1": LogEnd(1, 3, 9), "db2": LogEnd(1, 3, 10)}, ("db2", 2)),
    "the latest term": ({"db1": LogEnd(1, 4, 9), "db2": LogEnd(1, 3, 10)}, ("db1", 2)),
    "the target among equals": ({"db1": LogEnd(1, 3, 9), "db2": LogEnd(1, 3, 9)}, ("db2", 2)),
    "an attempt that was broken off goes on": ({"db1": LogEnd(2, 4, 11), "db2": LogEnd(1, 3, 9)}, ("db1", 2)),
    "an empty log of a later incarnation": ({"db1": LogEnd(2, 0, 0), "db2": LogEnd(1, 3, 9)}, ("db2", 3)),
}


@pytest.mark.parametrize(("ends", "heir"), HEIRS.values(), ids=HEIRS)
def test_the_heir(ends: dict[str, LogEnd], heir: tuple[str, int]) -> None:
    assert choose_heir(ends, target="db2", incarnation=2) == heir


def test_empty_logs_are_nothing_to_go_on_with() -> None:
    with pytest.raises(HostError, match="are empty"):
        choose_heir({"db1": LogEnd(2, 0, 0), "db2": LogEnd(2, 0, 0)}, target="db2", incarnation=2)
