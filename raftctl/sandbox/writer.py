"""A client that writes numbered rows and remembers what was acknowledged: the witness against a lost
write.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection, Endpoint, connect

CALL_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.05
TABLE: Final = "raftctl_written"


class Tally(msgspec.Struct, frozen=True):
    """`acknowledged` rows, those of them that are `lost` or there `twice`, and rows whose write failed and
    that are there all the same (`unsure_present`): an error after the commit began says nothing about it."""

    acknowledged: int
    lost: int
    twice: int
    unsure_present: int
    errors: int
    longest_pause_seconds: float


class Writer:
    """Inserts 1, 2, 3, ... each in a transaction of its own, one after the other, in a thread.

    `primary` names where to write, None when nobody knows; it is asked again after every error. A write that takes
    longer than `patience` seconds is given up; `pause` seconds pass between two."""

    def __init__(
        self,
        primary: Callable[[], Endpoint | None],
        *,
        database: str,
        patience: float = CALL_SECONDS,
        pause: float = 0.0,
    ) -> None:
        self._primary = primary
        self._patience = patience
        self._pause = pause
        self._table = f"`{database}`.`{TABLE}`"
        self.acknowledged: list[int] = []
        self.errors: list[str] = []
        self._last_acknowledged = time.monotonic()
        self.longest_pause = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self, timeout: float) -> None:
        """Make the table, then begin. Raises MySQLError when there is no primary within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                with self._connect() as conn:
                    conn.execute(f"CREATE TABLE IF NOT EXISTS {self._table} (n BIGINT NOT NULL, KEY (n)) ENGINE=InnoDB")
                break
            except MySQLError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)
        self._last_acknowledged = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End after the write under way."""
        self._stop.set()
        self._thread.join(2 * self._patience + CALL_SECONDS)

    def wait_for(self, count: int, timeout: float) -> bool:
        """Wait until `count` more rows are acknowledged than now; False when they are not within
        `timeout`.
        """
        goal, deadline = len(self.acknowledged) + count, time.monotonic() + timeout
        while len(self.acknowledged) < goal:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def tally(self, endpoint: Endpoint) -> Tally:
        """Compare what was acknowledged with what the server at `endpoint` has. Call after `stop`."""
        with connect(endpoint, timeout=60.0) as conn:
            rows = conn.query(f"SELECT n, COUNT(*) AS copies FROM {self._table} GROUP BY n")  # noqa: S608
        copies = {int(row["n"]): int(row["copies"]) for row in rows}
        acknowledged = set(self.acknowledged)
        return Tally(
            acknowledged=len(acknowledged),
            lost=len(acknowledged - copies.keys()),
            twice=sum(count > 1 for count in copies.values()),
            unsure_present=len(copies.keys() - acknowledged),
            errors=len(self.errors),
            longest_pause_seconds=round(self.longest_pause, 3),
        )

    def _connect(self) -> Connection:
        endpoint = self._primary()
        if endpoint is None:
            raise MySQLError("no primary is known")
        return connect(endpoint, connect_timeout=CALL_SECONDS, timeout=self._patience)

    def _run(self) -> None:
        number = 0
        conn: Connection | None = None
        with contextlib.ExitStack() as close:
            while not self._stop.is_set():
                number += 1  # a number is never tried twice: a failed write may be there all the same
                try:
                    if conn is None:
                        conn = close.enter_context(self._connect())
                    conn.execute(f"INSERT INTO {self._table} VALUES (%s)", (number,))  # noqa: S608
                except MySQLError as error:
                    self.errors.append(str(error))
                    close.close()
                    conn = None
                    self._stop.wait(RETRY_SECONDS)
                    continue
                self._acknowledge(number)
                self._stop.wait(self._pause)

    def _acknowledge(self, number: int) -> None:
        now = time.monotonic()
        self.longest_pause = max(self.longest_pause, now - self._last_acknowledged)
        self._last_acknowledged = now
        self.acknowledged.append(number)
