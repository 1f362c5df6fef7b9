"""Log lines that nobody waits for. Whoever takes them, journald or a disk, may stall, and then a lease must still be
renewed and mysqld be fenced. Standard library only: the guard uses this."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
from typing import Final

LINES_MAX: Final = 10_000
_STDERR: Final = 2
LAST_SECONDS: Final = 1.0  # for what is left when the process ends


class LogLines(logging.Handler):
    """A thread writes the lines to stderr. While it cannot, so many are kept, and it tells how many are `missing`."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_MAX)
        self.missing = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.missing += 1

    def finish(self) -> None:
        """Give what is left a moment."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(LAST_SECONDS)

    def _write_all(self) -> None:
        while True:
            line = self._lines.get()
            try:
                if line is not None:
                    _write(line)
                if self.missing and self._lines.empty():
                    _write(f"{self.missing} lines could not be written")
                    self.missing = 0
            except OSError:  # journald is being restarted, or there is no space
                self.missing += 1
            if line is None:
                return


def _write(line: str) -> None:
    data = f"{line}\n".encode(errors="replace")
    while data:
        data = data[os.write(_STDERR, data) :]


def log_to_stderr(who: str) -> None:
    """From now on `logging` writes there, each line with the time and `who`."""
    lines = LogLines()
    logging.basicConfig(handlers=[lines], level=logging.INFO, format=f"%(asctime)s {who} %(message)s")
    atexit.register(lines.finish)
