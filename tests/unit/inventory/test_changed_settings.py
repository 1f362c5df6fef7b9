"""Settings of a running cluster are checked by what checks the inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raftctl.cluster.state import Settings
from raftctl.errors import UsageError
from raftctl.inventory.load import as_written, changed_settings

INVENTORY = """\
all:
  children:
    orders:
      vars:
        raftctl: {durability: all, raft: {election_timeout: 2s}, failover: {automatic: false}}
      hosts: {db1: {ansible_host: 192.0.2.1}, db2: {ansible_host: 192.0.2.2}, db3: {ansible_host: 192.0.2.3}}
"""
RUNNING = Settings(durability="majority", failover_cooldown=30.0, election_timeout=0.5)


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY)
    return path


def changed(path: Path, **changes: Any) -> Settings:
    return changed_settings(
        path, "orders", RUNNING, {name.replace("__", "."): value for name, value in changes.items()}
    )


def test_what_is_not_named_stays_as_it_runs(inventory: Path) -> None:
    """Not as the inventory has it."""
    assert changed(inventory) == RUNNING
    after = changed(inventory, durability=2, failover__automatic=False)
    assert (after.durability, after.failover_automatic) == ("2", False)
    assert (after.failover_cooldown, after.election_timeout) == (30.0, 0.5)


def test_they_are_written_as_in_the_inventory(inventory: Path) -> None:
    written = as_written(RUNNING)
    assert written == {
        "durability": "majority",
        "durability_policy": "strict",
        "failover.automatic": True,
        "failover.cooldown": "30s",
    }
    assert changed_settings(inventory, "orders", Settings(election_timeout=0.5), written) == RUNNING


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"durability": "both"}, "orders -> raftctl -> durability: must be majority"),
        ({"durability": 3}, "3 data members have at most 2 replicas"),
        ({"durability_policy": "lax"}, "must be strict or available"),
        ({"failover__cooldown": "soon"}, "orders -> raftctl -> failover -> cooldown"),
        ({"failover__automatic": "perhaps"}, "orders -> raftctl -> failover -> automatic"),
        ({"raft__election_timeout": "1s"}, "cannot be changed while the cluster runs"),
        ({"durabilty": "all"}, "cannot be changed while the cluster runs"),
    ],
)
def test_faults_carry_their_path(inventory: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        changed(inventory, **changes)
