"""The processes of a sandbox host, found by a mark in their environment rather than by a pid file.

Every process of a host descends from its supervisor and inherits `RAFTCTL_SANDBOX_HOST=<directory of the member>`. So
they are found wherever they went (own sessions, orphans of a killed parent), and a recycled pid is never
mistaken for one of them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from raftctl.errors import HostError

MARK = "RAFTCTL_SANDBOX_HOST"
_POLL_S = 0.01


def mark(host: Path) -> dict[str, str]:
    """What to add to the environment of a process of the host that lives in the directory `host`."""
    return {MARK: str(host.resolve())}


def pids_of(host: Path) -> list[int]:
    """The living processes of a host; the oldest, its supervisor, first. Zombies are not counted."""
    wanted = f"{MARK}={host.resolve()}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and wanted in _environment(entry.name).split(b"\0"):
            state, started = _state(entry.name)
            if state not in ("Z", "X"):
                found.append((started, int(entry.name)))
    return [pid for _, pid in sorted(found)]


def _environment(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "environ").read_bytes()
    except OSError:  # it ended, or belongs to somebody else
        return b""


def _state(pid: str) -> tuple[str, int]:
    """State letter and start time in clock ticks since boot (proc(5), fields 3 and 22); "X" when it is gone."""
    try:
        fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[19])


def kill_host(host: Path, *, timeout: float) -> None:
    """SIGKILL all processes of a host, the supervisor first, until none is left and their ports and locks are free.

    Raises:
        HostError: some are still there after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        dying = {}
        while pids := pids_of(host):
            for pid in pids:
                descriptor = stack.enter_context(_pinned(pid, host))
                _send(descriptor, signal.SIGKILL)
                if descriptor is not None:
                    dying[pid] = descriptor
            _pause(deadline, f"processes {pids} of {host.name} survive SIGKILL")
        for pid, descriptor in dying.items():
            # A dying process loses its environment, and with it the mark, before it closes its files. Its pidfd
            # becomes readable when it is all over (pidfd_open(2)).
            wait_ms = max(0.0, deadline - time.monotonic()) * 1000
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(wait_ms):
                raise HostError(f"process {pid} of {host.name} survives SIGKILL")


def freeze_host(host: Path, *, timeout: float) -> None:
    """SIGSTOP all processes of a host, the supervisor first, until all are stopped.

    Raises:
        HostError: some still run after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while running := [pid for pid in pids_of(host) if not is_stopped(pid)]:
        for pid in running:
            _signal(pid, host, signal.SIGSTOP)
        _pause(deadline, f"processes {running} of {host.name} do not stop")


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    return _state(str(pid))[0] in ("T", "t")


def wait_stopped(pid: int, *, timeout: float) -> None:
    """Wait until a process that was sent SIGSTOP has stopped. Raises HostError when it has not in `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while _state(str(pid))[0] not in ("T", "t", "X", "Z"):
        _pause(deadline, f"process {pid} does not stop")


def thaw_host(host: Path) -> None:
    """SIGCONT all processes of a host."""
    for pid in pids_of(host):
        _signal(pid, host, signal.SIGCONT)


def _signal(pid: int, host: Path, number: signal.Signals) -> None:
    with _pinned(pid, host) as descriptor:
        _send(descriptor, number)


def _send(descriptor: int | None, number: signal.Signals) -> None:
    if descriptor is not None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)


@contextlib.contextmanager
def _pinned(pid: int, host: Path) -> Iterator[int | None]:
    """A pidfd of `pid` if it is (still) a process of `host`, else None: the pidfd pins it before the mark is read."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        marked = f"{MARK}={host.resolve()}".encode() in _environment(str(pid)).split(b"\0")
        yield descriptor if marked else None
    finally:
        os.close(descriptor)


def _pause(deadline: float, complaint: str) -> None:
    if time.monotonic() >= deadline:
        raise HostError(complaint)
    time.sleep(_POLL_S)
