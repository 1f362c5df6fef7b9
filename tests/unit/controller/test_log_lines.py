"""Lines for a reader that does not read."""

from __future__ import annotations

import os
import subprocess
import sys

from raftctl.controller.log_lines import LINES_MAX

PROGRAM = """
import logging
import os
from raftctl.controller.log_lines import log_to_stderr

log_to_stderr("db1")
logging.info("begin")
for number in range(3 * {lines}):
    logging.info("line %d", number)
os.write(1, b"nobody waited\\n")
os.read(0, 1)
try:
    raise ValueError("a reason")
except ValueError:
    logging.exception("end")
"""


def test_nobody_waits_for_it_and_what_is_missing_is_told() -> None:
    command = [sys.executable, "-c", PROGRAM.format(lines=LINES_MAX)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin
        assert program.stdout
        assert program.stderr
        assert program.stdout.readline() == "nobody waited\n"
        lines = []
        while "could not be written" not in (line := program.stderr.readline()):
            lines.append(line)
        assert line.startswith(f"{3 * LINES_MAX + 1 - len(lines)} lines")
        assert lines[0].endswith(" db1 begin\n")
        program.stdin.write("x")
        program.stdin.flush()
        last = program.stderr.read()
    assert program.returncode == 0
    assert " db1 end\nTraceback" in last
    assert last.endswith("ValueError: a reason\n")


def test_a_process_ends_although_nobody_reads() -> None:
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-c", PROGRAM.format(lines=LINES_MAX)]
        done = subprocess.run(command, input=b"x", stdout=subprocess.PIPE, stderr=writing, timeout=60, check=False)
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 0


NOBODY_AND_SOMEBODY = """
import logging
import os
import time
from raftctl.controller.log_lines import log_to_stderr

log_to_stderr("db1")
somebody = os.dup(2)
nobody, end = os.pipe()
os.dup2(end, 2)
os.close(nobody)
logging.info("lost")
while logging.getLogger().handlers[0].missing == 0:
    time.sleep(0.01)
os.dup2(somebody, 2)
logging.info("end")
"""


def test_it_goes_on_when_somebody_takes_lines_again() -> None:
    done = subprocess.run([sys.executable, "-c", NOBODY_AND_SOMEBODY], stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 0
    end, told = done.stderr.decode().splitlines()
    assert end.endswith(" db1 end")
    assert told == "1 lines could not be written"
