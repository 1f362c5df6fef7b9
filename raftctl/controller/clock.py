"""The clock of leases, elections and silences. Standard library only.

It never goes back, and unlike CLOCK_MONOTONIC it goes on while the host is suspended to memory or disk: a primary that
sleeps through its lease wakes up without one, and a leader that sleeps does not take what it knew for fresh
(https://www.kernel.org/doc/html/latest/core-api/timekeeping.html). A virtual machine that its hypervisor pauses cannot
see that by any clock; see docs/failures.md.
"""

from __future__ import annotations

import time


def now() -> float:
    """Seconds, from an unknown beginning; the same for all processes of a host."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
