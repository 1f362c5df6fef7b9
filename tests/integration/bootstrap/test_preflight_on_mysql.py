"""The survey of real servers, and the judgement on it."""

from __future__ import annotations

import http.server
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest

from raftctl.bootstrap.finding import Finding, Severity
from raftctl.bootstrap.preflight import failures, judge
from raftctl.bootstrap.survey import HostSurvey, own_endpoint, survey
from raftctl.cluster.gtid import GTIDSet
from raftctl.controller.config import Secrets
from raftctl.inventory.load import parse_inventory
from raftctl.inventory.model import ClusterInventory
from raftctl.mysql.accounts import create_admin, create_replication_account
from raftctl.mysql.client import Endpoint, connect
from raftctl.sandbox.host import SandboxHost
from raftctl.secret import Secret
from tests.support.mysqld import MySQLFactory, RunningMySQL, free_port

pytestmark = pytest.mark.mysql

SECRETS = Secrets(
    cluster_id="id",
    cluster_key=Secret("k"),
    admin_password=Secret("own-Pw-1"),
    replication_passwords={"db1": Secret("repl-Pw-1")},
)


def cluster_of(server: RunningMySQL, directory: Path, *, port: int | None = None) -> ClusterInventory:
    """One member, without a supervisor: the services check is not of interest here."""
    return parse_inventory(
        f"""
orders:
  vars: {{raftctl: , ansible_connection: local}}
  hosts:
    db1:
      ansible_host: 127.0.0.1
      raftctl_dir: {directory}
      raftctl_services: {directory}/supervisor.sock
      raftctl_mysql_port: {port or server.port}
      raftctl_mysql_socket: {server.socket}
      raftctl_raft_port: {free_port()}
      raftctl_api_port: {free_port()}
""".encode()
    ).cluster()


def look(cluster: ClusterInventory, *, admin_password: str = "") -> HostSurvey:
    host = cluster.hosts[0]
    admin = Endpoint(user="root", password=Secret(admin_password), unix_socket=host.mysql_socket)
    return survey(host, own=own_endpoint(host, SECRETS), admin=admin)


def complaints(cluster: ClusterInventory, found: HostSurvey) -> list[Finding]:
    """Without the missing supervisor, and whatever room this machine has."""
    good = msgspec.structs.replace(found, services_error="", measures=None)
    return [f for f in judge(cluster, {"db1": good}, SECRETS) if f.severity is not Severity.PASS]


def root(server: RunningMySQL) -> Endpoint:
    return Endpoint(user="root", password=Secret(""), unix_socket=str(server.socket))


def test_a_member_as_it_should_be_passes(module_mysqld_factory: MySQLFactory, tmp_path: Path) -> None:
    server = module_mysqld_factory("good")
    cluster = cluster_of(server, tmp_path)
    found = look(cluster)
    assert complaints(cluster, found) == []
    assert found.mysql is not None
    assert (found.mysql.own_account, found.mysql.accounts, found.mysql.missing_privileges) == (False, frozenset(), ())
    assert not found.mysql.gtid_executed
    assert found.services_error, "there is no supervisor"


def test_raftctls_accounts_and_the_users_tables_are_seen(mysqld_factory: MySQLFactory, tmp_path: Path) -> None:
    server = mysqld_factory("db1")
    with connect(root(server), timeout=30) as conn:
        create_replication_account(conn, "db1", SECRETS.replication_passwords["db1"])
        create_admin(conn, SECRETS.admin_password)
        conn.execute("SET GLOBAL super_read_only = OFF")
        conn.execute("CREATE DATABASE app")
        conn.execute("CREATE TABLE app.a (id INT PRIMARY KEY)")
        conn.execute("CREATE TABLE app.b (id INT PRIMARY KEY) ENGINE = MyISAM")
        conn.execute("CREATE USER weak@localhost IDENTIFIED BY 'weak-Pw-1'")
    cluster = cluster_of(server, tmp_path)
    found = look(cluster)
    assert found.mysql is not None
    assert found.mysql.tables is not None
    assert (found.mysql.tables.total, found.mysql.tables.not_innodb) == (2, 1)
    assert (found.mysql.own_account, found.mysql.accounts) == (True, {"db1"})
    assert found.mysql.gtid_executed.count() == 4
    assert [(f.check, f.severity) for f in complaints(cluster, found)] == [("data", Severity.WARN)]
    own = look(cluster, admin_password="wrong").mysql
    assert own is not None, "raftctl's own account does when the DBA's login fails"
    assert (own.own_account, own.tables, own.accounts) == (True, None, {"db1"})


