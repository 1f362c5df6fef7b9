"""The whole ladder against a server that resists: the waiting client gets an error and never an OK (rule R8)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from raftctl.controller.fencing import Fenced, Ladder
from raftctl.errors import HostError, MySQLError
from raftctl.hosts.services import Unit
from raftctl.mysql.accounts import ADMIN_USER
from raftctl.mysql.client import Connection, Endpoint
from raftctl.mysql.errors import ConnectFailed, ConnectionLost
from raftctl.mysql.fencing import is_read_only
from raftctl.mysql.semisync import waiting_sessions
from tests.support.mysql_members import (
    DEADLINE_S,
    PASSWORD,
    MySQLMember,
    Writers,
    start_members,
    wait_for_stuck_account_statement,
)
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


class ProcessServices:
    """The service manager of one mysqld that a test started: it signals the process, and starts nothing."""

    def __init__(self, member: MySQLMember) -> None:
        self._member = member
        self.signals: list[int] = []
        self.answers = True

    def main_pid(self, unit: Unit, *, timeout: float) -> int | None:
        assert unit is Unit.MYSQLD
        if not self.answers:
            raise HostError("the service manager does not answer")
        return self._member.server.pid if self._member.server.is_running else None

    def kill(self, unit: Unit, signal_number: int = signal.SIGKILL, *, timeout: float) -> None:
        assert unit is Unit.MYSQLD
        if not self.answers:
            raise HostError("the service manager does not answer")
        self.signals.append(signal_number)
        self._member.server.kill(signal_number)

    def is_active(self, unit: Unit, *, timeout: float) -> bool:
        return self.main_pid(unit, timeout=timeout) is not None

    def start(self, unit: Unit, *, timeout: float) -> None:
        raise HostError("starts nothing")

    stop = mask = unmask = start


class Defender:
    """A ladder to one member, prepared as a controller's is."""

    def __init__(self, member: MySQLMember) -> None:
        self.services = ProcessServices(member)
        endpoint = Endpoint(user=ADMIN_USER, password=PASSWORD, unix_socket=str(member.server.socket))
        self.ladder = Ladder(endpoint=endpoint, services=self.services)
        self.ladder.prepare()

    def climb(self) -> Fenced:
        return self.ladder.climb()


def outcomes(fenced: Fenced) -> dict[str, bool]:
    return {rung.name: rung.ok for rung in fenced.rungs}


@contextlib.contextmanager
def all_sessions_taken(member: MySQLMember) -> Iterator[list[Connection]]:
    """Until not even the one session is left that max_connections reserves for administrators."""
    with contextlib.ExitStack() as stack:
        with member.root() as root:
            root.execute("SET GLOBAL max_connections = 12")
        taken: list[Connection] = []
        for connect in (member.app, member.root):
            with contextlib.suppress(ConnectFailed):
                while True:
                    taken.append(stack.enter_context(connect()))
        yield taken


def test_idle_primary_is_closed_and_lives_on(mysqld_factory: MySQLFactory) -> None:
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)
    defender = Defender(db1)
    assert defender.ladder.is_writable(if_silent=False)
    with db1.app() as app:
        fenced = defender.climb()
        assert (fenced.fenced, fenced.killed) == (True, False), fenced
        assert list(outcomes(fenced)) == ["connect", "offline-mode", "end-sessions", "super-read-only"]
        with pytest.raises(ConnectionLost):
            app.query("SELECT 1")
    assert not defender.ladder.is_writable(if_silent=True)
    assert defender.services.signals == []


def test_waiting_commits_end_with_an_error_and_the_process(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)
    defender = Defender(db1)
    with db1.admin() as admin:
        commits = [writers.write(db1, value) for value in range(3)]
        wait_until(lambda: waiting_sessions(admin) == 1, what="commits to wait")
        fenced = defender.climb()
    assert (fenced.fenced, fenced.killed) == (True, True), fenced
    assert outcomes(fenced)["offline-mode"]
    assert not outcomes(fenced)["super-read-only"]
    for commit in commits:
        assert isinstance(commit.exception(timeout=DEADLINE_S), ConnectionLost)
    assert not db1.server.is_running
    assert defender.services.signals == []
    db1.server.start()
    with db1.admin() as admin:
        assert is_read_only(admin, timeout=DEADLINE_S), "a restart opens nothing"


def test_waiting_account_statement_blocks_every_login_and_not_the_ladder(
    mysqld_factory: MySQLFactory, writers: Writers
) -> None:
    """CREATE USER that waits for an acknowledgement holds the lock that logins need, and offline_mode hangs."""
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)
    defender = Defender(db1)
    with db1.root() as root, db1.admin() as monitor:
        create = writers.execute(root, "CREATE USER somebody")
        wait_for_stuck_account_statement(monitor)
        fenced = defender.climb()
    assert (fenced.fenced, fenced.killed) == (True, True), fenced
    assert isinstance(create.exception(timeout=DEADLINE_S), ConnectionLost)
    assert not db1.server.is_running


