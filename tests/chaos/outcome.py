"""The end of a run: is the cluster well without anybody's help, do all members hold the same, and what do they hold."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from raftctl.cluster.state import HistoryEntry
from raftctl.errors import MySQLError, RaftctlError
from raftctl.mysql.client import Connection, connect
from tests.chaos.checker import Final as Contents
from tests.chaos.checker import Reign
from tests.support.stage import Stage

EQUAL_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.2
_TABLES: Final = ("appended", "accounts", "ledger", "registers")
_EXIT: Final = re.compile(r"^(\S+) (controller|mysqld|guard): ended with (-?\d+)$")
_EXPECTED: Final = {"controller": {0, -9, -15}, "guard": {0, -9, -15}, "mysqld": {0, -9, 16}}


def wait(probe: Callable[[], str], timeout: float) -> str:
    """Until `probe()` finds nothing to complain of, "" then; its last complaint after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while complaint := probe():
        if time.monotonic() > deadline:
            return complaint
        time.sleep(_POLL_SECONDS)
    return ""


def ill(stage: Stage) -> str:
    """Why the cluster is not well; "" when it is."""
    status = stage.status()
    if status.health == "ok" and not status.paused:
        return ""
    issues = "; ".join(f"{i.member or 'cluster'}: {i.text}" for i in status.issues)
    return f"health is {status.health}, paused is {status.paused}: {issues}"


def unequal(stage: Stage) -> str:
    """Which data members differ from the primary in transactions or rows; "" when none does."""
    status = stage.status()
    if not status.primary:
        return "there is no primary"
    try:
        wanted = fingerprint(stage, status.primary)
        for name in data_members(stage):
            if (found := fingerprint(stage, name)) != wanted:
                return f"{name} has {found}, the primary {status.primary} {wanted}"
    except (MySQLError, RaftctlError) as error:
        return str(error)
    return ""


def fingerprint(stage: Stage, member: str) -> tuple[str, ...]:
    """The GTID set that it executed and the checksum of every table."""
    with connect(stage.endpoint(member), timeout=30.0) as conn:
        conn.execute(f"USE `{stage.database}`")
        executed = str(stage.executed(member))
        rows = conn.query(f"CHECKSUM TABLE {', '.join(_TABLES)}")
        return (executed, *(f"{row['Table']} {row['Checksum']}" for row in rows))


def data_members(stage: Stage) -> list[str]:
    layout = stage.sandbox.layout
    return [name for name in layout.names if not layout.member(name).witness]


def contents(stage: Stage) -> Contents:
    """What the primary holds. Raises RaftctlError."""
    endpoint = stage.primary_endpoint()
    if endpoint is None:
        raise RaftctlError("there is no primary to read from")
    with connect(endpoint, timeout=60.0) as conn:
        conn.execute(f"USE `{stage.database}`")
        return Contents(
            appended=[row[0] for row in _rows(conn, "SELECT number FROM appended")],
            ledger=[(a, b, c, d) for a, b, c, d in _rows(conn, "SELECT number, payer, payee, amount FROM ledger")],
            balances={account: int(balance) for account, balance in _rows(conn, "SELECT id, balance FROM accounts")},
            registers={key: value for key, value in _rows(conn, "SELECT id, value FROM registers")},  # noqa: C416
        )


def _rows(conn: Connection, statement: str) -> list[tuple[int, ...]]:
    return [tuple(row.values()) for row in conn.query(statement)]


class Historian:
    """Collects the cluster's history while it grows: the log keeps the last entries only."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.entries: dict[int, HistoryEntry] = {}

    def look(self) -> None:
        """Add what is new, if somebody answers."""
        try:
            self.entries |= {entry.index: entry for entry in self._stage.history()}
        except RaftctlError:
            return

    def in_order(self) -> list[HistoryEntry]:
        return [self.entries[index] for index in sorted(self.entries)]


def reigns(history: Sequence[HistoryEntry], *, wall_ahead: float) -> list[Reign]:
    """Who was primary in which epoch. `wall_ahead` is the wall clock less the monotonic one."""
    return [
        Reign(epoch=entry.epoch, member=entry.after, since=entry.at_ms / 1000 - wall_ahead)
        for entry in history
        if entry.after and (entry.after != entry.before or entry.kind == "init-cluster")
    ]


def crashes(directory: Path, names: Sequence[str]) -> list[str]:
    """Processes of the sandbox that ended by themselves, and tracebacks in the controllers' logs."""
    found = []
    for name in names:
        log = directory / name / "log"
        for line in (log / "supervisor.log").read_text(errors="replace").splitlines():
            match = _EXIT.match(line)
            if match and int(match[3]) not in _EXPECTED[match[2]]:
                found.append(f"{name}: {line}")
        text = (log / "controller.log").read_text(errors="replace")
        found += [f"{name}: a traceback in controller.log"] * text.count("Traceback (most recent call last)")
    return found


def snapshot(stage: Stage, path: Path) -> None:
    """Everything that helps to understand a cluster that does not get on, as a JSON file."""
    status = stage.status()
    found = {"status": msgspec.to_builtins(status), "processlist": {}, "member": {}}
    for name in stage.sandbox.layout.names:
        member = stage.cluster.inventory.members()[name]
        try:
            found["member"][name] = stage.cluster.api.get(member, "/v1/member", 2.0, dict)
        except Exception as error:  # noqa: BLE001 (the report of a failure: whatever can be had)
            found["member"][name] = str(error)
    for name in data_members(stage):
        try:
            with connect(stage.own_endpoint(name), timeout=3.0) as conn:
                found["processlist"][name] = conn.query(
                    "SELECT ID, USER, HOST, COMMAND, TIME, STATE, INFO FROM performance_schema.processlist"
                )
        except MySQLError as error:
            found["processlist"][name] = str(error)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found, enc_hook=str), indent=1))
