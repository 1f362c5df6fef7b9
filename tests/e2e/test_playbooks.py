"""The playbooks on a sandbox: a real HAProxy that follows the primary, and a backup that is restored."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.errors import MySQLError
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.sandbox.cluster import Target
from raftctl.sandbox.distribution import MySQLDistribution
from raftctl.sandbox.network import free_ports
from raftctl.secret import Secret
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.timeout(600)]

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
CLUSTER = "sandbox"


@pytest.fixture(scope="module")
def playbook_stage(distribution: MySQLDistribution) -> Iterator[Stage]:
    with stage(namespaces=False) as made:
        yield made


def play(stage: Stage, playbook: str, inventory: Path | None = None, **variables: object) -> int:
    """Run a playbook; returns how many tasks changed something."""
    environment = os.environ | {
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
    }
    command = ["ansible-playbook", "-i", str(inventory or stage.sandbox.inventory), str(PLAYBOOKS / playbook)]
    command += ["-e", json.dumps({"cluster": CLUSTER, "ansible_python_interpreter": sys.executable, **variables})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    recap = done.stdout[done.stdout.index("PLAY RECAP") :]
    return sum(int(number) for number in re.findall(r"changed=(\d+)", recap))


# --- HAProxy ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Proxy:
    stage: Stage
    primary_port: int
    replicas_port: int

    def endpoint(self, port: int) -> Endpoint:
        return dataclasses.replace(self.stage.login, host="127.0.0.1", port=port)

    def server_port(self, port: int) -> int | None:
        """The port of the mysqld that a client of the proxy reaches, None when it reaches none."""
        try:
            with connect(self.endpoint(port), connect_timeout=5.0, timeout=5.0) as conn:
                return int(conn.scalar("SELECT @@port"))
        except MySQLError:
            return None

    def port_of(self, member: str) -> int:
        return self.stage.endpoint(member).port

    def leads_to(self, member: str) -> bool:
        """Whether every new connection for the primary ends there; before its first checks HAProxy tries them all."""
        return {self.server_port(self.primary_port) for _ in range(6)} == {self.port_of(member)}


@pytest.fixture
def proxy(playbook_stage: Stage, tmp_path: Path) -> Iterator[Proxy]:
    if not shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin"):
        if os.environ.get("RAFTCTL_REQUIRE_HAPROXY"):
            pytest.fail("haproxy is required here, and not installed")
        pytest.skip("haproxy is not installed")
    primary_port, replicas_port = free_ports(2)
    directory = tmp_path / "inventory"
    directory.mkdir()
    shutil.copy(playbook_stage.sandbox.inventory, directory / "cluster.yaml")
    hosts = {"proxy": {"ansible_connection": "local"}}
    (directory / "proxy.yaml").write_text(json.dumps({"all": {"children": {"haproxy": {"hosts": hosts}}}}))
    variables = {
        "haproxy_package": "",
        "haproxy_service": "",
        "haproxy_become": False,
        "haproxy_directory": str(tmp_path),
        "haproxy_bind": "127.0.0.1",
        "haproxy_primary_port": primary_port,
        "haproxy_replicas_port": replicas_port,
        "haproxy_authority": str(playbook_stage.cluster.inventory.credentials / "ca.crt"),
    }
    assert play(playbook_stage, "haproxy.yml", directory, **variables) == 2
    assert play(playbook_stage, "haproxy.yml", directory, **variables) == 0
    process = subprocess.Popen(
        ["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"},
    )
    try:
        yield Proxy(playbook_stage, primary_port, replicas_port)
    finally:
        process.kill()
        process.wait()


def refuses(client: Connection, database: str) -> bool:
    try:
        client.execute(f"INSERT INTO `{database}`.through_proxy VALUES (1)")
    except MySQLError:
        return True
    return False


def test_haproxy_follows_the_primary(proxy: Proxy) -> None:
    stage = proxy.stage
    old = stage.wait_healthy().primary
    assert old
    wait_until(lambda: proxy.leads_to(old), what="the proxy to know the primary", timeout=60)
    with connect(proxy.endpoint(proxy.primary_port), connect_timeout=5.0, timeout=30.0) as client:
        client.execute(f"CREATE TABLE `{stage.database}`.through_proxy (n INT)")
        stage.sandbox.kill(old, Target.MYSQLD)
        wait_until(lambda: refuses(client, stage.database), what="the old connection to end", timeout=30)
    new = stage.wait_new_primary(old).primary
    assert new
    wait_until(lambda: proxy.leads_to(new), what="the proxy to know the new primary", timeout=60)
    stage.wait_healthy()
    replicas = {proxy.port_of(m) for m in stage.sandbox.layout.names if m != new}
    reached: set[int] = set()

    def both() -> bool:
        port = proxy.server_port(proxy.replicas_port)
        reached.update({port} if port else ())
        return reached >= replicas

    wait_until(both, what="both replicas to be reached", timeout=60)
    assert proxy.port_of(new) not in reached


# --- backup -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def restored(archive: Path, directory: Path, mysqld: str) -> Iterator[Endpoint]:
    """A mysqld on what the archive holds."""
    with tarfile.open(archive) as packed:
        packed.extractall(directory / "data", filter="data")
    place = directory / "r.sock"
    command = [mysqld, "--no-defaults", "--user=root", f"--datadir={directory}/data", f"--socket={place}"]
    command += ["--skip-networking", "--mysqlx=OFF", "--skip-replica-start", f"--log-error={directory}/r.log"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        endpoint = Endpoint(user="root", password=Secret(""), unix_socket=str(place))
        wait_until(lambda: _answers(endpoint), what="the restored mysqld to answer", timeout=90)
        yield endpoint
    finally:
        process.kill()
        process.wait()


def _answers(endpoint: Endpoint) -> bool:
    try:
        with connect(endpoint, connect_timeout=5.0, timeout=5.0):
            return True
    except MySQLError:
        return False


def programs(distribution: MySQLDistribution, directory: Path) -> dict[str, str]:
    """MySQL's programs as packages would install them: each one file."""
    commands = {"mysqld": distribution.mysqld} | {
        name: (*distribution.client_argv[:-1], str(Path(distribution.client_argv[-1]).with_name(name)))
        for name in ("mysql", "mysqladmin", "mysqlcheck")
    }
    for name, command in commands.items():
        options = shlex.join(distribution.options) if name == "mysqld" else ""
        (directory / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@" {options}\n')
        (directory / name).chmod(0o755)
    return {name: str(directory / name) for name in commands}


def test_a_backup_is_restored(playbook_stage: Stage, distribution: MySQLDistribution, tmp_path: Path) -> None:
    stage = playbook_stage
    stage.wait_healthy()
    with stage.writing() as writer:
        assert writer.wait_for(100, 60)
    status = stage.wait_healthy()
    assert status.primary
    stage.wait_equal(status.primary)
    installed = programs(distribution, tmp_path)
    with tempfile.TemporaryDirectory(prefix="rc-backup-") as name:
        directory = Path(name)
        variables = {
            "backup_become": False,
            "backup_owner": "root",
            "backup_parent": name,
            "backup_archives": f"{name}/archives",
            "backup_keep": 1,
            "backup_programs": installed,
        }
        play(stage, "backup.yml", **variables)
        (archive,) = (directory / "archives").iterdir()
        assert archive.name.split("-")[0] != status.primary
        assert [p.name for p in directory.iterdir()] == ["archives"], "nothing else is left"
        with (
            restored(archive, directory, installed["mysqld"]) as endpoint,
            connect(endpoint, connect_timeout=5.0, timeout=60.0) as conn,
        ):
            rows = {int(row["n"]) for row in conn.query(f"SELECT n FROM `{stage.database}`.raftctl_written")}
            assert rows >= set(writer.acknowledged)
            told = json.loads((directory / "data" / "raftctl-backup.json").read_text())
            assert GTIDSet.parse(told["gtid_executed"]) <= GTIDSet.parse(conn.scalar("SELECT @@GLOBAL.gtid_executed"))
