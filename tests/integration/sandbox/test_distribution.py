"""Finding a MySQL server: the one on PATH when it will do; otherwise errors say what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raftctl.errors import HostError
from raftctl.sandbox.distribution import MySQLDistribution, find_or_fetch, parse_version

FIND = "from raftctl.sandbox.distribution import find_or_fetch; print(find_or_fetch().origin)"


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("mysqld  Ver 8.4.5 for Linux on x86_64 (MySQL Community Server - GPL)", (8, 4, 5)),
        ("/usr/sbin/mysqld  Ver 8.0.42-0ubuntu0.24.04.1 for Linux on x86_64 ((Ubuntu))", (8, 0, 42)),
        ("mysqld  Ver 8.0.36-28 for Linux on x86_64 (Percona Server (GPL), Release 28)", (8, 0, 36)),
        ("mysqld  Ver 9.7.4 for Linux on x86_64 (Debian)", (9, 7, 4)),
        ("mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)", None),
        ("", None),
    ],
)
def test_version_texts(output: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(output) == version


@pytest.mark.mysql
def test_a_server_on_path_is_preferred(distribution: MySQLDistribution, tmp_path: Path) -> None:
    if not distribution.options:
        pytest.skip("the server under test is on PATH already")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, run, options in (
        ("mysqld", distribution.mysqld, distribution.options),
        ("mysql", distribution.client_argv, ()),
    ):
        # --no-defaults and --defaults-file must come first
        script = f'#!/bin/sh\nfirst="$1"; shift\nexec {" ".join(run)} "$first" {" ".join(options)} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "RAFTCTL_CACHE": str(tmp_path / "cache")}
    for _ in range(2):
        found = subprocess.run(
            [sys.executable, "-c", FIND], env=environment, capture_output=True, text=True, timeout=200, check=True
        )
        assert found.stdout.strip() == str(programs / "mysqld")
    assert len(list((tmp_path / "cache" / "mysql").glob("installed-*/template/mysql.ibd"))) == 1


def test_without_server_and_apt_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("mysqld", path="/usr/sbin:/usr/libexec"):
        pytest.skip("a MySQL server is installed here")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RAFTCTL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(HostError, match="no apt here") as caught:
        find_or_fetch()
    assert "install MySQL" in caught.value.hint
    assert [path.name for path in (tmp_path / "cache" / "mysql").iterdir()] == ["lock"]


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAFTCTL_CACHE", str(tmp_path / "file"))
    with pytest.raises(HostError, match="cannot write the cache"):
        find_or_fetch()


@pytest.mark.mysql
def test_a_data_directory_is_made_only_where_nothing_is(distribution: MySQLDistribution, tmp_path: Path) -> None:
    distribution.initialize(tmp_path / "data")
    assert (tmp_path / "data" / "mysql.ibd").exists()
    assert not (tmp_path / "data" / "auto.cnf").exists()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    with pytest.raises(HostError, match="not empty"):
        distribution.initialize(tmp_path / "data")