def test_the_gtids_of_a_long_life_are_read_whole(mysqld_factory: MySQLFactory, tmp_path: Path) -> None:
    """Each failover and each CLONE may leave another server UUID in them; performance_schema cuts values off."""
    server = mysqld_factory("db1")
    gtids = GTIDSet.parse(",".join(f"{number:08x}-0000-11f1-b633-02fc00000001:1-1000" for number in range(100)))
    with connect(root(server), timeout=30) as conn:
        conn.execute("SET GLOBAL super_read_only = OFF")
        conn.execute("SET GLOBAL gtid_purged = %s", (str(gtids),))
    found = look(cluster_of(server, tmp_path)).mysql
    assert found is not None
    assert (found.gtid_executed, found.gtid_purged) == (gtids, gtids)


def test_settings_that_lose_writes_fail(mysqld_factory: MySQLFactory, tmp_path: Path) -> None:
    server = mysqld_factory(
        "db1",
        sync_binlog=0,
        innodb_flush_log_at_trx_commit=2,
        sync_relay_log=10000,
        relay_log_recovery="ON",
        super_read_only="OFF",
        read_only="OFF",
        skip_replica_start="OFF",
        replica_net_timeout=60,
    )
    cluster = cluster_of(server, tmp_path)
    found = complaints(cluster, look(cluster))
    assert {f.what.split()[0] for f in failures(found)} == {
        "sync_binlog",
        "innodb_flush_log_at_trx_commit",
        "sync_relay_log",
        "relay_log_recovery",
        "super_read_only",
        "skip_replica_start",
    }
    assert [f.what.split()[0] for f in found if f.severity is Severity.WARN] == ["replica_net_timeout"]


def test_a_wrong_password_a_wrong_port_and_no_server(module_mysqld_factory: MySQLFactory, tmp_path: Path) -> None:
    server = module_mysqld_factory("plain")
    cluster = cluster_of(server, tmp_path)
    (finding,) = complaints(cluster, look(cluster, admin_password="hunter2"))
    assert "Access denied" in finding.what
    assert "hunter2" not in finding.what + finding.mend
    cluster = cluster_of(server, tmp_path, port=3306)
    (finding,) = complaints(cluster, look(cluster))
    assert f"listens on port {server.port}, the inventory says 3306" in finding.what
    server.kill()
    (finding,) = complaints(cluster, look(cluster))
    assert "no mysqld listens there" in finding.what


def test_a_port_that_somebody_else_uses() -> None:
    """The host's supervisor says that no controller runs, and yet somebody listens on its API port."""
    with (
        tempfile.TemporaryDirectory(prefix="pf-") as name,
        http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other,
    ):
        threading.Thread(target=other.serve_forever, daemon=True).start()
        machine = SandboxHost(Path(name) / "db1")
        machine.configure({"controller": {"argv": ["sleep", "1000"], "condition": f"{name}/none"}})
        machine.power_on(timeout=30)
        try:
            found = look(
                parse_inventory(
                    f"""
orders:
  vars: {{raftctl: , ansible_connection: local, ansible_host: 127.0.0.1, raftctl_services: {machine.socket}}}
  hosts:
    db1: {{raftctl_dir: {name}, raftctl_api_port: {other.server_port}, raftctl_raft_port: {free_port()}}}
""".encode()
                ).cluster()
            )
        finally:
            machine.power_off(timeout=30)
            other.shutdown()
    assert (found.services_error, found.controller_active) == ("", False)
    assert found.ports_taken == (f"raftctl_api_port {other.server_port}",)
