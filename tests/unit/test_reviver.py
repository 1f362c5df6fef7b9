"""When a silent unit is killed, and when it is left its time."""

from __future__ import annotations

import signal

from raftctl.hosts.reviver import START_SECONDS, START_SECONDS_MAX, Reviver
from raftctl.hosts.services import Unit


class Services:
    """One unit that runs as process `pid`; what was done with it is in `done`."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self.done: list[str] = []

    def main_pid(self, unit: Unit, *, timeout: float) -> int | None:
        assert unit is Unit.GUARD
        return self.pid

    def kill(self, unit: Unit, signal_number: int = signal.SIGKILL, *, timeout: float) -> None:
        self.done.append(f"kill {self.pid}")
        self.pid = None

    def start(self, unit: Unit, *, timeout: float) -> None:
        self.done.append("start")
        self.pid = 100

    def is_active(self, unit: Unit, *, timeout: float) -> bool:
        return self.pid is not None

    stop = mask = unmask = start


class Revived:
    def __init__(self, *, pid: int | None) -> None:
        self.now = 0.0
        self.services = Services(pid)
        self.reviver = Reviver(self.services, Unit.GUARD, clock=lambda: self.now)

    def revive(self, *, silent_pid: int | None, at: float) -> str:
        self.now = at
        return self.reviver.revive(silent_pid=silent_pid, timeout=1.0)


def test_one_that_is_down_is_started() -> None:
    revived = Revived(pid=None)
    assert revived.revive(silent_pid=7, at=0.0) == "was down"
    assert revived.services.done == ["start"]


def test_one_that_used_to_answer_is_killed() -> None:
    revived = Revived(pid=7)
    assert revived.revive(silent_pid=7, at=0.0) == "hung, and was killed"
    assert revived.services.done == ["kill 7", "start"]


def test_one_that_has_just_begun_is_left_its_time() -> None:
    revived = Revived(pid=8)
    assert revived.revive(silent_pid=7, at=0.0) == ""
    assert revived.revive(silent_pid=7, at=START_SECONDS - 1) == ""
    revived.services.pid = 9
    assert revived.revive(silent_pid=7, at=START_SECONDS) == ""
    assert revived.services.done == []


def test_one_that_never_answered_is_killed_when_its_time_is_over() -> None:
    """It listens where nobody speaks to it any more, for example."""
    revived = Revived(pid=8)
    assert revived.revive(silent_pid=None, at=0.0) == ""
    assert revived.revive(silent_pid=None, at=START_SECONDS) == "hung, and was killed"
    assert revived.services.done == ["kill 8", "start"]
    assert revived.revive(silent_pid=None, at=START_SECONDS + 3) == ""


def test_one_that_starts_slowly_gets_more_time_each_time() -> None:
    """A host that is too busy for it must not keep it from ever coming up."""
    revived = Revived(pid=8)
    at, patience = 0.0, START_SECONDS
    for _ in range(10):
        assert revived.revive(silent_pid=7, at=at) == ""
        assert revived.revive(silent_pid=7, at=at + patience - 1) == ""
        at += patience
        assert revived.revive(silent_pid=7, at=at) == "hung, and was killed"
        revived.services.pid = int(at)
        patience = min(2 * patience, START_SECONDS_MAX)
    answered = revived.services.pid
    assert revived.revive(silent_pid=answered, at=at) == "hung, and was killed"
    assert revived.revive(silent_pid=answered, at=at) == ""
    assert revived.revive(silent_pid=answered, at=at + START_SECONDS) == "hung, and was killed"
