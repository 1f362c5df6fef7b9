"""A new cluster with an even number of voters is refused before any host is asked, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.bootstrap.run import bootstrap
from raftctl.errors import UsageError
from raftctl.inventory.load import load_inventory

INVENTORY = """
all:
  children:
    orders:
      vars: {ansible_user: dba, raftctl: {}}
      hosts:
        db1: {ansible_host: 192.0.2.11}
        db2: {ansible_host: 192.0.2.12}
"""


@pytest.mark.parametrize("dry_run", [True, False])
def test_it_is_refused_at_once(tmp_path: Path, dry_run: bool) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY)
    cluster = load_inventory(path).cluster("orders")
    with pytest.raises(UsageError, match="orders: has 2 voters: an even number"):
        bootstrap(cluster, dry_run=dry_run)
    assert [p.name for p in cluster.credentials.glob("*") if p.suffix in {".crt", ".key", ".json"}] == []
