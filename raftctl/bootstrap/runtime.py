"""raftctl itself for hosts that may have no package index: packed on the operator's machine from what runs here.

On a host with the same Python it is the very files that run here; for another Python, pip fetches the libraries that
are compiled for that one, in the versions that run here.

    /opt/raftctl/<version>-<id>/lib/      raftctl and its libraries
    /opt/raftctl/<version>-<id>/raftctl   the program
    /opt/raftctl/raftctl                  symbolic link to the current one's program
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import io
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

import raftctl
from raftctl.errors import HostError
from raftctl.hosts.base import Host

DIRECTORY: Final = "/opt/raftctl"
PROGRAM: Final = f"{DIRECTORY}/raftctl"
PYTHON_MIN: Final = (3, 11)
INSTALL_SECONDS: Final = 300.0
_PIP_SECONDS: Final = 300.0
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_GLIBC_TAGS: Final = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")

_PACKING: Final = threading.Lock()

# Compiled once, since those who run it may not write there: each start, also of the gate, takes half as long.
_INSTALL: Final = """set -eu
umask 022
final="$1/$2"
new="$1/.new-$$"
mkdir -p "$new"
trap 'rm -rf "$new"' EXIT
tar -xz -C "$new" -f -
python3 -m compileall -qq "$new/lib" || :
rm -rf "$final"
mv -T "$new" "$final"
ln -sfn "$2/raftctl" "$1/.link-$$"
mv -T "$1/.link-$$" "$1/raftctl"
sync
"""


class Target(msgspec.Struct, frozen=True):
    """What a host runs programs with: Python `3.13`, machine `x86_64`."""

    python: tuple[int, int]
    machine: str

    @property
    def is_like_here(self) -> bool:
        return self == Target(sys.version_info[:2], platform.machine())


def unfit(target: Target) -> str:
    """Why raftctl cannot run there, "" when it can."""
    if target.python < PYTHON_MIN:
        return f"its python3 is {_dotted(target.python)}; raftctl needs {_dotted(PYTHON_MIN)} or newer"
    return ""


def release(target: Target) -> str:
    """The name of what `install` puts there: another one as soon as any file of it would differ."""
    return f"{raftctl.__version__}-{_digest(target)}"


def install(machine: Host, target: Target, *, directory: str = DIRECTORY) -> None:
    """Put raftctl on the host and make it the current one. Earlier ones stay. Raises HostError."""
    with _PACKING:  # hosts are set up at the same time, and are alike
        data = _pack(target)
    argv = ["sh", "-c", _INSTALL, "sh", directory, release(target)]
    machine.run(argv, data=data, timeout=INSTALL_SECONDS)


@functools.cache
def _digest(target: Target) -> str:
    digest = hashlib.sha256(f"{target.python} {target.machine}".encode())
    for path in _own_files():
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    for name, distribution in sorted(_libraries().items()):
        digest.update(f"{name}=={distribution.version}\n".encode())
    return digest.hexdigest()[:12]


@functools.cache
def _pack(target: Target) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=3) as archive:
        root = Path(raftctl.__file__).parent
        for path in _own_files():
            _add(archive, path, f"lib/raftctl/{path.relative_to(root)}")
        if target.is_like_here:
            for name, path in _library_files():
                _add(archive, path, f"lib/{name}")
        else:
            directory = _fetched(target)
            for path in sorted(path for path in directory.rglob("*") if path.is_file()):
                _add(archive, path, f"lib/{path.relative_to(directory)}")
        _add_program(archive)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    info = archive.gettarinfo(path, name)
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode = 0o644
    with path.open("rb") as file:
        archive.addfile(info, file)


def _add_program(archive: tarfile.TarFile) -> None:
    """The environment is inherited: the guard starts itself anew with the same interpreter."""
    script = """#!/bin/sh
export PYTHONPATH="$(dirname "$(readlink -f "$0")")/lib" PYTHONSAFEPATH=1 PYTHONNOUSERSITE=1
exec python3 -m raftctl "$@"
"""
    info = tarfile.TarInfo("raftctl")
    info.mode, info.size = 0o755, len(script)
    archive.addfile(info, io.BytesIO(script.encode()))


@functools.cache
def _own_files() -> tuple[Path, ...]:
    root = Path(raftctl.__file__).parent
    return tuple(sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts))


@functools.cache
def _libraries() -> dict[str, importlib.metadata.Distribution]:
    """The libraries that raftctl needs, and theirs, as they are installed here. What a marker excludes is not."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(_requirements(importlib.metadata.distribution("raftctl")))
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += _requirements(found[name])
    return found


def _requirements(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    for requirement in distribution.requires or ():
        match = _NAME.match(requirement)
        if match and "extra ==" not in requirement:
            yield match[0].lower().replace("_", "-")


def _library_files() -> Iterator[tuple[str, Path]]:
    for distribution in _libraries().values():
        for file in distribution.files or ():
            path = Path(str(file.locate()))
            if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
                yield str(file), path


def _fetched(target: Target) -> Path:
    """The libraries for that Python, from the cache of an earlier run if they are there. Raises HostError."""
    direct = set(_requirements(importlib.metadata.distribution("raftctl")))
    pins = sorted(f"{name}=={library.version}" for name, library in _libraries().items() if name in direct)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "raftctl" / "libraries"
    key = hashlib.sha256("\n".join(pins).encode()).hexdigest()[:12]
    directory = cache / f"{_dotted(target.python)}-{target.machine}-{key}"
    if not directory.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as parent:
            draft = Path(parent) / "new"
            _fetch(target, pins, draft)
            with contextlib.suppress(OSError):  # another process was quicker
                draft.rename(directory)
    return directory


def _fetch(target: Target, pins: Sequence[str], directory: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--target", str(directory), "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", _dotted(target.python)]
    for tag in _GLIBC_TAGS:
        command += ["--platform", f"{tag}_{target.machine}"]
    environment = os.environ | {"PIP_ROOT_USER_ACTION": "ignore"}
    try:
        done = subprocess.run(
            [*command, *pins], env=environment, capture_output=True, timeout=_PIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"pip had not ended after {_PIP_SECONDS:g} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise HostError(
            f"the libraries for Python {_dotted(target.python)} on {target.machine} cannot be fetched: "
            f"{lines[-1] if lines else 'pip failed'}",
            hint=f"run raftctl with Python {_dotted(target.python)} here, or give pip an index that it reaches",
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
