"""How often mysqld is looked at."""

from __future__ import annotations

import pytest

from raftctl.controller.pace import CHANGING_SECONDS, STEADY_SECONDS, Pace


def test_looks_are_rare_when_nothing_is_under_way() -> None:
    assert Pace().rest("primary", settled=True, now=5.0) == STEADY_SECONDS


def test_looks_get_rarer_the_longer_something_takes() -> None:
    pace = Pace()
    rests = [pace.rest("waits", settled=False, now=at) for at in (100.0, 100.2, 102.0, 200.0)]
    assert rests == [CHANGING_SECONDS, CHANGING_SECONDS, pytest.approx(0.1), STEADY_SECONDS]


def test_every_change_makes_them_frequent_again() -> None:
    pace = Pace()
    pace.rest("waits", settled=False, now=100.0)
    pace.rest("waits", settled=False, now=200.0)
    assert pace.rest("goes on", settled=False, now=200.0) == CHANGING_SECONDS
