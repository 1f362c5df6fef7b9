"""`raftctl rotate` ended by SIGKILL as each of its steps begins, and run again, until it gets to the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.bootstrap import tls
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.survey import own_endpoint
from raftctl.cli.cluster import Cluster, open_cluster
from raftctl.cli.options import Options
from raftctl.controller.config import load_secrets
from raftctl.errors import MySQLError
from raftctl.mysql.client import connect
from raftctl.sandbox.cluster import AnySandbox
from raftctl.sandbox.distribution import MySQLDistribution
from raftctl.sandbox.up import bring_up
from tests.support.cut_command import cut_at_every_step
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mysql, pytest.mark.slow]

HOSTS = ("db1", "db2", "db3")


@pytest.fixture(scope="module")
def sandbox(distribution: MySQLDistribution) -> Iterator[AnySandbox]:
    directory = Path(tempfile.mkdtemp(prefix="rs-"))  # a short path: unix sockets go below it
    made = None
    try:
        made = bring_up(directory / "s", nodes=3, witnesses=0, namespaces=False, settings=())
        yield made
    finally:
        if made is not None:
            made.down(purge=False)
        shutil.rmtree(directory, ignore_errors=True)


def each(step: str) -> set[str]:
    return {f"{host}: {step}" for host in HOSTS}


def reign(cluster: Cluster) -> tuple[str | None, int]:
    status = cluster.status()
    return status.primary, status.epoch


def opened(sandbox: AnySandbox) -> Cluster:
    """With the operator's files as they are now, once all is well."""
    cluster = open_cluster(Options(inventory=sandbox.inventory))
    wait_until(lambda: cluster.status().health == "ok", what="the cluster is healthy")
    return cluster


def test_passwords(sandbox: AnySandbox) -> None:
    cluster = opened(sandbox)
    directory = cluster.inventory.credentials
    before, first = load_secrets(directory / "secrets.json"), reign(cluster)
    reached = cut_at_every_step(sandbox.inventory, "rotate", "passwords", "--yes")
    assert set(reached) == (
        each("writing the new cluster key beside the present one")
        | each("adding the new passwords")
        | {f"keeping the new passwords in {directory}"}
        | each("writing the new passwords and cluster key")
        | each("ending the earlier passwords")
        | each("ending the earlier cluster key")
    )
    assert reign(opened(sandbox)) == first
    after = load_secrets(directory / "secrets.json")
    assert not (directory / "secrets-next.json").exists()
    assert after.accepted_keys == ()
    assert {after.cluster_key, after.admin_password} & {before.cluster_key, before.admin_password} == set()
    for host in map(cluster.inventory.host, HOSTS):
        assert load_secrets(Layout(host.directory).secrets) == after
        with pytest.raises(MySQLError, match="Access denied"):
            connect(own_endpoint(host, before), connect_timeout=10.0, timeout=10.0)
        connect(own_endpoint(host, after), connect_timeout=10.0, timeout=10.0).close()


def test_certificates_and_their_authority(sandbox: AnySandbox) -> None:
    cluster = opened(sandbox)
    directory = cluster.inventory.credentials
    before, first = tls.serials((directory / "ca.crt").read_bytes()), reign(cluster)
    reached = cut_at_every_step(sandbox.inventory, "rotate", "certificates", "--authority", "--yes")
    assert set(reached) == (
        each("trusting the new authority beside the present one")
        | {f"keeping the new authority in {directory}"}
        | each("writing a new certificate")
        | each("ending the earlier authority")
    )
    assert reign(opened(sandbox)) == first
    after = (directory / "ca.crt").read_bytes()
    assert not list(directory.glob("ca-next.*"))
    assert len(tls.serials(after)) == 1
    assert not set(tls.serials(after)) & set(before)
    for host in map(cluster.inventory.host, HOSTS):
        assert Path(Layout(host.directory).authority).read_bytes() == after
        assert tls.is_signed_by(Path(Layout(host.directory).certificate).read_bytes(), after)
