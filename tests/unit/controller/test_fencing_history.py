"""A fencing that keeps failing does not fill the log."""

from __future__ import annotations

from raftctl.controller.fencing import is_worth_a_line


def test_success_and_fewer_and_fewer_failures_are_recorded() -> None:
    assert is_worth_a_line(0)
    assert [n for n in range(1, 3600) if is_worth_a_line(n)] == [2**k for k in range(12)]
