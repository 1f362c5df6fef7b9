"""The units of a host that systemd runs. See raftctl.hosts.services.ServiceManager for the meaning of the methods.

Standard library only: the guard imports this. `systemctl` runs as root, on this host or through SSH.
Manual: https://www.freedesktop.org/software/systemd/man/latest/systemctl.html
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

from raftctl.errors import HostError
from raftctl.hosts.services import Unit

CONTROLLER_UNIT: Final = "raftctl-controller.service"
GUARD_UNIT: Final = "raftctl-guard.service"
MYSQLD_UNIT: Final = "mysql.service"
THREADS_MAX: Final = 32  # which wait for programs at the same time
_POLL_SECONDS: Final = 0.02
_threads = threading.BoundedSemaphore(THREADS_MAX)

# Without a word to systemd, for when it does not answer: the processes of the unit's cgroup (version 2, then 1).
_KILL_CGROUP: Final = """for base in /sys/fs/cgroup /sys/fs/cgroup/systemd; do
  for pid in $(cat "$base/system.slice/$1/cgroup.procs" 2>/dev/null); do kill -KILL "$pid"; found=yes; done
done
test "$found" = yes
"""


class Outcome(NamedTuple):
    status: int
    stdout: bytes
    stderr: bytes


Run = Callable[[Sequence[str], float], Outcome]
"""Runs a program for at most so many seconds. Raises HostError when it cannot, or when it had not ended."""


def run_here(argv: Sequence[str], timeout: float) -> Outcome:
    """On this host. A disk that stalls can keep a program from starting, and from ending when it is killed: then its
    thread is left behind, and the caller goes on."""
    if not _threads.acquire(blocking=False):
        raise HostError(f"cannot run {argv[0]}: {THREADS_MAX} programs have not ended yet")
    outcome: Future[Outcome] = Future()
    try:
        threading.Thread(target=_run_into, args=(outcome, argv, timeout), name=argv[0], daemon=True).start()
    except RuntimeError as error:
        _threads.release()
        raise HostError(f"cannot run {argv[0]}: {error}") from None
    try:
        return outcome.result(timeout)
    except (TimeoutError, subprocess.TimeoutExpired):
        raise HostError(f"{argv[0]} had not ended after {timeout:g} s") from None
    except OSError as error:
        raise HostError(f"cannot run {argv[0]}: {error.strerror or error}") from None


def _run_into(outcome: Future[Outcome], argv: Sequence[str], timeout: float) -> None:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(Outcome(done.returncode, done.stdout, done.stderr))
    finally:
        _threads.release()


class SystemdServices:
    """ServiceManager by systemctl. `mysqld_unit` is what the distribution calls MySQL's."""

    def __init__(self, run: Run = run_here, *, mysqld_unit: str = MYSQLD_UNIT) -> None:
        self._run = run
        self._names = {Unit.MYSQLD: mysqld_unit, Unit.CONTROLLER: CONTROLLER_UNIT, Unit.GUARD: GUARD_UNIT}

    def start(self, unit: Unit, *, timeout: float) -> None:
        self._systemctl(timeout, "start", "--no-block", self._names[unit])

    def stop(self, unit: Unit, *, timeout: float) -> None:
        self._systemctl(timeout, "stop", self._names[unit])

    def restart(self, unit: Unit, *, timeout: float) -> None:
        """Stop it and start it, and wait until it says that it is ready."""
        self._systemctl(timeout, "restart", self._names[unit])

    def kill(self, unit: Unit, signal_number: int = signal.SIGKILL, *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        try:
            pid = self.main_pid(unit, timeout=timeout / 2)
            if pid is None:
                return
            name = signal.Signals(signal_number).name
            self._systemctl(_left(deadline), "kill", f"--signal={name}", self._names[unit])
        except HostError:
            if signal_number != signal.SIGKILL:
                raise
            self._kill_without_systemd(unit, deadline)
            return
        if signal_number != signal.SIGKILL:
            return
        while self.main_pid(unit, timeout=_left(deadline)) == pid:
            if time.monotonic() >= deadline:
                raise HostError(f"{unit} was killed and is still there")
            time.sleep(_POLL_SECONDS)

    def is_active(self, unit: Unit, *, timeout: float) -> bool:
        return self.main_pid(unit, timeout=timeout) is not None

    def main_pid(self, unit: Unit, *, timeout: float) -> int | None:
        answer = self._systemctl(timeout, "show", "--property=MainPID", "--value", self._names[unit])
        try:
            return int(answer or 0) or None
        except ValueError:
            raise HostError(f"systemctl says {answer!r} is the process of {self._names[unit]}") from None

    def mask(self, unit: Unit, *, timeout: float) -> None:
        self._systemctl(timeout, "mask", "--runtime", self._names[unit])

    def unmask(self, unit: Unit, *, timeout: float) -> None:
        self._systemctl(timeout, "unmask", "--runtime", self._names[unit])

    def _kill_without_systemd(self, unit: Unit, deadline: float) -> None:
        outcome = self._run(["sh", "-c", _KILL_CGROUP, "sh", self._names[unit]], _left(deadline))
        if outcome.status != 0:
            raise HostError(f"{unit} could not be killed: systemd does not answer, and it has no cgroup")

    def _systemctl(self, timeout: float, *arguments: str) -> str:
        outcome = self._run(["systemctl", *arguments], timeout)
        if outcome.status != 0:
            lines = outcome.stderr.decode(errors="replace").strip().splitlines()
            raise HostError(f"systemctl {arguments[0]} {arguments[-1]}: {lines[0] if lines else outcome.status}")
        return outcome.stdout.decode(errors="replace").strip()


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
