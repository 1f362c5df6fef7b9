"""How often a controller looks at its mysqld."""

from __future__ import annotations

from typing import Final

STEADY_SECONDS: Final = 0.5  # between two looks when nothing is under way
CHANGING_SECONDS: Final = 0.02
RETRY_SECONDS: Final = 0.2  # after an action failed
_SHARE: Final = 0.05


class Pace:
    """Times are seconds of one monotonic clock, passed in."""

    def __init__(self) -> None:
        self._situation: object = None
        self._since = 0.0

    def rest(self, situation: object, *, settled: bool, now: float) -> float:
        """Seconds until the next look. While something is under way they are a twentieth of the time for which the
        situation has been as it is: a change is noticed at once, and waiting for long costs mysqld little."""
        if situation != self._situation:
            self._situation, self._since = situation, now
        if settled:
            return STEADY_SECONDS
        return min(max(CHANGING_SECONDS, _SHARE * (now - self._since)), STEADY_SECONDS)
