"""`raftctl bootstrap` ended by SIGKILL as each of its steps begins, and run again, until it gets to the end."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from raftctl.mysql.client import Endpoint, connect
from raftctl.sandbox.cluster import Sandbox, open_or_plan
from raftctl.sandbox.distribution import MySQLDistribution
from raftctl.secret import Secret
from tests.support.cut_command import RUN_SECONDS, cut_at_every_step, start
from tests.support.sandboxes import mysqld_socket, query
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.slow]

CUTS_MIN = 10
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


def is_cloning(sandbox: Sandbox, name: str) -> bool:
    try:
        return query(sandbox, name, "SELECT COUNT(*) FROM performance_schema.clone_status") == "1"
    except pymysql.Error:
        return True  # it restarts with what it has copied


def test_it_can_be_killed_at_every_step_and_run_again(sandbox: Sandbox) -> None:
    def let_clone_begin(step: str) -> None:
        if copy := COPYING.fullmatch(step):
            wait_until(lambda: is_cloning(sandbox, copy[1]), what="the CLONE has begun")

    reached = cut_at_every_step(sandbox.inventory, "bootstrap", "--yes", before_cut=let_clone_begin)
    assert len(reached) >= CUTS_MIN, reached
    assert any(COPYING.fullmatch(step) for step in reached), reached
    assert any(step.startswith("initializing ") for step in reached), reached
    with start(sandbox.inventory, "-o", "json", "bootstrap", "--yes") as process:
        output, errors = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, errors
    report = json.loads(output)
    assert (report["changed"], report["primary"]) == ([], "db2")
    for name in ("db1", "db2", "db3"):
        wait_until(lambda n=name: query(sandbox, n, "SELECT COUNT(*) FROM app.t") == "1", what=f"{name} has the row")
