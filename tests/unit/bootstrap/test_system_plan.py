"""What a host that systemd runs still lacks, also when an earlier bootstrap was interrupted there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from raftctl.bootstrap import runtime, units
from raftctl.bootstrap.system import Platform, SystemPlan, plan_system
from raftctl.hosts.base import Host
from raftctl.hosts.local import LocalHost
from raftctl.hosts.systemd import CONTROLLER_UNIT, GUARD_UNIT
from raftctl.inventory.load import parse_inventory
from raftctl.inventory.model import InventoryHost

INVENTORY = b"orders: {vars: {raftctl: {}}, hosts: {db1: {ansible_host: 192.0.2.1}}}"


@pytest.fixture
def host() -> InventoryHost:
    return parse_inventory(INVENTORY).cluster().host("db1")


class Disk(LocalHost):
    """A host with its root in `root`."""

    def __init__(self, root: Path) -> None:
        super().__init__("db1")
        self._root = root

    def read_file(self, path: str) -> bytes | None:
        return super().read_file(f"{self._root}{path}")

    def write_file(self, path: str, data: bytes, *, mode: int) -> None:
        super().make_dir(f"{self._root}{Path(path).parent}", mode=0o755)
        super().write_file(f"{self._root}{path}", data, mode=mode)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def platform(**changes: object) -> Platform:
    found = Platform(python=(3, 13), machine="x86_64", release="", mysqld_unit="loaded", option_directory="/etc/my.d")
    return msgspec.structs.replace(found, **changes)


def plan(host: InventoryHost, disk: Host, found: Platform) -> SystemPlan:
    return plan_system(host, disk, found, options=b"[mysqld]\n", restart_mysqld=False)


def finished(found: Platform) -> Platform:
    release = runtime.release(found.target)
    return msgspec.structs.replace(found, release=release, enabled=(CONTROLLER_UNIT, GUARD_UNIT))


def write(disk: Disk, wanted: SystemPlan) -> None:
    for file in wanted.files:
        disk.write_file(file.path, file.data, mode=file.mode)


def test_a_fresh_host_lacks_everything(host: InventoryHost, disk: Disk) -> None:
    fresh = plan(host, disk, platform())
    assert fresh.target == platform().target
    assert len(fresh.files) == 4
    assert (fresh.reload, fresh.enable) == (True, (CONTROLLER_UNIT, GUARD_UNIT))


def test_a_finished_one_lacks_nothing(host: InventoryHost, disk: Disk) -> None:
    write(disk, plan(host, disk, platform()))
    again = plan(host, disk, finished(platform()))
    assert again == SystemPlan()
    assert again.changes == []


def test_units_that_were_written_and_no_more_are_read_and_enabled(host: InventoryHost, disk: Disk) -> None:
    write(disk, plan(host, disk, platform()))
    found = msgspec.structs.replace(finished(platform()), enabled=(CONTROLLER_UNIT,), outdated=("mysql.service",))
    again = plan(host, disk, found)
    assert (again.files, again.reload, again.enable) == ((), True, (GUARD_UNIT,))
    assert again.changes == ["systemd reads its units again", "started at boot from now on: raftctl-guard.service"]
    assert not again.replaces_controller


def test_a_new_unit_replaces_the_controller_that_runs(host: InventoryHost, disk: Disk) -> None:
    write(disk, plan(host, disk, platform()))
    disk.write_file(f"{units.UNIT_DIRECTORY}/{CONTROLLER_UNIT}", b"[Service]\n", mode=0o644)
    assert plan(host, disk, finished(platform())).replaces_controller
