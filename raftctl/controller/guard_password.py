"""The password with which the guard logs in to MySQL, read again whenever its file changes. Standard library only."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import Final

from raftctl.secret import Secret, fingerprint

logger = logging.getLogger(__name__)

WATCH_SECONDS: Final = 0.5


class Password:
    """Of raftctl's account. The file is read by a thread of its own: its disk may stand still while the guard has to
    fence, with what it knows. `secrets` is the fingerprint of the file that the password is from, "" without one.

    While the file cannot be used the last one that could counts. At first there is no password then: a guard that
    cannot log in fences by SIGKILL, which is better than none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp, self._known = (0, 0), (Secret(""), "")
        self._complaint = self._look()
        if self._complaint:
            logger.error("cannot log in to mysqld yet: cannot read %s: %s", path, self._complaint)

    def current(self) -> Secret:
        return self._known[0]

    @property
    def secrets(self) -> str:
        return self._known[1]

    def watch(self) -> None:
        """From now on."""
        threading.Thread(target=self._watch, name="password", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            before, self._complaint = self._complaint, self._look()
            if self._complaint not in ("", before):
                logger.warning("the password in use is kept: cannot read %s: %s", self._path, self._complaint)

    def _look(self) -> str:
        """Why nothing can be read, "" when it can."""
        try:
            if _stamp_of(self._path) != self._stamp:
                self._stamp, self._known = self._read()
                logger.info("uses the secrets %s", self.secrets)
        except (OSError, ValueError) as error:
            return type(error).__name__  # its text could quote the file
        return ""

    def _read(self) -> tuple[tuple[int, int], tuple[Secret, str]]:
        stamp = _stamp_of(self._path)  # earlier than the content: what is replaced in between is read again
        data = self._path.read_bytes()
        document = json.loads(data)
        password = document.get("admin_password") if isinstance(document, dict) else None
        if not isinstance(password, str):
            raise ValueError("no admin_password in it")
        return stamp, (Secret(password), fingerprint(data))


def _stamp_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
