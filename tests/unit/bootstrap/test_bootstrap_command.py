"""`raftctl bootstrap` and `raftctl doctor` as users run them, where nothing is fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Two servers that do not run and a host behind SSH."""
    path = tmp_path / "inventory.yaml"
    path.write_text(f"""
orders:
  vars: {{raftctl: , ansible_connection: local}}
  hosts:
    db1: {{raftctl_dir: {tmp_path}/1, raftctl_mysql_socket: {tmp_path}/1.sock, raftctl_services: {tmp_path}/1.s}}
    db2: {{raftctl_dir: {tmp_path}/2, raftctl_mysql_socket: {tmp_path}/2.sock, raftctl_services: {tmp_path}/2.s}}
    db3: {{ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1, raftctl_address: db3}}
""")
    return path


def raftctl(inventory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raftctl", "-i", str(inventory), *arguments],
        env={**os.environ, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_unfit_hosts_are_listed_and_nothing_is_changed(inventory: Path) -> None:
    """Each run waits for a mysqld that may be starting, so they wait side by side."""
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda flags: raftctl(inventory, "bootstrap", *flags), [["--yes"], ["--dry-run"], []]))
    for done in runs:
        lines = done.stderr.splitlines()
        assert done.returncode == 1
        assert [line for line in lines if line.startswith("fail: db1: mysql: ")]
        assert [line for line in lines if line.startswith("fail: db2: services: the host's supervisor does not answer")]
        assert [line for line in lines if line.startswith("fail: db3: host: 127.0.0.1: no SSH connection")]
        assert any(line.startswith("error: db1 is not fit, nothing was changed: ") for line in lines)
        assert done.stdout == ""
    assert not (inventory.parent / "1").exists()


def test_doctor_says_the_same(inventory: Path) -> None:
    done = raftctl(inventory, "doctor", "-o", "json")
    assert done.returncode == 1
    findings = json.loads(done.stdout)["findings"]
    assert {(f["host"], f["check"], f["severity"]) for f in findings if f["severity"] == "fail"} == {
        ("db1", "services", "fail"),
        ("db1", "mysql", "fail"),
        ("db2", "services", "fail"),
        ("db2", "mysql", "fail"),
        ("db3", "host", "fail"),
    }
    assert f"error: 5 of {len(findings)} checks failed (preflight)" in done.stderr
    table = raftctl(inventory, "doctor")
    assert table.returncode == 1
    assert table.stdout.split()[:3] == ["result", "host", "check"]
    (row,) = [line for line in table.stdout.splitlines() if "no SSH connection" in line]
    assert row.split()[:3] == ["fail", "db3", "host"]
    assert "-> " in table.stdout
    assert not (inventory.parent / ".raftctl").exists()


def test_an_engine_that_is_not_there_is_refused_and_not_replaced_by_another(inventory: Path) -> None:
    inventory.write_text(inventory.read_text().replace("{raftctl: ,", "{raftctl: {engine: group},"))
    done = raftctl(inventory, "bootstrap", "--yes")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: orders -> raftctl -> engine: group is not there yet (not-supported)",
        "hint: leave it out: semi-sync works",
    ]


def test_a_bad_inventory_is_bad_usage(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text("orders: {vars: {raftctl: {durabilty: all}}, hosts: {db1: }}")
    done = raftctl(path, "bootstrap", "--yes")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: orders -> raftctl -> durabilty: is not a setting",
        "hint: did you mean durability?",
    ]