def test_frozen_server_is_killed_without_a_service_manager(mysqld_factory: MySQLFactory) -> None:
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)
    defender = Defender(db1)
    defender.services.answers = False
    db1.server.freeze()
    assert defender.ladder.is_writable(if_silent=True), "who does not answer may be writable"
    fenced = defender.climb()
    assert (fenced.fenced, fenced.killed) == (True, True), fenced
    assert not db1.server.is_running


def test_a_server_below_a_wrapper_is_killed_by_the_service_manager(mysqld_factory: MySQLFactory) -> None:
    """Which ends all processes of its unit, like those of mysqld_safe."""
    (db1,) = start_members(mysqld_factory, "db1")

    class Wrapped(ProcessServices):
        def main_pid(self, unit: Unit, *, timeout: float) -> int | None:
            return os.getpid() if self._member.server.is_running else None

    services = Wrapped(db1)
    endpoint = Endpoint(user=ADMIN_USER, password=PASSWORD, unix_socket=str(db1.server.socket))
    ladder = Ladder(endpoint=endpoint, services=services)
    ladder.prepare()
    db1.server.freeze()
    fenced = ladder.climb()
    assert (fenced.fenced, fenced.killed) == (True, True), fenced
    assert services.signals == [signal.SIGKILL]


def test_no_session_is_left_for_anybody(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    (db1,) = start_members(mysqld_factory, "db1")
    defender = Defender(db1)
    with all_sessions_taken(db1) as sessions:
        with pytest.raises(MySQLError):
            db1.admin()
        fenced = defender.climb()
        assert (fenced.fenced, fenced.killed) == (True, False), fenced
        for session in sessions:
            with pytest.raises(ConnectionLost):
                session.query("SELECT 1")


def test_unprepared_ladder_without_a_session_kills(mysqld_factory: MySQLFactory) -> None:
    (db1,) = start_members(mysqld_factory, "db1")
    services = ProcessServices(db1)
    endpoint = Endpoint(user=ADMIN_USER, password=PASSWORD, unix_socket=str(db1.server.socket))
    with all_sessions_taken(db1):
        fenced = Ladder(endpoint=endpoint, services=services).climb()
    assert (fenced.fenced, fenced.killed) == (True, True), fenced
    assert not outcomes(fenced)["connect"]


def test_a_server_that_restarted_meanwhile_is_spared(mysqld_factory: MySQLFactory, writers: Writers) -> None:
    """Two ladders against one server: the slower one, unprepared, does not kill what the faster one had restarted."""
    (db1,) = start_members(mysqld_factory, "db1", required_acks=1)

    class Slower(ProcessServices):
        """When this ladder's turn to kill comes, the other one has killed, and the server is up again."""

        def main_pid(self, unit: Unit, *, timeout: float) -> int | None:
            asked_again, self.asked = getattr(self, "asked", False), True
            if asked_again:
                db1.server.restart()
            return super().main_pid(unit, timeout=timeout)

    services = Slower(db1)
    endpoint = Endpoint(user=ADMIN_USER, password=PASSWORD, unix_socket=str(db1.server.socket))
    ladder = Ladder(endpoint=endpoint, services=services)
    with db1.admin() as admin:
        commit = writers.write(db1, 1)
        wait_until(lambda: waiting_sessions(admin) == 1, what="the commit to wait")
        fenced = ladder.climb()
    assert fenced.fenced
    assert services.signals == []
    assert isinstance(commit.exception(timeout=DEADLINE_S), ConnectionLost)
    assert not ladder.is_writable(if_silent=True)


def test_a_server_whose_socket_is_gone_still_serves_others(mysqld_factory: MySQLFactory) -> None:
    (db1,) = start_members(mysqld_factory, "db1")
    defender = Defender(db1)
    with db1.root() as root:
        db1.server.socket.unlink()
        root.execute("KILL %s", (defender.ladder.session,))
        root.execute("SET GLOBAL super_read_only = OFF")
    assert defender.ladder.is_writable(if_silent=True)
    assert not defender.ladder.is_writable(if_silent=False)
    fenced = defender.climb()
    assert (fenced.fenced, fenced.killed) == (True, True), fenced
    assert not db1.server.is_running


def test_a_server_that_does_not_run_needs_no_fencing(mysqld_factory: MySQLFactory) -> None:
    (db1,) = start_members(mysqld_factory, "db1")
    defender = Defender(db1)
    db1.server.kill()
    assert not defender.ladder.is_writable(if_silent=True)
    assert defender.climb().fenced
