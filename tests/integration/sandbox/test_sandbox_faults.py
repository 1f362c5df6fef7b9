"""Faults in a sandbox of real servers: each does what its name says, and `start` undoes it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from raftctl.errors import HostError, UsageError
from raftctl.hosts.services import Unit
from raftctl.sandbox.cluster import Sandbox, Target, exclusive, open_or_plan, open_sandbox
from raftctl.sandbox.mysqld import greets
from tests.support.sandboxes import mysqld_pid, mysqld_socket, query, wait_for_mysqld
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


def test_a_killed_mysqld_is_restarted_with_its_data(sandbox: Sandbox) -> None:
    pid, uuid = wait_for_mysqld(sandbox, "db1"), query(sandbox, "db1", "SELECT @@server_uuid")
    sandbox.kill("db1", Target.MYSQLD)
    assert not Path(f"/proc/{pid}").exists()
    wait_for_mysqld(sandbox, "db1", other_than=pid)
    assert query(sandbox, "db1", "SELECT @@server_uuid") == uuid
    assert query(sandbox, "db1", "SELECT @@super_read_only") == "1"


def test_a_mysqld_killed_without_restart_stays_down_until_started(sandbox: Sandbox) -> None:
    pid = wait_for_mysqld(sandbox, "db1")
    sandbox.kill("db1", Target.MYSQLD, restart=False)
    with pytest.raises(HostError, match="masked"):
        sandbox.host("db1").services.start(Unit.MYSQLD, timeout=10)
    assert mysqld_pid(sandbox, "db1") is None
    sandbox.start("db1", Target.MYSQLD)
    wait_for_mysqld(sandbox, "db1", other_than=pid)


def test_a_restart_by_statement_comes_back(sandbox: Sandbox) -> None:
    """RESTART, and CLONE likewise, ends mysqld with status 16 and relies on whoever supervises it."""
    pid = wait_for_mysqld(sandbox, "db2")
    query(sandbox, "db2", "RESTART")
    wait_for_mysqld(sandbox, "db2", other_than=pid)


def test_a_frozen_mysqld_is_silent_until_thawed(sandbox: Sandbox) -> None:
    pid = wait_for_mysqld(sandbox, "db1")
    sandbox.freeze("db1", Target.MYSQLD)
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    sandbox.thaw("db1", Target.MYSQLD)
    assert wait_for_mysqld(sandbox, "db1") == pid


def test_a_frozen_host_says_so_and_can_be_killed(sandbox: Sandbox) -> None:
    wait_for_mysqld(sandbox, "db2")
    sandbox.freeze("db2", Target.HOST)
    for fault in (sandbox.kill, sandbox.freeze, sandbox.thaw, sandbox.start):
        with pytest.raises(HostError, match="db2 is frozen"):
            fault("db2", Target.MYSQLD)
    sandbox.thaw("db2", Target.HOST)
    wait_for_mysqld(sandbox, "db2")
    sandbox.freeze("db2", Target.HOST)
    sandbox.kill("db2", Target.HOST)
    assert sandbox.host("db2").pids() == []
    sandbox.start("db2", Target.HOST)
    wait_for_mysqld(sandbox, "db2")


def test_nothing_of_a_killed_host_survives_and_the_others_live_on(sandbox: Sandbox) -> None:
    pid, other = wait_for_mysqld(sandbox, "db1"), wait_for_mysqld(sandbox, "db2")
    sandbox.kill("db1", Target.HOST)
    assert sandbox.host("db1").pids() == []
    assert mysqld_pid(sandbox, "db2") == other
    with pytest.raises(HostError, match="db1 is down"):
        sandbox.kill("db1", Target.MYSQLD)
    sandbox.kill("db1", Target.HOST)  # again: it is down
    sandbox.start("db1", Target.HOST)
    wait_for_mysqld(sandbox, "db1", other_than=pid)


def test_it_comes_back_after_everything_was_killed_from_outside(sandbox: Sandbox) -> None:
    pids = [pid for name in sandbox.layout.names for pid in sandbox.host(name).pids()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for name in sandbox.layout.names:
        sandbox.host(name).power_off(timeout=30)
    # the pid in the lock file of the socket may belong to somebody else by now
    mysqld_socket(sandbox, "db1").with_name("mysqld.sock.lock").write_text(f"{os.getpid()}\n")
    sandbox.start("db1", Target.HOST)
    open_sandbox(sandbox.directory).start_all()
    for name in ("db1", "db2"):
        assert greets(mysqld_socket(sandbox, name))


def test_starting_again_leaves_alone_what_runs(sandbox: Sandbox) -> None:
    before = [wait_for_mysqld(sandbox, "db1"), wait_for_mysqld(sandbox, "db2")]
    sandbox.start_all()
    sandbox.start("db1", Target.HOST)
    assert [mysqld_pid(sandbox, "db1"), mysqld_pid(sandbox, "db2")] == before


def test_a_supervisor_killed_alone_is_a_host_to_be_started(sandbox: Sandbox) -> None:
    pid = wait_for_mysqld(sandbox, "db1")
    os.kill(sandbox.host("db1").pids()[0], signal.SIGKILL)
    wait_until(lambda: not sandbox.host("db1").is_on(), what="the supervisor to be gone")
    sandbox.start_all()
    wait_for_mysqld(sandbox, "db1", other_than=pid)


def test_a_port_taken_meanwhile_is_said(sandbox: Sandbox) -> None:
    sandbox.kill("w1", Target.HOST)
    taken = socket.create_server(("127.0.0.1", sandbox.layout.member("w1").raft_port))
    with taken, pytest.raises(HostError, match="is in use"):
        sandbox.start("w1", Target.HOST)
    sandbox.start("w1", Target.HOST)


def test_what_makes_no_sense_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="db9 is not a member"):
        sandbox.kill("db9", Target.HOST)
    with pytest.raises(UsageError, match="witness"):
        sandbox.kill("w1", Target.MYSQLD)
    with pytest.raises(UsageError, match="namespaces"):
        sandbox.partition([["db1"]], one_way=False)


def test_another_up_or_down_at_the_same_time_is_refused(sandbox: Sandbox) -> None:
    with exclusive(sandbox.directory), pytest.raises(HostError, match="another"), exclusive(sandbox.directory):
        pass


def test_the_shape_is_kept(sandbox: Sandbox) -> None:
    same = open_or_plan(sandbox.directory, nodes=2, witnesses=1, namespaces=False, settings=[])
    assert same.layout == sandbox.layout
    with pytest.raises(UsageError, match="another shape"):
        open_or_plan(sandbox.directory, nodes=3, witnesses=0, namespaces=False, settings=[])


def test_down_ends_everything_and_purge_removes_it(sandbox: Sandbox) -> None:
    def pids() -> list[int]:
        return [pid for name in sandbox.layout.names for pid in sandbox.host(name).pids()]

    assert len(pids()) == 5
    sandbox.down(purge=False)
    sandbox.down(purge=False)
    assert pids() == []
    assert sandbox.directory.exists()
    sandbox.start_all()  # with the data that it had
    sandbox.down(purge=True)
    assert not sandbox.directory.exists()
    sandbox.directory.mkdir()  # the fixtures' last steps expect it
    open_or_plan(sandbox.directory, nodes=2, witnesses=1, namespaces=False, settings=[]).start_all()
