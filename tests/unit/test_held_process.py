"""Holding on to a process, and to no other."""

from __future__ import annotations

import subprocess

import pytest

from raftctl.hosts.held_process import HeldProcess


def test_it_is_killed() -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        held = HeldProcess(process.pid)
        assert not held.has_ended()
        held.kill(timeout=30)
        assert held.has_ended()
    assert process.returncode == -9


def test_one_that_has_ended_is_gone_whoever_has_its_number() -> None:
    with subprocess.Popen(["true"]) as process:
        held = HeldProcess(process.pid)
    assert held.has_ended()
    held.kill(timeout=30)


def test_there_is_none() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    with pytest.raises(ProcessLookupError):
        HeldProcess(process.pid)
