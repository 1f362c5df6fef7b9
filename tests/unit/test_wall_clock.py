"""Decisions, leases and deadlines go by monotonic clocks: who reads the wall clock stands here, with the reason."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import raftctl
from raftctl.controller import clock

ROOT = Path(raftctl.__file__).parent
DECIDING = ("consensus", "cluster", "planner", "raftnode", "controller", "mysql")
ALLOWED = {
    "controller/cluster_log.py": "stamps history entries, which people read and nothing decides by",
    "controller/certificates.py": "certificates expire by the wall clock; it only warns",
}
WALL_CLOCK = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


STANDS_STILL_IN_SUSPENSION = {("time", "monotonic"), ("time", "perf_counter")}
LEASES_AND_ELECTIONS = ("controller/node.py", "controller/guard.py", "controller/lease.py", "controller/reports.py")


def reads(path: Path, clocks: set[tuple[str, str]]) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if (name, node.attr) in clocks:
                return True
    return False


def test_no_decision_reads_the_wall_clock() -> None:
    files = [path for package in DECIDING for path in (ROOT / package).rglob("*.py")]
    readers = {str(path.relative_to(ROOT)) for path in files if reads(path, WALL_CLOCK)}
    assert readers == set(ALLOWED)


def test_leases_and_elections_go_by_a_clock_that_counts_suspension() -> None:
    assert not [name for name in LEASES_AND_ELECTIONS if reads(ROOT / name, STANDS_STILL_IN_SUSPENSION)]
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clock.now() <= time.clock_gettime(time.CLOCK_BOOTTIME)
