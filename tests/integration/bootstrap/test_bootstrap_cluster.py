"""Bootstrap on whole sandboxes: real servers, real controllers, from nothing to healthy."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from raftctl.api_client import ApiClient
from raftctl.bootstrap import formation
from raftctl.bootstrap.application import create_application
from raftctl.bootstrap.primary import PrimaryRefusal
from raftctl.bootstrap.run import BootstrapReport, bootstrap
from raftctl.bootstrap.set_up import PreflightError
from raftctl.errors import RaftctlError, RefusedError
from raftctl.hosts.services import Unit
from raftctl.inventory import ClusterInventory, load_inventory
from raftctl.mysql.client import Endpoint, connect
from raftctl.sandbox.cluster import Sandbox, open_or_plan
from raftctl.sandbox.distribution import MySQLDistribution
from raftctl.secret import Secret
from tests.support.sandboxes import mysqld_socket, query
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


@contextmanager
def fresh_sandbox(**shape: int) -> Iterator[Sandbox]:
    """Servers without controllers, and an inventory for them."""
    directory = Path(tempfile.mkdtemp(prefix="bs-"))  # a short path: unix sockets go below it
    sandbox = open_or_plan(
        directory, nodes=shape.get("nodes", 3), witnesses=shape.get("witnesses", 0), namespaces=False, settings=[]
    )
    try:
        sandbox.write_inventory()
        sandbox.start_all()
        yield sandbox
    finally:
        sandbox.down(purge=False)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def sandbox(distribution: MySQLDistribution) -> Iterator[Sandbox]:
    """Three servers, nothing else yet."""
    with fresh_sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def running(distribution: MySQLDistribution) -> Iterator[Sandbox]:
    """A bootstrapped cluster without data; each test leaves it so."""
    with fresh_sandbox() as sandbox:
        run(sandbox)
        yield sandbox


def cluster_of(sandbox: Sandbox) -> ClusterInventory:
    return load_inventory(sandbox.inventory).cluster()


def run(sandbox: Sandbox, *, dry_run: bool = False) -> BootstrapReport:
    return bootstrap(cluster_of(sandbox), dry_run=dry_run, timeout=90)


def execute(sandbox: Sandbox, name: str, *statements: str) -> None:
    """As root, with super_read_only lifted meanwhile."""
    endpoint = Endpoint(user="root", password=Secret(""), unix_socket=str(mysqld_socket(sandbox, name)))
    with connect(endpoint, timeout=60) as conn:
        for statement in ("SET GLOBAL super_read_only = OFF", *statements):
            conn.execute(statement)


def test_from_nothing_to_healthy_and_then_nothing_to_do(sandbox: Sandbox) -> None:
    planned = run(sandbox, dry_run=True)
    assert list(sandbox.directory.glob("*/controller.yaml")) == [], "a dry run changes nothing"
    assert not cluster_of(sandbox).credentials.exists()
    report = run(sandbox)
    assert report.changed == planned.changed
    assert (report.primary, planned.primary) == ("db1", "db1")
    again = run(sandbox)
    assert (again.changed, again.primary) == ([], "db1")
    assert run(sandbox, dry_run=True).changed == []

    create_application(cluster_of(sandbox), database="app", user="app", password=Secret("app-Pw-1"))
    create_application(cluster_of(sandbox), database="app", user="app", password=Secret("app-Pw-2"))
    member = sandbox.layout.member("db1")
    app = Endpoint(user="app", password=Secret("app-Pw-2"), host=member.address, port=member.mysql_port)
    with connect(app, timeout=60) as conn:
        conn.execute("CREATE TABLE app.t (id INT PRIMARY KEY)")
        conn.execute("INSERT INTO app.t VALUES (1)")
        with pytest.raises(RaftctlError):
            conn.execute("SET GLOBAL super_read_only = ON")
    for name in ("db2", "db3"):
        wait_until(lambda n=name: has_row(sandbox, n), what=f"{name} has the row")


def has_row(sandbox: Sandbox, name: str) -> bool:
    tables = query(sandbox, name, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'app'")
    return tables == "1" and query(sandbox, name, "SELECT COUNT(*) FROM app.t") == "1"


def test_the_accounts_are_in_no_binary_log(running: Sandbox) -> None:
    assert query(running, "db1", "SELECT COUNT(*) FROM mysql.user WHERE user LIKE 'raftctl%'") == "4"
    assert query(running, "db1", "SELECT @@gtid_executed") == ""


def test_two_data_members_and_a_witness(distribution: MySQLDistribution) -> None:
    with fresh_sandbox(nodes=2, witnesses=1) as sandbox:
        assert run(sandbox).primary == "db1"
        assert run(sandbox).changed == []


def test_an_existing_primary_is_adopted_and_copied(sandbox: Sandbox) -> None:
    execute(
        sandbox,
        "db2",
        "SET GLOBAL read_only = OFF",
        "CREATE DATABASE app",
        "CREATE TABLE app.t (id INT PRIMARY KEY)",
        "INSERT INTO app.t VALUES (1)",
        "FLUSH BINARY LOGS",
        "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY",
    )
    assert query(sandbox, "db2", "SELECT @@gtid_purged") != ""
    report = run(sandbox)
    assert report.primary == "db2"
    assert "db1: data replaced by a copy of db2's" in report.changed
    assert all(has_row(sandbox, name) for name in ("db1", "db2", "db3"))
    assert query(sandbox, "db2", "SELECT @@super_read_only") == "0"
    assert run(sandbox).changed == []


def test_an_application_writes_all_the_while_its_primary_is_adopted(sandbox: Sandbox) -> None:
    execute(
        sandbox,
        "db3",
        "SET GLOBAL read_only = OFF",
        "CREATE DATABASE app",
        "CREATE TABLE app.t (id INT PRIMARY KEY)",
        "CREATE USER app IDENTIFIED BY 'app-Pw-1'",
        "GRANT ALL ON app.* TO app",
    )
    member = sandbox.layout.member("db3")
    app = Endpoint(user="app", password=Secret("app-Pw-1"), host=member.address, port=member.mysql_port)
    with writer(app) as acknowledged:
        wait_until(lambda: len(acknowledged) > 10, what="rows before the adoption")
        assert run(sandbox).primary == "db3"
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 10, what="rows after the adoption")
    for name in ("db1", "db2", "db3"):
        wait_until(lambda n=name: set(acknowledged) <= rows(sandbox, n), what=f"{name} has every acknowledged row")


@contextmanager
def writer(app: Endpoint) -> Iterator[list[int]]:
    """Inserts one row after the other into app.t; yields those that were acknowledged."""
    acknowledged: list[int] = []
    done = threading.Event()

    def write() -> None:
        numbers = itertools.count()
        while not done.is_set():
            try:
                with connect(app, connect_timeout=30, timeout=30) as conn:
                    while not done.is_set():
                        number = next(numbers)
                        conn.execute(f"INSERT INTO app.t VALUES ({number})")
                        acknowledged.append(number)
            except RaftctlError:
                done.wait(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield acknowledged
    finally:
        done.set()
        thread.join()


def rows(sandbox: Sandbox, name: str) -> set[int]:
    text = query(sandbox, name, "SELECT JSON_ARRAYAGG(id) FROM app.t")
    return set(json.loads(text))


def test_diverged_members_are_refused_untouched(sandbox: Sandbox) -> None:
    execute(sandbox, "db1", "CREATE DATABASE one")
    execute(sandbox, "db2", "CREATE DATABASE two")
    with pytest.raises(RefusedError) as caught:
        run(sandbox)
    assert caught.value.reason == PrimaryRefusal.DIVERGED
    assert list(sandbox.directory.glob("*/controller.yaml")) == []
    assert query(sandbox, "db1", "SELECT COUNT(*) FROM mysql.user WHERE user LIKE 'raftctl%'") == "0"
    assert list(cluster_of(sandbox).credentials.iterdir()) == []


def test_an_unfit_host_is_named_and_nothing_is_changed(sandbox: Sandbox) -> None:
    sandbox.host("db3").services.mask(Unit.MYSQLD, timeout=10)
    sandbox.host("db3").services.kill(Unit.MYSQLD, timeout=30)
    with pytest.raises(PreflightError) as caught:
        run(sandbox)
    assert "db3 is not fit, nothing was changed" in str(caught.value)
    assert {f.host for f in caught.value.findings if f.severity == "fail"} == {"db3"}
    assert list(sandbox.directory.glob("*/controller.yaml")) == []


def test_files_that_were_lost_are_written_again_and_the_controller_restarted(running: Sandbox) -> None:
    (running.directory / "db2" / "tls" / "node.key").unlink()
    report = run(running)
    assert report.changed == [
        f"db2: files written to {running.directory.resolve()}/db2: tls/node.key, tls/node.crt",
        "db2: controller restarted with its new files",
    ]
    assert run(running).changed == []


def test_other_credentials_cannot_take_the_hosts_over(running: Sandbox) -> None:
    credentials = cluster_of(running).credentials
    kept = credentials.rename(credentials.with_name("kept"))
    with pytest.raises(PreflightError, match="with other credentials than those here"):
        run(running)
    shutil.rmtree(credentials)
    kept.rename(credentials)
    assert run(running).changed == []


def test_only_one_bootstrap_at_a_time(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run, sandbox) for _ in range(2)]
    outcomes = {str(future.exception() or "done").split("/")[0] for future in both}
    assert outcomes <= {"done", "another bootstrap uses "}
    assert "done" in outcomes


def test_other_members_than_the_clusters_are_refused(running: Sandbox) -> None:
    text = running.inventory.read_text()
    document = yaml.safe_load(text)
    hosts = document["all"]["children"]["sandbox"]["hosts"]
    del hosts["db2"], hosts["db3"]
    running.inventory.write_text(yaml.safe_dump(document))
    try:
        with pytest.raises(RefusedError, match="db2 is not in the inventory; db3 is not in the inventory") as caught:
            run(running)
    finally:
        running.inventory.write_text(text)
    assert caught.value.reason == "members-differ"
    assert run(running).changed == []


def test_settings_that_only_the_log_can_change_are_pointed_out(running: Sandbox) -> None:
    text = running.inventory.read_text()
    running.inventory.write_text(text.replace("raftctl: {}", "raftctl: {durability: all}"))
    try:
        (warning,) = [found for found in run(running, dry_run=True).warnings if found.check == "settings"]
    finally:
        running.inventory.write_text(text)
    assert warning.what == "durability stays 'majority': 'all' in the inventory has no effect"


def test_why_there_is_no_leader_is_said_in_one_line(running: Sandbox) -> None:
    cluster = cluster_of(running)
    api = ApiClient.from_directory(cluster.credentials)
    wait_until(lambda: not isinstance(formation.find_leader(api, cluster.members()), str), what="a leader")
    services = [running.host(name).services for name in ("db1", "db2")]
    for service in services:
        service.mask(Unit.CONTROLLER, timeout=10)
        service.kill(Unit.CONTROLLER, timeout=30)

    def complaint() -> str | None:
        found = formation.find_leader(api, cluster.members())
        # while it still leads it may have an entry that it cannot commit any more
        return found if isinstance(found, str) and not found.startswith("the leader") else None

    found = wait_until(complaint, what="the third controller no longer leads")
    for service in services:
        service.unmask(Unit.CONTROLLER, timeout=10)
    assert found.startswith("too few controllers answer (db1: connection refused; db2: connection refused)")
    assert run(running).changed == ["db1: controller started", "db2: controller started"]
