"""A CLONE into the own mysqld: begun, watched, given up, and over only when the server says that it is complete.

CLONE drops what the server has before it copies. One that was interrupted leaves a server without data, with an empty
gtid_executed and the relay logs of its former life: it must be cloned again and nothing else, whatever it seems to be.
A mark in the controller's directory says so across restarts of mysqld, controller and host.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from raftctl.mysql.clone import CloneProgress

MARK: Final = "rebuilding"
STALL_SECONDS: Final = 60.0  # the donor's host may be gone without a word
_COPYING: Final = frozenset({"FILE COPY", "PAGE COPY", "REDO COPY"})  # the stages that need the donor


class Rebuilding:
    """`running`: the CLONE statement is under way. `donor` and `why` are those of the last one that this process
    began, "" without any; the next one is not to begin before `not_before`. Times: seconds of one monotonic clock."""

    def __init__(self, directory: Path) -> None:
        self._mark = directory / MARK
        self.running = False
        self.donor = ""
        self.why = ""
        self.began = 0.0
        self.not_before = 0.0
        self._progress: CloneProgress | None = None
        self._progress_at = 0.0

    @property
    def is_marked(self) -> bool:
        """Whether a CLONE began here that is not known to be complete."""
        return self._mark.exists()

    def begin(self, *, donor: str, why: str, now: float) -> None:
        """The mark is on disk when this returns. Raises OSError."""
        with self._mark.open("w") as file:
            file.write(donor)
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(self._mark.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.running, self.donor, self.why, self.began = True, donor, why, now
        self._progress, self._progress_at = None, now

    def completed(self, progress: CloneProgress | None) -> bool:
        """Whether the CLONE that the mark stands for is complete; then the mark goes. Raises OSError."""
        if self.running or progress is None or progress.state != "Completed":
            return False
        self._mark.unlink(missing_ok=True)
        return True

    def is_futile(self, primary: str, progress: CloneProgress | None, now: float) -> str:
        """Why the CLONE under way is to be given up, "" when it is not: it copies what nobody wants any more, or
        nothing comes."""
        if not self.running:
            return ""
        if primary not in ("", self.donor):
            return f"{primary} is the primary now"
        if progress != self._progress:
            self._progress, self._progress_at = progress, now
        stalled = progress is not None and progress.stage in _COPYING and now - self._progress_at >= STALL_SECONDS
        return f"nothing came for {STALL_SECONDS:g} s" if stalled else ""
