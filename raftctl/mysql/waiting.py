"""Waiting for a condition that has to be asked for."""

from __future__ import annotations

import time
from collections.abc import Callable

from raftctl.mysql.client import Connection
from raftctl.mysql.errors import NotVerified

_POLL_INTERVAL_S = 0.002


def becomes_true(condition: Callable[[], bool], timeout: float) -> bool:
    """Ask until `condition` holds; False when it still does not after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_INTERVAL_S)
    return True


def require(conn: Connection, what: str, condition: Callable[[], bool], timeout: float) -> None:
    """As `becomes_true`, but raises NotVerified, which says `what` was waited for."""
    if not becomes_true(condition, timeout):
        raise NotVerified(f"{conn.endpoint}: waited {timeout:g} s for {what}")
