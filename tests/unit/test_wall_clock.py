"""Decisions, leases and deadlines go by monotonic clocks: who reads the wall clock stands here, with the reason."""

from __future__ import annotations

import ast
from pathlib import Path

import raftctl

ROOT = Path(raftctl.__file__).parent
DECIDING = ("consensus", "cluster", "planner", "raftnode", "controller", "mysql")
ALLOWED = {
    "controller/cluster_log.py": "stamps history entries, which people read and nothing decides by",
    "controller/certificates.py": "certificates expire by the wall clock; it only warns",
}
WALL_CLOCK = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


def reads_wall_clock(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if (name, node.attr) in WALL_CLOCK:
                return True
    return False


def test_no_decision_reads_the_wall_clock() -> None:
    files = [path for package in DECIDING for path in (ROOT / package).rglob("*.py")]
    readers = {str(path.relative_to(ROOT)) for path in files if reads_wall_clock(path)}
    assert readers == set(ALLOWED)
