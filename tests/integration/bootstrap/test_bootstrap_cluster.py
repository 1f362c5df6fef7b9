"""Bootstrap on whole sandboxes: real servers, real controllers, from nothing to healthy."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from raftctl.bootstrap import formation
from raftctl.bootstrap.application import create_application
from raftctl.bootstrap.primary import PrimaryRefusal
from raftctl.bootstrap.run import BootstrapReport, PreflightError, bootstrap
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
    with fresh_sandbox() as sandbox:
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


def test_the_accounts_are_in_no_binary_log(sandbox: Sandbox) -> None:
    run(sandbox)
    assert query(sandbox, "db1", "SELECT @@gtid_executed") == ""


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
    assert {f.host for f in caught.value.findings if f.what} == {"db3"}
    assert list(sandbox.directory.glob("*/controller.yaml")) == []


class Interrupted(Exception):
    pass


@pytest.mark.slow
def test_it_can_be_interrupted_at_every_step_and_repeated(sandbox: Sandbox) -> None:
    steps: list[str] = []

    def stop_at(count: int) -> None:
        seen: list[str] = []

        def progress(step: str) -> None:
            seen.append(step)
            if step.startswith("waiting: "):
                return
            steps.append(step)
            if len([s for s in seen if not s.startswith("waiting: ")]) == count:
                raise Interrupted

        bootstrap(cluster_of(sandbox), progress=progress, timeout=90)

    for count in range(1, 6):
        try:
            stop_at(count)
        except Interrupted:
            continue
        break
    assert any("initializing" in step for step in steps)
    assert run(sandbox).primary == "db1"
    assert run(sandbox).changed == []


def test_files_that_were_lost_are_written_again_and_the_controller_restarted(sandbox: Sandbox) -> None:
    run(sandbox)
    (sandbox.directory / "db2" / "tls" / "node.key").unlink()
    report = run(sandbox)
    assert report.changed == [
        f"db2: files written to {sandbox.directory.resolve()}/db2: tls/node.key, tls/node.crt",
        "db2: controller restarted with its new files",
    ]
    assert run(sandbox).changed == []


def test_other_credentials_cannot_take_the_hosts_over(sandbox: Sandbox) -> None:
    run(sandbox)
    credentials = cluster_of(sandbox).credentials
    kept = credentials.rename(credentials.with_name("kept"))
    with pytest.raises(PreflightError, match="with other credentials than those here"):
        run(sandbox)
    shutil.rmtree(credentials)
    kept.rename(credentials)
    assert run(sandbox).changed == []


def test_only_one_bootstrap_at_a_time(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run, sandbox) for _ in range(2)]
    errors = [future.exception() for future in both]
    assert None in errors
    assert all(error is None or "another bootstrap uses" in str(error) for error in errors)


def test_a_member_more_than_the_running_cluster_has_is_refused(sandbox: Sandbox) -> None:
    run(sandbox)
    text = sandbox.inventory.read_text()
    sandbox.inventory.write_text(
        text.replace("      hosts:\n", "      hosts:\n" + "".join(map(_extra_witness, (8, 9))))
    )
    with pytest.raises(RaftctlError):
        run(sandbox)
    sandbox.inventory.write_text(text)
    assert run(sandbox).changed == []


def _extra_witness(number: int) -> str:
    return f"        w{number}: {{raftctl_role: witness, ansible_host: 127.0.0.{number}, raftctl_dir: /w{number}}}\n"


def test_a_leader_counts_only_when_its_log_is_applied(sandbox: Sandbox) -> None:
    """`find_leader` says why there is none, in one line."""
    run(sandbox)
    from raftctl.api_client import ApiClient

    cluster = cluster_of(sandbox)
    api = ApiClient.from_directory(cluster.credentials)
    assert not isinstance(formation.find_leader(api, cluster.members()), str)
    for name in ("db1", "db2"):
        services = sandbox.host(name).services
        services.mask(Unit.CONTROLLER, timeout=10)
        services.kill(Unit.CONTROLLER, timeout=30)
    found = formation.find_leader(api, cluster.members())
    assert isinstance(found, str)
    assert found.startswith("too few controllers answer (db1: connection refused; db2: connection refused)")
