"""Real mysqld processes for tests: configured as cluster members are, quick to make, gone when the test
ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from raftctl.errors import HostError
from raftctl.sandbox.distribution import MySQLDistribution, find_or_fetch
from raftctl.sandbox.mysqld import MySQLPlace, greets, prepare
from raftctl.sandbox.network import free_ports

START_DEADLINE_S = 90.0


class RunningMySQL:
    """One mysqld. `root@localhost` has no password and is reachable through `socket`; it starts
    super_read_only.
    """

    def __init__(self, place: MySQLPlace, command: tuple[str, ...]) -> None:
        self._place = place
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self.address = place.address
        self.socket = place.socket
        self.port = place.port
        self.admin_port = place.admin_port
        self.datadir = place.datadir
        self.server_id = place.server_id

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process is there; a frozen one is."""
        return self._process is not None and self._process.poll() is None

    @property
    def error_log(self) -> str:
        return self._place.error_log.read_text(errors="replace")

    def start(self) -> None:
        """Start and wait until it accepts connections."""
        assert self._process is None or self._process.poll() is not None, "already running"
        self.socket.unlink(missing_ok=True)
        # A parent known to mysqld makes RESTART and CLONE end it with status 16, as under systemd; setpriv
        # (util-linux) lets no server outlive a test run that was killed.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"MYSQLD_PARENT_PID": str(os.getpid())},
            start_new_session=True,
        )
        deadline = time.monotonic() + START_DEADLINE_S
        while not greets(self.socket):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"mysqld did not start:\n{self.error_log[-4000:]}")
            time.sleep(0.01)

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Send a signal and wait until the process is gone."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self.pid, signal_number)
            self._process.wait(timeout=START_DEADLINE_S)

    def wait_exit(self, timeout: float = START_DEADLINE_S) -> int:
        """Wait until it ends by itself; returns the exit status (16: it wants to be restarted)."""
        assert self._process is not None
        return self._process.wait(timeout=timeout)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, signal_number: int = signal.SIGKILL) -> None:
        self.kill(signal_number)
        self.start()


class MySQLFactory(Protocol):
    def __call__(self, name: str, **options: Any) -> RunningMySQL: ...


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    return free_ports(1)[0]


def mysql_distribution() -> MySQLDistribution:
    """The server under test; skips the test when there is none, unless RAFTCTL_REQUIRE_MYSQL is set."""
    try:
        return find_or_fetch()
    except HostError as error:
        if os.environ.get("RAFTCTL_REQUIRE_MYSQL"):
            raise
        pytest.skip(f"no MySQL server can be had here: {error}")


@contextlib.contextmanager
def mysqld_maker(distribution: MySQLDistribution) -> Iterator[MySQLFactory]:
    """Yields `make(name, **settings)`; settings are mysqld settings that replace those of a cluster
    member.
    """
    # not below pytest's tmp_path: a unix socket's path has at most 107 bytes
    home = Path(tempfile.mkdtemp(prefix="mysqld-"))
    running: list[RunningMySQL] = []

    def make(name: str, **options: Any) -> RunningMySQL:
        server_id = options.pop("server_id", len(running) + 1)
        port, admin_port = free_ports(2)
        place = MySQLPlace(
            directory=home / name, server_id=server_id, address="127.0.0.1", port=port, admin_port=admin_port
        )
        command = prepare(place, distribution, overrides={key: str(value) for key, value in options.items()})
        server = RunningMySQL(place, command)
        running.append(server)
        server.start()
        return server

    try:
        yield make
    finally:
        for server in running:
            server.kill()
        shutil.rmtree(home, ignore_errors=True)
