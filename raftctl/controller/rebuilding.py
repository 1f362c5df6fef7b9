"""A CLONE into the own mysqld: begun, watched, given up, and over only when the server came up with what was copied.

CLONE drops what the server has before it copies. One that was interrupted leaves a server without data, with an empty
gtid_executed and the relay logs of its former life: it must be cloned again and nothing else, whatever it seems to be.
The same goes for a copy whose first start, in which InnoDB applies the donor's redo log, did not come to its end: the
server says "Completed" after the next one, too. A mark in the controller's directory says so across restarts of mysqld,
controller and host.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Final

import msgspec

from raftctl.controller import rebuild_mark
from raftctl.controller.rebuild_mark import Mark
from raftctl.mysql.clone import CloneProgress

STALL_SECONDS: Final = 60.0  # the donor's host may be gone without a word
STALL_SECONDS_LOCAL: Final = 3600.0  # to drop all data, or to get what was copied on disk, takes time
AGAIN_SECONDS: Final = 5.0  # after an attempt; twice as long after each that brought nothing
AGAIN_SECONDS_MAX: Final = 300.0
_COPYING: Final = frozenset({"FILE COPY", "PAGE COPY", "REDO COPY"})  # the stages that need the donor


class Copy(enum.Enum):
    """What the data here are."""

    NONE = "none"  # no CLONE is pending
    INCOMPLETE = "incomplete"  # to be cloned again
    UNVERIFIED = "unverified"  # complete by the server's word, and InnoDB was not asked since it came up
    COMPLETE = "complete"


class Rebuilding:
    """`running`: the CLONE statement is under way. `donor` and `why` are those of the last one that this process
    began, "" without any; the next one is not to begin before `not_before`. Times: seconds of one monotonic clock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.running = False
        self.donor = ""
        self.why = ""
        self.began = 0.0
        self.not_before = 0.0
        self._attempts = 0
        self._progress: CloneProgress | None = None
        self._progress_at = 0.0

    @property
    def is_marked(self) -> bool:
        """Whether a CLONE began here that is not known to be complete."""
        return rebuild_mark.load(self._directory) is not None

    def begin(self, *, donor: str, why: str, now: float) -> None:
        """The mark is on disk when this returns. Raises OSError."""
        rebuild_mark.save(self._directory, Mark(donor))
        self.running, self.donor, self.why, self.began = True, donor, why, now
        self._attempts += 1
        self.failed(now)
        self._progress, self._progress_at = None, now

    def failed(self, now: float) -> None:
        """The next attempt is not due at once."""
        self.not_before = now + min(AGAIN_SECONDS * 2 ** (self._attempts - 1), AGAIN_SECONDS_MAX)

    def sending(self, before: str) -> None:
        """The CLONE statement is about to be sent to a server that knows of the one `before`. Raises OSError."""
        mark = rebuild_mark.load(self._directory) or Mark(self.donor)
        rebuild_mark.save(self._directory, msgspec.structs.replace(mark, before=before))

    def state(self, progress: CloneProgress | None, *, sound: bool | None) -> Copy:
        """`sound`: whether InnoDB found its data sound since mysqld came up, None when that is not known."""
        mark = rebuild_mark.load(self._directory)
        if mark is None:
            return Copy.NONE
        ended = not self.running and progress is not None and progress.state == "Completed"
        if not ended or mark.before in (None, progress.began if progress else "") or mark.starts > 1 or sound is False:
            return Copy.INCOMPLETE
        return Copy.COMPLETE if sound else Copy.UNVERIFIED

    def completed(self) -> None:
        """The mark goes. Raises OSError."""
        rebuild_mark.remove(self._directory)
        self._attempts, self.not_before = 0, 0.0

    def is_futile(self, primary: str, progress: CloneProgress | None, now: float) -> str:
        """Why the CLONE under way is to be given up, "" when it is not: it copies what nobody wants any more, or
        nothing comes."""
        if not self.running:
            return ""
        if primary not in ("", self.donor):
            return f"{primary} is the primary now"
        if progress != self._progress:
            self._progress, self._progress_at = progress, now
        if progress is None or progress.state != "In Progress":
            return ""  # what is to be thrown away is still being saved
        limit = STALL_SECONDS if progress.stage in _COPYING else STALL_SECONDS_LOCAL
        stalled = now - self._progress_at >= limit
        return f"{progress.stage.lower()}: nothing happened for {limit:g} s" if stalled else ""
