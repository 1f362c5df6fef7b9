"""The playbooks are what ansible-lint calls fit for production."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"


def test_lint() -> None:
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "NO_COLOR": "1"}
    command = [str(programs / "ansible-lint"), "--offline", "--profile", "production", "-q", "."]
    done = subprocess.run(
        command, cwd=PLAYBOOKS, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
