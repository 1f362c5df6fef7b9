"""The playbooks on hosts without MySQL: install, a rolling upgrade under load, uninstall; each once more, for nothing.

On one set of hosts, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.container_hosts import ContainerHosts, container_hosts
from tests.support.container_image import BARE_IMAGE

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1800)]

MEMBERS = ("db1", "db2", "db3")
PACKAGES = ["mysql-server", "mysql-server-core"]
VERSION = "dpkg-query --show --showformat '${Version}' mysql-server"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerHosts]:
    """db1 to db3, which got MySQL and raftctl from install.yml."""
    with container_hosts(tmp_path_factory.mktemp("bare"), subnet="10.213.80", image=BARE_IMAGE) as hosts:
        assert hosts.play("install.yml", mysql_packages=PACKAGES) > 0
        hosts.create_application()
        yield hosts


def test_install_gives_a_healthy_cluster_and_changes_nothing_the_second_time(installed: ContainerHosts) -> None:
    assert installed.stage().wait_healthy().quorum.voters == 3
    assert installed.play("install.yml", mysql_packages=PACKAGES) == 0


def test_a_rolling_upgrade_loses_no_write_and_changes_nothing_the_second_time(installed: ContainerHosts) -> None:
    """Although Debian's scripts start a mysqld of their own on every host and write with it."""
    stage = installed.stage()
    old = stage.wait_healthy().primary
    began = {name: installed.main_pid(name, "mysql") for name in MEMBERS}
    for name in MEMBERS:
        installed.sh(name, "echo 'deb [trusted=yes] file:/srv/newer ./' >> /etc/apt/sources.list && apt-get update -qq")
    with stage.writing() as writer:
        assert installed.play("upgrade.yml", mysql_packages=PACKAGES) > 0
        assert writer.wait_for(20, 60), stage.story()
    assert all(installed.sh(name, VERSION).endswith("+newer") for name in MEMBERS)
    assert all(installed.main_pid(name, "mysql") != began[name] for name in MEMBERS)
    assert stage.wait_healthy().primary != old
    print(stage.story())
    assert "begin-failover" not in {entry.kind for entry in stage.history()}, stage.story()
    stage.verify(writer)
    assert installed.play("upgrade.yml", mysql_packages=PACKAGES) == 0


@pytest.mark.long
def test_uninstall_leaves_mysql_and_its_data(installed: ContainerHosts) -> None:
    stage = installed.stage()
    primary = stage.wait_healthy().primary
    assert primary
    with stage.writing() as writer:
        assert writer.wait_for(20, 60)
    stage.verify(writer)
    installed.play("uninstall.yml", uninstall_confirm="orders")
    for name in MEMBERS:
        left = installed.sh(name, "ls -d /opt/raftctl /var/lib/raftctl /etc/mysql/*/zz-raftctl.cnf 2>&1 || true")
        assert left.count("No such file") == 3, left
        assert (
            installed.sh(name, "systemctl is-active raftctl-controller raftctl-guard || true").split()
            == ["inactive"] * 2
        )
        installed.sh(name, "systemctl restart mysql")
        rows = installed.sql(name, f"SELECT COUNT(DISTINCT n) FROM {stage.database}.raftctl_written")
        assert int(rows) >= len(set(writer.acknowledged))
    installed.sql(primary, f"DROP TABLE {stage.database}.raftctl_written")
    assert installed.play("uninstall.yml", uninstall_confirm="orders") == 0
