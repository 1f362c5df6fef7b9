"""What a host lacks: only that is done, and again only what changed."""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path

import msgspec
import pytest

from raftctl.bootstrap.credentials import Credentials, prepare
from raftctl.bootstrap.host_plan import HostPlan, controller_config, plan_host, write_files
from raftctl.bootstrap.survey import HostSurvey
from raftctl.bootstrap.system import Platform
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import Settings
from raftctl.controller import config as c
from raftctl.hosts.local import LocalHost
from raftctl.inventory.load import parse_inventory
from raftctl.inventory.model import ClusterInventory
from tests.support.bootstrap_builders import mysql_survey

NOW = dt.datetime.now(dt.UTC)
HERE = LocalHost("db1")


def cluster_in(directory: Path, *, address: str = "192.0.2.1") -> ClusterInventory:
    return parse_inventory(
        f"""
orders:
  vars: {{raftctl: {{raft: {{election_timeout: 2s}}, hooks: {{after_promote: /h}}}}, ansible_connection: local}}
  hosts:
    db1: {{ansible_host: {address}, raftctl_dir: {directory}/db1, raftctl_services: /run/s, raftctl_mysql_socket: /m}}
    db2: {{raftctl_dir: {directory}/db2}}
    w1: {{raftctl_dir: {directory}/w1, raftctl_role: witness}}
""".encode()
    ).cluster()


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterInventory:
    return cluster_in(tmp_path)


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return prepare(tmp_path / "none", "orders", ["db1", "db2"], now=NOW)[0]


def plan(cluster: ClusterInventory, credentials: Credentials, found: HostSurvey, *, name: str = "db1") -> HostPlan:
    return plan_host(cluster, cluster.host(name), HERE, found, credentials, now=NOW)


def names(plan: HostPlan) -> list[str]:
    return [Path(file.path).name for file in plan.files]


def test_a_fresh_host_gets_everything_the_configuration_last(
    cluster: ClusterInventory, credentials: Credentials
) -> None:
    fresh = plan(cluster, credentials, HostSurvey(name="db1", mysql=mysql_survey()))
    assert names(fresh) == ["secrets.json", "ca.crt", "node.key", "node.crt", "controller.yaml"]
    assert (fresh.admin_account, fresh.accounts, fresh.start, fresh.restart) == (True, ("db1", "db2"), True, False)
    assert fresh.changes[0] == "db1: MySQL accounts created: raftctl, raftctl_repl_db1, raftctl_repl_db2"


def test_a_host_that_has_everything_needs_nothing(cluster: ClusterInventory, credentials: Credentials) -> None:
    write_files(HERE, plan(cluster, credentials, HostSurvey(name="db1")))
    server = mysql_survey(own_account=True, accounts=frozenset({"db1", "db2"}))
    again = plan(cluster, credentials, HostSurvey(name="db1", mysql=server, controller_active=True))
    assert again.changes == []


def test_a_running_cluster_keeps_its_times_whatever_the_inventory_says(
    cluster: ClusterInventory, credentials: Credentials
) -> None:
    """Leases are measured by those in the log: a controller with others would disagree with the rest."""
    host, found = cluster.host("db1"), HostSurvey(name="db1")
    times = Settings(election_timeout=3.0, heartbeat_interval=0.2)
    planned = plan_host(cluster, host, HERE, found, credentials, now=NOW, settings=times)
    config = c.parse_config(planned.files[-1].data, name="controller.yaml")
    assert (config.raft.election_timeout, config.raft.heartbeat_interval) == (3.0, 0.2)
    assert cluster.election_timeout == 2.0


def test_a_restart_that_an_interrupted_bootstrap_owes_is_made_up_for(
    cluster: ClusterInventory, credentials: Credentials
) -> None:
    write_files(HERE, plan(cluster, credentials, HostSurvey(name="db1")))
    again = plan(cluster, credentials, HostSurvey(name="db1", controller_active=True, restart_pending=True))
    assert again.changes == ["db1: controller restarted with its new files"]


def test_accounts_are_made_again_while_the_one_that_is_made_last_does_not_work(
    cluster: ClusterInventory, credentials: Credentials
) -> None:
    server = mysql_survey(own_account=False, accounts=frozenset({"db1"}))
    assert plan(cluster, credentials, HostSurvey(name="db1", mysql=server)).accounts == ("db1", "db2")


def test_the_files_on_the_host_are_private_and_load(cluster: ClusterInventory, credentials: Credentials) -> None:
    write_files(HERE, plan(cluster, credentials, HostSurvey(name="db1")))
    home = Path(cluster.host("db1").directory)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*")}
    assert {name for name, mode in modes.items() if mode & 0o077} == {"ca.crt", "node.crt"}
    config = c.load(home / "controller.yaml")
    assert config == controller_config(cluster, cluster.host("db1"), cluster_id=credentials.secrets.cluster_id)
    assert c.load_secrets(config.secrets_file) == credentials.secrets


