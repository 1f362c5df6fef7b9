"""SystemdServices: what systemctl is asked, and what its answers mean. On a real systemd: tests/e2e."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from raftctl.errors import HostError
from raftctl.hosts.services import Unit
from raftctl.hosts.systemd import Outcome, SystemdServices, run_here


class Recorded:
    """Plays back answers of systemctl, the last one for ever; `asked` are the commands."""

    def __init__(self, *answers: Outcome) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str], timeout: float) -> Outcome:
        assert timeout > 0
        self.asked.append(" ".join(argv))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def said(text: str = "") -> Outcome:
    return Outcome(0, text.encode(), b"")


def test_main_pid() -> None:
    assert SystemdServices(Recorded(said("418\n"))).main_pid(Unit.MYSQLD, timeout=5) == 418
    assert SystemdServices(Recorded(said("0\n"))).main_pid(Unit.MYSQLD, timeout=5) is None
    assert SystemdServices(Recorded(said(""))).is_active(Unit.GUARD, timeout=5) is False


def test_kill_waits_until_that_process_is_gone() -> None:
    run = Recorded(said("418"), said(), said("418"), said("418"), said("500"))
    SystemdServices(run, mysqld_unit="mysqld.service").kill(Unit.MYSQLD, timeout=30)
    assert run.asked[1] == "systemctl kill --signal=SIGKILL mysqld.service"
    assert len(run.asked) == 5


def test_other_signals_do_not_wait() -> None:
    run = Recorded(said("418"), said())
    SystemdServices(run).kill(Unit.MYSQLD, signal.SIGSTOP, timeout=30)
    assert run.asked[-1] == "systemctl kill --signal=SIGSTOP mysql.service"


def test_what_does_not_run_is_not_killed() -> None:
    run = Recorded(said("0"))
    SystemdServices(run).kill(Unit.MYSQLD, timeout=30)
    assert len(run.asked) == 1


def test_a_systemd_that_does_not_answer_is_passed_by() -> None:
    failed = Outcome(1, b"", b"Failed to connect to bus: Connection refused\n")
    run = Recorded(failed, said())
    SystemdServices(run).kill(Unit.MYSQLD, timeout=30)
    assert run.asked[-1].endswith("mysql.service")
    assert "cgroup.procs" in run.asked[-1]


def test_failures_are_one_line() -> None:
    masked = Outcome(1, b"", b"Failed to start mysql.service: Unit mysql.service is masked.\nmore\n")
    with pytest.raises(HostError, match=r"^systemctl start mysql.service: Failed to start .* is masked\.$"):
        SystemdServices(Recorded(masked)).start(Unit.MYSQLD, timeout=5)


def test_what_is_no_process_id_is_one_line() -> None:
    with pytest.raises(HostError, match=r"systemctl says 'n/a' is the process of mysql\.service"):
        SystemdServices(Recorded(said("n/a"))).main_pid(Unit.MYSQLD, timeout=5)


NO_ROOM = """
import resource
from raftctl.errors import HostError
from raftctl.hosts.systemd import THREADS_MAX, run_here

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), resource.RLIM_INFINITY))
for _ in range(THREADS_MAX + 1):
    try:
        run_here(["true"], 5.0)
    except HostError as error:
        told = str(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(told)
print(run_here(["true"], 30.0).status)
"""


def test_a_host_without_room_for_a_thread() -> None:
    done = subprocess.run([sys.executable, "-c", NO_ROOM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["cannot run true: can't start new thread", "0"], done.stderr


def test_run_here_has_a_deadline() -> None:
    assert run_here(["sh", "-c", "echo x; exit 3"], 30).status == 3
    with pytest.raises(HostError, match=r"sleep had not ended after 0\.1 s"):
        run_here(["sleep", "100"], 0.1)
    with pytest.raises(HostError, match="cannot run no-such-program"):
        run_here(["no-such-program"], 5)
