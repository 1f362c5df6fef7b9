"""A command of raftctl ended by SIGKILL as each of its steps begins, and run again, until it gets to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

RUN_SECONDS = 120.0
NO_STEPS = ("waiting: ", "warn: ", "error: ", "hint: ")  # what is waited for, and what was found


def start(inventory: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "raftctl", "-i", str(inventory), *arguments]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def cut_at_every_step(
    inventory: Path, *arguments: str, before_cut: Callable[[str], None] = lambda _step: None
) -> list[str]:
    """The steps at which it was killed, in order; then it ended well. `before_cut` is called with the step that was
    just announced."""
    reached: list[str] = []
    while step := _killed_at_a_new_step(inventory, arguments, reached, before_cut):
        reached.append(step)
    return reached


def _killed_at_a_new_step(
    inventory: Path, arguments: tuple[str, ...], reached: list[str], before_cut: Callable[[str], None]
) -> str:
    """Run it until it names a step that is not in `reached`, and kill it there; "" when it ended well."""
    with start(inventory, *arguments) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line.strip())
            if said[-1] not in reached and _is_a_step(said[-1]):
                before_cut(said[-1])
                process.send_signal(signal.SIGKILL)
                process.communicate()
                return said[-1]
        process.communicate(timeout=RUN_SECONDS)
        assert process.returncode == 0, "\n".join([*said, "after:", *reached])
    return ""


def _is_a_step(line: str) -> bool:
    """Whether it announces something to do, and not how far that is."""
    return not line.startswith(NO_STEPS) and "%" not in line