def test_the_configuration_follows_the_inventory(cluster: ClusterInventory) -> None:
    config = controller_config(cluster, cluster.host("db1"), cluster_id="id")
    assert (config.cluster, config.node, config.cluster_id) == ("orders", "db1", "id")
    assert config.raft == c.RaftConfig(listen="192.0.2.1:8007", election_timeout=2.0)
    assert config.api.listen == "192.0.2.1:8008"
    assert config.peers == cluster.members()
    assert config.mysql == c.MySQLConfig(socket="/m", host="192.0.2.1", port=3306)
    assert config.services == c.ServicesConfig(kind="supervisor", socket="/run/s")
    assert config.hooks == {"after_promote": "/h"}
    witness = controller_config(cluster, cluster.host("w1"), cluster_id="id")
    assert (witness.mysql, witness.services) == (None, c.ServicesConfig(kind="systemd"))
    assert witness.raft.listen == "0.0.0.0:8007", "reached by a name, which may be a loopback address on the host"


def test_a_changed_setting_restarts_the_controller(
    cluster: ClusterInventory, credentials: Credentials, tmp_path: Path
) -> None:
    write_files(HERE, plan(cluster, credentials, HostSurvey(name="db1")))
    changed = msgspec.structs.replace(cluster, heartbeat_interval=0.2)
    again = plan(changed, credentials, HostSurvey(name="db1", controller_active=True))
    assert (names(again), again.start, again.restart) == (["controller.yaml"], False, True)


def test_a_changed_address_gets_a_new_certificate(
    cluster: ClusterInventory, credentials: Credentials, tmp_path: Path
) -> None:
    write_files(HERE, plan(cluster, credentials, HostSurvey(name="db1")))
    moved = plan(cluster_in(tmp_path, address="192.0.2.9"), credentials, HostSurvey(name="db1"))
    assert names(moved) == ["node.key", "node.crt", "controller.yaml"]


@pytest.mark.parametrize("written", range(5))
def test_an_interrupted_writing_is_completed(cluster: ClusterInventory, credentials: Credentials, written: int) -> None:
    whole = plan(cluster, credentials, HostSurvey(name="db1"))
    write_files(HERE, msgspec.structs.replace(whole, files=whole.files[:written]))
    write_files(HERE, plan(cluster, credentials, HostSurvey(name="db1")))
    assert names(plan(cluster, credentials, HostSurvey(name="db1"))) == []


def test_only_missing_accounts_are_created(cluster: ClusterInventory, credentials: Credentials) -> None:
    server = mysql_survey(own_account=True, accounts=frozenset({"db1"}))
    assert plan(cluster, credentials, HostSurvey(name="db1", mysql=server)).accounts == ("db2",)
    assert plan(cluster, credentials, HostSurvey(name="w1"), name="w1").accounts == ()


def test_a_plan_shows_no_secret(cluster: ClusterInventory, credentials: Credentials) -> None:
    shown = repr(plan(cluster, credentials, HostSurvey(name="db1", mysql=mysql_survey())))
    assert "PRIVATE" not in shown
    assert credentials.secrets.cluster_key.reveal() not in shown


def adopted(
    cluster: ClusterInventory, credentials: Credentials, *, executed: str = "", **settings: str
) -> tuple[bool, bool, bool]:
    """Whether its mysqld is restarted, opened again afterwards, and given its server_id without a restart."""
    variables = mysql_survey().variables | {"admin_address": "127.0.0.1", "read_only": "OFF", "super_read_only": "OFF"}
    mysql = mysql_survey(variables=variables | settings, gtid_executed=GTIDSet.parse(executed))
    platform = Platform(
        python=(3, 11), machine="x86_64", release="", mysqld_unit="loaded", option_directory="/etc/my.cnf.d"
    )
    found = plan(cluster, credentials, HostSurvey(name="db1", mysql=mysql, platform=platform))
    return found.system.restart_mysqld, found.reopen, found.server_id is not None


WRITTEN = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"


def test_a_primary_at_work_that_is_set_up_well_is_not_restarted(
    cluster: ClusterInventory, credentials: Credentials
) -> None:
    assert adopted(cluster, credentials, executed=WRITTEN) == (False, False, True)


@pytest.mark.parametrize("setting", [{"sync_relay_log": "10000"}, {"admin_address": ""}])
def test_a_primary_at_work_is_open_again_after_the_restart_that_it_needs(
    cluster: ClusterInventory, credentials: Credentials, setting: dict[str, str]
) -> None:
    assert adopted(cluster, credentials, executed=WRITTEN, **setting) == (True, True, False)


def test_an_empty_server_and_a_replica_stay_read_only_after_their_restart(
    cluster: ClusterInventory, credentials: Credentials
) -> None:
    assert adopted(cluster, credentials) == (True, False, False)
    closed = {"read_only": "ON", "super_read_only": "ON"}
    assert adopted(cluster, credentials, executed=WRITTEN, **closed) == (True, False, False)
