"""`raftctl bootstrap` ended by SIGKILL as each of its steps begins, and run again, until it gets to the end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from raftctl.mysql.client import Endpoint, connect
from raftctl.sandbox.cluster import Sandbox, open_or_plan
from raftctl.sandbox.distribution import MySQLDistribution
from raftctl.secret import Secret
from tests.support.sandboxes import mysqld_socket, query
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.slow]

CUTS_MIN = 10
RUN_SECONDS = 120.0
COPYING = re.compile("copying db2's data to (.*)")


@pytest.fixture
def sandbox(distribution: MySQLDistribution) -> Iterator[Sandbox]:
    """Three servers without controllers. db2 has data, which the others must get by CLONE."""
    directory = Path(tempfile.mkdtemp(prefix="bs-"))  # a short path: unix sockets go below it
    sandbox = open_or_plan(directory, nodes=3, witnesses=0, namespaces=False, settings=[])
    try:
        sandbox.write_inventory()
        sandbox.start_all()
        root = Endpoint(user="root", password=Secret(""), unix_socket=str(mysqld_socket(sandbox, "db2")))
        with connect(root, timeout=60) as conn:
            conn.execute("SET GLOBAL super_read_only = OFF")
            conn.execute("SET GLOBAL read_only = OFF")
            conn.execute("CREATE DATABASE app")
            conn.execute("CREATE TABLE app.t (id INT PRIMARY KEY)")
            conn.execute("INSERT INTO app.t VALUES (1)")
        yield sandbox
    finally:
        sandbox.down(purge=False)
        shutil.rmtree(directory, ignore_errors=True)


def start(sandbox: Sandbox, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "raftctl", "-i", str(sandbox.inventory), *options, "bootstrap", "--yes"]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def killed_at_a_new_step(sandbox: Sandbox, reached: list[str]) -> bool:
    """Run bootstrap until it names a step that is not in `reached`, add that and kill it; False when it ended well."""
    with start(sandbox) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line.strip())
            if said[-1] not in reached and is_a_step(said[-1]):
                if copy := COPYING.fullmatch(said[-1]):
                    wait_until(lambda name=copy[1]: is_cloning(sandbox, name), what="the CLONE has begun")
                process.send_signal(signal.SIGKILL)
                process.communicate()
                reached.append(said[-1])
                return True
        assert process.wait(RUN_SECONDS) == 0, "\n".join([*said, "after:", *reached])
    return False


def is_cloning(sandbox: Sandbox, name: str) -> bool:
    try:
        return query(sandbox, name, "SELECT COUNT(*) FROM performance_schema.clone_status") == "1"
    except pymysql.Error:
        return True  # it restarts with what it has copied


def is_a_step(line: str) -> bool:
    """Whether it announces something to do, and not how far that is, what is waited for or what was found."""
    return not line.startswith(("waiting: ", "warn: ", "error: ", "hint: ")) and "%" not in line


def test_it_can_be_killed_at_every_step_and_run_again(sandbox: Sandbox) -> None:
    reached: list[str] = []
    while killed_at_a_new_step(sandbox, reached):
        pass
    assert len(reached) >= CUTS_MIN, reached
    assert any(COPYING.fullmatch(step) for step in reached), reached
    assert any(step.startswith("initializing ") for step in reached), reached
    with start(sandbox, "-o", "json") as process:
        output, errors = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, errors
    report = json.loads(output)
    assert (report["changed"], report["primary"]) == ([], "db2")
    for name in ("db1", "db2", "db3"):
        wait_until(lambda n=name: query(sandbox, n, "SELECT COUNT(*) FROM app.t") == "1", what=f"{name} has the row")
