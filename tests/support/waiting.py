"""Wait for a condition with a deadline; never sleep and hope."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.01
PAUSE_SECONDS_MAX = 0.2  # who asks a cluster without pause keeps it from doing what is waited for


def wait_until(
    probe: Callable[[], T | None], *, what: str, timeout: float = 30.0, pause_max: float = PAUSE_SECONDS_MAX
) -> T:
    """The first value of `probe()` that is neither None nor False; fails the test after `timeout` seconds. The pauses
    between two looks grow up to `pause_max` seconds."""
    deadline = time.monotonic() + timeout
    pause = min(FIRST_PAUSE_SECONDS, pause_max)
    while True:
        value = probe()
        if value is not None and value is not False:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {timeout:g} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, pause_max)
