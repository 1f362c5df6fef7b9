"""A program that a stalled disk keeps from ending, even when it is killed, keeps nobody waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftctl.errors import HostError
from raftctl.hosts.systemd import run_here
from tests.support.disk import mounted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def test_a_program_that_waits_for_its_disk(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a disk of one's own needs root")
    with mounted(tmp_path, size=16 << 20) as disk, disk.stalled():
        for _ in range(2):
            with pytest.raises(HostError, match=r"sh had not ended after 0\.5 s"):
                run_here(["sh", "-c", f"echo x >> {tmp_path}/file"], 0.5)
        assert run_here(["echo", "x"], 30).stdout == b"x\n"
