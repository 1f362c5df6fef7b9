"""The clients: each writes, reads and remembers in a thread of its own, through every fault.

A client that *follows* goes round the members until one lets it write: it asks nobody who the primary is, so a wrong
server that accepts writes is found. A client that is *stuck* knows one member only.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.errors import LockWaitTimeout, ReadOnly
from tests.chaos.journal import Journal, Operation, Outcome, Work

CONNECT_SECONDS: Final = 1.0
CALL_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.03  # between two operations, on average
STUCK_PAUSE_SECONDS: Final = 0.2  # after a refusal, for one that has nowhere else to go
NUMBERS_PER_CLIENT: Final = 10**9
ACCOUNTS: Final = 10
BALANCE: Final = 1000
REGISTERS: Final = 5
_DEADLOCK: Final = 1213  # ER_LOCK_DEADLOCK: rolled back

TABLES: Final = (
    "CREATE TABLE appended (number BIGINT NOT NULL, KEY (number)) ENGINE=InnoDB",
    "CREATE TABLE accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL) ENGINE=InnoDB",
    (
        "CREATE TABLE ledger (number BIGINT NOT NULL, payer INT NOT NULL, payee INT NOT NULL, amount BIGINT NOT NULL,"
        " KEY (number)) ENGINE=InnoDB"
    ),
    "CREATE TABLE registers (id INT PRIMARY KEY, value BIGINT NOT NULL) ENGINE=InnoDB",
    f"INSERT INTO accounts VALUES {', '.join(f'({n}, {BALANCE})' for n in range(ACCOUNTS))}",
    f"INSERT INTO registers VALUES {', '.join(f'({n}, 0)' for n in range(REGISTERS))}",
)


class Client(threading.Thread):
    """`number` tells the run's clients apart; `stuck` names the one member it knows, "" when it follows."""

    work: ClassVar[Work]

    def __init__(
        self, *, number: int, members: Mapping[str, Endpoint], database: str, directory: Path, seed: int, stuck: str
    ) -> None:
        name = f"{self.work.value}-{number}" + (f"-{stuck}" if stuck else "")
        super().__init__(name=name, daemon=True)
        self._members = {stuck: members[stuck]} if stuck else dict(members)
        self._database = database
        self._journal = Journal(directory / f"client-{name}.jsonl")
        self.random = random.Random(f"{seed} {name}")
        self._order = list(self._members)
        self._stuck = bool(stuck)
        self._number = number * NUMBERS_PER_CLIENT
        self._conn: Connection | None = None
        self._may_be_done = False
        self._ending = threading.Event()
        self.acknowledged = 0

    def end(self) -> None:
        """Ask it to stop after the operation under way."""
        self._ending.set()

    def perform(self, conn: Connection, number: int) -> tuple[int, int]:
        """One operation; returns (key, what was read). Calls `committing` before what may have an effect."""
        raise NotImplementedError

    def committing(self) -> None:
        """From here on an error leaves it open whether the operation is done."""
        self._may_be_done = True

    def run(self) -> None:
        while not self._ending.is_set():
            if self._conn is None and not self._connect():
                self._ending.wait(STUCK_PAUSE_SECONDS if self._stuck else PAUSE_SECONDS)
                continue
            self._attempt()
            self._ending.wait(self.random.expovariate(1 / PAUSE_SECONDS))

    def _connect(self) -> bool:
        try:
            self._conn = connect(self._members[self._order[0]], connect_timeout=CONNECT_SECONDS, timeout=CALL_SECONDS)
            self._conn.execute(f"USE `{self._database}`")
            self._conn.execute("SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1")
        except MySQLError:
            self._leave()
            return False
        return True

    def _leave(self) -> None:
        """Close the session and try the next member."""
        if self._conn is not None:
            self._conn.close()
        self._conn = None
        self._order.append(self._order.pop(0))

    def _attempt(self) -> None:
        assert self._conn is not None
        self._number += 1
        self._may_be_done = False
        member, began, key, saw, error = self._order[0], time.monotonic(), 0, 0, ""
        outcome = Outcome.OK
        try:
            key, saw = self.perform(self._conn, self._number)
        except MySQLError as failure:
            refused = isinstance(failure, ReadOnly | LockWaitTimeout) or failure.code == _DEADLOCK
            outcome = Outcome.UNKNOWN if self._may_be_done and not refused else Outcome.FAILED
            error = str(failure)
            key, saw = self.intended()
        self._journal.write(
            Operation(
                client=self.name,
                work=self.work,
                member=member,
                began=began,
                ended=time.monotonic(),
                outcome=outcome,
                number=self._number,
                key=key,
                saw=saw,
                error=error,
            )
        )
        if outcome is Outcome.OK:
            self.acknowledged += self.work is not Work.TOTAL
            return
        self._leave()
        self._ending.wait(STUCK_PAUSE_SECONDS if self._stuck else 0)

    def intended(self) -> tuple[int, int]:
        """What the operation that failed had read: (key, value)."""
        return 0, 0


class Appender(Client):
    work = Work.APPEND

    def perform(self, conn: Connection, number: int) -> tuple[int, int]:
        self.committing()
        conn.execute("INSERT INTO appended (number) VALUES (%s)", (number,))
        return 0, 0


class Teller(Client):
    """Moves money; the total of all accounts never changes."""

    work = Work.TRANSFER

    def perform(self, conn: Connection, number: int) -> tuple[int, int]:
        payer, payee = self.random.sample(range(ACCOUNTS), 2)
        amount = self.random.randint(1, 20)
        conn.execute("START TRANSACTION")
        for account in sorted((payer, payee)):  # one order, so that clients do not deadlock
            change = amount if account == payee else -amount
            conn.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (change, account))
        conn.execute(
            "INSERT INTO ledger (number, payer, payee, amount) VALUES (%s, %s, %s, %s)", (number, payer, payee, amount)
        )
        self.committing()
        conn.execute("COMMIT")
        return 0, 0


class Auditor(Client):
    """Adds up all accounts, at whatever member it is: a transaction is there as a whole or not at all."""

    work = Work.TOTAL

    def perform(self, conn: Connection, number: int) -> tuple[int, int]:
        total = int(conn.scalar("SELECT SUM(balance) FROM accounts"))
        if self.random.random() < 0.2:
            self._order.append(self._order.pop(0))
            conn.close()
            self._conn = None
        return 0, total


class Changer(Client):
    """Reads a register and replaces its value, in one transaction. Values are unique: the reads make a chain."""

    work = Work.CHANGE
    _read = (0, 0)

    def perform(self, conn: Connection, number: int) -> tuple[int, int]:
        key = self.random.randrange(REGISTERS)
        self._read = key, 0
        conn.execute("START TRANSACTION")
        saw = int(conn.scalar("SELECT value FROM registers WHERE id = %s FOR UPDATE", (key,)))
        self._read = key, saw
        conn.execute("UPDATE registers SET value = %s WHERE id = %s", (number, key))
        self.committing()
        conn.execute("COMMIT")
        return key, saw

    def intended(self) -> tuple[int, int]:
        return self._read
