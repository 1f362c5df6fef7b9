"""What is shipped to hosts runs by itself, without anything that is installed there."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import raftctl
from raftctl.bootstrap import runtime
from raftctl.bootstrap.runtime import Target
from raftctl.hosts.local import LocalHost

HERE = Target((sys.version_info[0], sys.version_info[1]), platform.machine())


def test_what_is_installed_runs_alone_and_twice_is_the_same(tmp_path: Path) -> None:
    for _ in range(2):
        runtime.install(LocalHost("db1"), HERE, directory=str(tmp_path))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([runtime.release(HERE), "raftctl"])
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").symlink_to(os.path.realpath(sys.executable))
    done = subprocess.run(
        [tmp_path / "raftctl", "--version"],
        env={"PATH": f"{tools}:/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == (f"raftctl {raftctl.__version__}\n", "")
    libraries = tmp_path / runtime.release(HERE) / "lib"
    compiled, sources = compiled_and_sources(libraries / "raftctl")
    assert compiled == sources != set(), "every start compiles what is missing"
    controller = "import raftctl.controller.main as m, pymysql; print(m.__file__); print(pymysql.__file__)"
    done = subprocess.run(
        [tools / "python3", "-S", "-c", controller],
        env={"PYTHONPATH": str(libraries), "PATH": os.defpath},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert all(line.startswith(str(libraries)) for line in done.stdout.splitlines())


def compiled_and_sources(package: Path) -> tuple[set[Path], set[Path]]:
    compiled = {path.parent.parent / path.name.split(".")[0] for path in package.rglob("__pycache__/*.pyc")}
    return compiled, {path.parent / path.stem for path in package.rglob("*.py")}


def test_a_release_is_of_one_python_and_machine() -> None:
    assert runtime.release(HERE) == runtime.release(HERE)
    others = [Target((3, HERE.python[1] + 1), HERE.machine), Target(HERE.python, "aarch64")]
    assert len({runtime.release(target) for target in [HERE, *others]}) == 3


@pytest.mark.parametrize(("version", "fit"), [((3, 9), False), ((3, 11), True), ((3, 14), True)])
def test_old_pythons_are_refused(version: tuple[int, int], fit: bool) -> None:
    assert (runtime.unfit(Target(version, "x86_64")) == "") is fit
