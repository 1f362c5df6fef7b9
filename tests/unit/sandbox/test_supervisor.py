"""The supervisor plays systemd: start, restart, mask, gate, and nothing of a killed host survives."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Protocol

import pytest

from raftctl.errors import HostError
from raftctl.hosts.services import Unit
from raftctl.hosts.supervised import SupervisorServices
from raftctl.sandbox.host import SandboxHost
from tests.support.waiting import wait_until

FOREVER = ["sleep", "1000"]
T = 10.0


class HostMaker(Protocol):
    def __call__(self, **units: dict[str, Any]) -> SandboxHost: ...


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def output(host: SandboxHost, unit: str) -> str:
    log = host.log_of(unit)
    return log.read_text() if log.exists() else ""


def pid_of(services: SupervisorServices, unit: Unit, *, other_than: int | None = None) -> int:
    def probe() -> int | None:
        pid = services.main_pid(unit, timeout=T)
        return pid if pid != other_than else None

    return wait_until(probe, what=f"{unit} runs")


def test_units_start_with_the_host(make_host: HostMaker) -> None:
    services = make_host(mysqld={"argv": FOREVER}).services
    assert services.is_active(Unit.MYSQLD, timeout=T)
    assert services.main_pid(Unit.MYSQLD, timeout=T)


def test_a_unit_without_its_file_waits_for_an_explicit_start(make_host: HostMaker, tmp_path: Path) -> None:
    config = tmp_path / "controller.yaml"
    services = make_host(controller={"argv": FOREVER, "condition": str(config)}).services
    assert not services.is_active(Unit.CONTROLLER, timeout=T)
    with pytest.raises(HostError, match="not configured"):
        services.start(Unit.CONTROLLER, timeout=T)
    config.touch()
    services.start(Unit.CONTROLLER, timeout=T)
    assert services.is_active(Unit.CONTROLLER, timeout=T)


def test_a_killed_unit_is_restarted(make_host: HostMaker) -> None:
    services = make_host(mysqld={"argv": FOREVER}).services
    first = pid_of(services, Unit.MYSQLD)
    services.kill(Unit.MYSQLD, timeout=T)
    assert services.main_pid(Unit.MYSQLD, timeout=T) != first
    pid_of(services, Unit.MYSQLD, other_than=first)


def test_a_stopped_unit_stays_down_until_started(make_host: HostMaker) -> None:
    services = make_host(controller={"argv": FOREVER, "restart": "always"}).services
    pid_of(services, Unit.CONTROLLER)
    services.stop(Unit.CONTROLLER, timeout=T)
    assert not services.is_active(Unit.CONTROLLER, timeout=T)
    services.start(Unit.CONTROLLER, timeout=T)
    assert services.is_active(Unit.CONTROLLER, timeout=T)


def test_a_masked_unit_is_neither_restarted_nor_started(make_host: HostMaker) -> None:
    services = make_host(mysqld={"argv": FOREVER, "restart": "always"}).services
    pid_of(services, Unit.MYSQLD)
    services.mask(Unit.MYSQLD, timeout=T)
    services.kill(Unit.MYSQLD, timeout=T)
    with pytest.raises(HostError, match="masked"):
        services.start(Unit.MYSQLD, timeout=T)
    assert not services.is_active(Unit.MYSQLD, timeout=T)
    services.unmask(Unit.MYSQLD, timeout=T)
    services.start(Unit.MYSQLD, timeout=T)
    assert services.is_active(Unit.MYSQLD, timeout=T)


def test_on_failure_means_not_after_a_clean_end(make_host: HostMaker) -> None:
    host = make_host(mysqld={"argv": shell("echo run; exit 0")}, guard={"argv": shell("echo run; exit 3")})
    wait_until(lambda: output(host, "guard").count("run") >= 3, what="the failing unit is restarted twice")
    assert output(host, "mysqld") == "run\n"


def test_a_server_that_wants_a_restart_knows_its_parent(make_host: HostMaker, tmp_path: Path) -> None:
    script = 'if [ -e "$0" ]; then exec sleep 1000; fi; touch "$0"; [ "$MYSQLD_PARENT_PID" = "$PPID" ] && exit 16'
    host = make_host(mysqld={"argv": [*shell(script), str(tmp_path / "second-run")]})
    pid_of(host.services, Unit.MYSQLD)
    wait_until(lambda: "ended with 16" in output(host, "supervisor"), what="it ended with 16")
    wait_until(lambda: host.services.is_active(Unit.MYSQLD, timeout=T), what="it was restarted")


def test_the_gate_runs_before_each_start_and_may_hold_it_back(make_host: HostMaker, tmp_path: Path) -> None:
    released = tmp_path / "released"
    gate = shell(f"echo gate; until [ -e {released} ]; do sleep 0.02; done")
    host = make_host(mysqld={"argv": shell("echo main; exec sleep 1000"), "gate": gate})
    wait_until(lambda: "gate" in output(host, "mysqld"), what="the gate runs")
    assert not host.services.is_active(Unit.MYSQLD, timeout=T)
    released.touch()
    first = pid_of(host.services, Unit.MYSQLD)
    wait_until(lambda: "main" in output(host, "mysqld"), what="it does its work")
    host.services.kill(Unit.MYSQLD, timeout=T)
    pid_of(host.services, Unit.MYSQLD, other_than=first)
    wait_until(lambda: output(host, "mysqld").split() == ["gate", "main"] * 2, what="the gate ran again before it")


def test_a_gate_whose_file_is_missing_is_left_out(make_host: HostMaker, tmp_path: Path) -> None:
    config = tmp_path / "controller.yaml"
    spec = {"argv": shell("echo main; exec sleep 1000"), "gate": shell("echo gate"), "gate_condition": str(config)}
    host = make_host(mysqld=spec)
    first = pid_of(host.services, Unit.MYSQLD)
    wait_until(lambda: "main" in output(host, "mysqld"), what="it does its work")
    config.touch()
    host.services.kill(Unit.MYSQLD, timeout=T)
    pid_of(host.services, Unit.MYSQLD, other_than=first)
    wait_until(lambda: output(host, "mysqld").split() == ["main", "gate", "main"], what="the gate ran the second time")


def test_stale_files_are_removed_before_a_start(make_host: HostMaker, tmp_path: Path) -> None:
    lock = tmp_path / "mysqld.sock.lock"
    lock.touch()
    host = make_host(mysqld={"argv": FOREVER, "stale": [str(lock)]})
    pid_of(host.services, Unit.MYSQLD)
    assert not lock.exists()


@pytest.mark.parametrize("nice", [7, -10])
def test_a_unit_has_its_priority_where_that_is_allowed(make_host: HostMaker, nice: int) -> None:
    host = make_host(mysqld={"argv": FOREVER, "nice": nice})
    pid = pid_of(host.services, Unit.MYSQLD)
    given = os.getpriority(os.PRIO_PROCESS, pid)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    assert given == os.getpriority(os.PRIO_PROCESS, pid)
    group = Path(f"/proc/{pid}/autogroup")
    if given == nice and group.exists():
        assert group.read_text().endswith(f" nice {nice}\n")


def test_a_killed_host_leaves_nothing_and_boots_again(make_host: HostMaker) -> None:
    wanderer = shell("setsid sleep 1000 & exec sleep 1000")  # a grandchild in a session of its own
    host = make_host(mysqld={"argv": FOREVER}, controller={"argv": wanderer})
    pid_of(host.services, Unit.CONTROLLER)
    wait_until(lambda: len(host.pids()) >= 4, what="all processes run")
    before = host.pids()
    host.power_off(timeout=T)
    assert host.pids() == []
    with pytest.raises(HostError, match="does not answer"):
        host.services.is_active(Unit.MYSQLD, timeout=T)
    host.power_on(timeout=T)
    assert pid_of(host.services, Unit.MYSQLD) not in before


def test_a_frozen_host_does_not_answer_until_thawed(make_host: HostMaker) -> None:
    host = make_host(mysqld={"argv": FOREVER})
    pid_of(host.services, Unit.MYSQLD)
    host.freeze(timeout=T)
    with pytest.raises(HostError, match="does not answer"):
        host.services.is_active(Unit.MYSQLD, timeout=0.2)
    host.thaw()
    assert host.services.is_active(Unit.MYSQLD, timeout=T)


def test_signals_other_than_kill_reach_the_unit(make_host: HostMaker) -> None:
    host = make_host(mysqld={"argv": FOREVER})
    pid = pid_of(host.services, Unit.MYSQLD)
    host.services.kill(Unit.MYSQLD, signal.SIGSTOP, timeout=T)
    stat = Path(f"/proc/{pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", what="it is stopped")
    host.services.kill(Unit.MYSQLD, timeout=T)
    assert not stat.exists()


def test_the_units_outlive_a_supervisor_that_dies_alone(make_host: HostMaker) -> None:
    host = make_host(mysqld={"argv": FOREVER})
    pid = pid_of(host.services, Unit.MYSQLD)
    supervisor = host.pids()[0]
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: host.pids() == [pid], what="only the unit is left")
    host.power_off(timeout=T)
    host.power_on(timeout=T)
    assert pid_of(host.services, Unit.MYSQLD) != pid


def test_a_supervisor_asked_to_end_takes_its_units_with_it(make_host: HostMaker) -> None:
    host = make_host(mysqld={"argv": FOREVER}, controller={"argv": FOREVER})
    pid_of(host.services, Unit.CONTROLLER)
    os.kill(host.pids()[0], signal.SIGTERM)
    wait_until(lambda: host.pids() == [], what="everything has ended")


def test_a_second_supervisor_of_the_same_host_ends_at_once(make_host: HostMaker) -> None:
    host = make_host(mysqld={"argv": FOREVER})
    command = Path(f"/proc/{host.pids()[0]}/cmdline").read_bytes().decode().split("\0")[:-1]
    second = subprocess.run(command, capture_output=True, text=True, timeout=T, check=False)
    assert second.returncode == 1
    assert "another supervisor runs" in second.stderr
    assert host.services.is_active(Unit.MYSQLD, timeout=T)


@pytest.mark.parametrize(
    "request_line", [b"garbage\n", b"[]\n", b'{"op": "fly", "unit": "mysqld"}\n', b'{"op": "status"}\n']
)
def test_a_malformed_request_is_answered_and_harms_nobody(make_host: HostMaker, request_line: bytes) -> None:
    host = make_host(mysqld={"argv": FOREVER})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(T)
        connection.connect(str(host.socket))
        connection.sendall(request_line)
        assert connection.recv(4096).startswith(b'{"ok": false')
    with pytest.raises(HostError, match="no unit"):
        host.services.start(Unit.GUARD, timeout=T)
    assert host.services.is_active(Unit.MYSQLD, timeout=T)
