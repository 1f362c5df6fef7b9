"""Every certificate of a cluster has ended, perhaps its authority's too: controllers and commands are deaf to each
other, and `bootstrap`, which comes by SSH, mends it while mysqld goes on."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.bootstrap import tls
from raftctl.bootstrap.layout import Layout
from raftctl.hosts.services import Unit
from raftctl.inventory import ClusterInventory
from raftctl.sandbox.cluster import Sandbox
from raftctl.sandbox.distribution import MySQLDistribution
from tests.integration.bootstrap.test_bootstrap_cluster import cluster_of, fresh_sandbox, run
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.timeout(600)]

DAY = dt.timedelta(days=1)
NODE_LIFE, AUTHORITY_LIFE = 10 * 365 * DAY, 20 * 365 * DAY


@pytest.fixture(scope="module")
def running(distribution: MySQLDistribution) -> Iterator[Sandbox]:
    with fresh_sandbox() as sandbox:
        run(sandbox)
        yield sandbox


def raftctl(sandbox: Sandbox, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raftctl", "-i", str(sandbox.inventory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def check_with(sandbox: Sandbox, text: str) -> subprocess.CompletedProcess[str] | None:
    check = raftctl(sandbox, "check")
    return check if text in check.stdout else None


def mysqlds(sandbox: Sandbox) -> list[int | None]:
    return [sandbox.host(name).services.main_pid(Unit.MYSQLD, timeout=10.0) for name in sandbox.layout.names]


def authority_of(cluster: ClusterInventory) -> tls.KeyPair:
    return tls.KeyPair(*((cluster.credentials / f"ca.{kind}").read_bytes() for kind in ("crt", "key")))


def replace(certificate: Path, key: Path, pair: tls.KeyPair) -> None:
    key.write_bytes(pair.key)
    certificate.write_bytes(pair.certificate)


def let_them_end(sandbox: Sandbox, authority: tls.KeyPair) -> None:
    """As if ten years and a day had gone by: all certificates have ended, and all connections have been made anew."""
    cluster, then = cluster_of(sandbox), dt.datetime.now(dt.UTC) - NODE_LIFE - DAY
    replace(cluster.credentials / "ca.crt", cluster.credentials / "ca.key", authority)
    operators = tls.issue_operator(authority, now=then)
    replace(cluster.credentials / "client.crt", cluster.credentials / "client.key", operators)
    for host in cluster.hosts:
        layout = Layout(host.directory)
        Path(layout.authority).write_bytes(authority.certificate)
        pair = tls.issue_node(authority, host.name, host.address, now=then)
        replace(Path(layout.certificate), Path(layout.key), pair)
    for name in sandbox.layout.names:
        services = sandbox.host(name).services
        before = services.main_pid(Unit.CONTROLLER, timeout=10.0)
        services.kill(Unit.CONTROLLER, timeout=10.0)
        wait_until(
            lambda s=services, old=before: s.main_pid(Unit.CONTROLLER, timeout=10.0) not in (None, old),
            what=f"another controller of {name}",
        )


@pytest.mark.parametrize("authority_too", [False, True], ids=["certificates", "authority"])
def test_bootstrap_mends_it(running: Sandbox, authority_too: bool) -> None:
    sandbox, servers = running, mysqlds(running)
    authority = authority_of(cluster_of(sandbox))
    if authority_too:
        authority = tls.create_authority("sandbox", now=dt.datetime.now(dt.UTC) - AUTHORITY_LIFE - DAY)
    let_them_end(sandbox, authority)

    text = "certificate has expired: `raftctl bootstrap` writes new ones"
    check = wait_until(lambda: check_with(sandbox, text), what="check says it, once the controllers listen", timeout=60)
    assert check.returncode == 2
    assert raftctl(sandbox, "status").returncode == 3

    report = run(sandbox)
    assert report.primary
    assert mysqlds(sandbox) == servers
    assert raftctl(sandbox, "status").returncode == 0
    assert run(sandbox).changed == []
