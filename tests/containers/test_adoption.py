"""A primary that applications write to, with a gigabyte of data, and two empty hosts become a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from raftctl.mysql.client import Endpoint
from raftctl.sandbox.writer import Writer
from raftctl.secret import Secret
from tests.support.container_hosts import APPLICATION, PASSWORD, ContainerHosts, container_hosts
from tests.support.stage import WRITE_PAUSE_SECONDS

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(3600)]

BYTES = 1 << 30
ROW_BYTES = 8 << 10
# What `raftctl doctor` asks of a server that is not to be restarted, on top of MySQL's own defaults.
WELL_SET_UP = """\
[mysqld]
bind_address = *
admin_address = 127.0.0.1
gtid_mode = ON
enforce_gtid_consistency = ON
sync_relay_log = 1
skip_replica_start = ON
plugin_load_add = semisync_source.so;semisync_replica.so;mysql_clone.so
"""
DEFAULTS_WITH_GTIDS = """\
[mysqld]
bind_address = *
gtid_mode = ON
enforce_gtid_consistency = ON
"""
ROWS = BYTES // ROW_BYTES
FILL = f"""
SET sql_log_bin = 0, cte_max_recursion_depth = 1000000000;
CREATE TABLE {APPLICATION}.filler (id BIGINT PRIMARY KEY, pad VARBINARY({ROW_BYTES}));
INSERT INTO {APPLICATION}.filler
  WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < {ROWS})
  SELECT n, CONCAT({", ".join(["RANDOM_BYTES(1024)"] * (ROW_BYTES // 1024))}) FROM numbers;
"""
CONTENT = f"SELECT COUNT(*), SUM(CRC32(pad)) FROM {APPLICATION}.filler"


@pytest.fixture(
    params=[
        pytest.param(WELL_SET_UP, id="well-set-up"),
        pytest.param(DEFAULTS_WITH_GTIDS, id="defaults", marks=pytest.mark.long),
    ]
)
def adoptable(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ContainerHosts, bool]]:
    """db1 has an application and its data; db2 and db3 are as installed. Whether db1 can go on without a restart."""
    with container_hosts(tmp_path_factory.mktemp("adoptable"), subnet="10.213.79") as hosts:
        for name in ("db1", "db2", "db3"):
            hosts.wait_for_units(name, "mysql")
        hosts.sh(
            "db1", "cat > /etc/mysql/mysql.conf.d/site.cnf && systemctl restart mysql", data=request.param.encode()
        )
        hosts.sql("db1", f"CREATE DATABASE {APPLICATION}; CREATE USER {APPLICATION}@'%' IDENTIFIED BY '{PASSWORD}';")
        hosts.sql("db1", f"GRANT ALL ON {APPLICATION}.* TO {APPLICATION}@'%'")
        hosts.sql("db1", FILL, timeout=1800)
        yield hosts, request.param is WELL_SET_UP


def writer_on(hosts: ContainerHosts, name: str) -> Writer:
    """An application that knows this address and no other."""
    login = Endpoint(user=APPLICATION, password=Secret(PASSWORD), host=hosts.address(name), port=3306)
    return Writer(lambda: login, database=APPLICATION, patience=30.0, pause=WRITE_PAUSE_SECONDS)


def bootstrap_beside(hosts: ContainerHosts, writer: Writer) -> tuple[int, int]:
    """How much was acknowledged when the copying began, and when it ended."""
    copied, ended = 0, 0
    command = hosts.command("--timeout", "600s", "bootstrap", "--yes")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("copying db1's data to db2"):
                copied = len(writer.acknowledged)
            if line.startswith("initializing the cluster"):
                ended = len(writer.acknowledged)
    assert process.returncode == 0, "".join(said)
    return copied, ended


def test_a_primary_at_work_is_adopted(adoptable: tuple[ContainerHosts, bool]) -> None:
    hosts, without_restart = adoptable
    before, content = hosts.main_pid("db1", "mysql"), hosts.sql("db1", CONTENT, timeout=600)
    writer = writer_on(hosts, "db1")
    writer.start(60)
    try:
        assert writer.wait_for(20, 60)
        began, ended = bootstrap_beside(hosts, writer)
        assert writer.wait_for(20, 60)
    finally:
        writer.stop()
    assert ended > began, "nothing was acknowledged while the data were copied"
    stage = hosts.stage()
    assert stage.wait_healthy().primary == "db1"
    stage.verify(writer)
    assert (hosts.main_pid("db1", "mysql") == before) is without_restart
    for name in ("db1", "db2", "db3"):
        assert hosts.sql(name, CONTENT, timeout=600) == content
    assert '"changed": []' in hosts.raftctl("-o", "json", "bootstrap", "--yes")
