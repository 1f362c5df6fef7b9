"""Imports point one way: what a package may know of is written here, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "raftctl"

# Every package (or module at the top) and the ones that it may import. Everybody may import `errors` and `secret`.
MAY_IMPORT = {
    "consensus": {"consensus"},
    "raftnode": {"raftnode", "consensus", "tls", "durable_file"},
    "cluster": {"cluster"},
    "planner": {"planner", "cluster"},
    "mysql": {"mysql", "cluster", "durable_file"},
    "hosts": {"hosts", "inventory", "durable_file", "api_client", "cluster"},
    "inventory": {"inventory", "planner", "cluster"},
    "tls": set(),
    "durable_file": set(),
    "api_client": {"tls", "cluster"},
    "controller": {
        "controller",
        "planner",
        "cluster",
        "raftnode",
        "consensus",
        "mysql",
        "hosts",
        "inventory",
        "tls",
        "durable_file",
        "api_client",
    },
    "bootstrap": {"bootstrap", "planner", "cluster", "controller", "mysql", "hosts", "inventory", "tls", "api_client"},
    "sandbox": {"sandbox", "bootstrap", "cluster", "mysql", "hosts", "inventory", "api_client"},
}
EVERYBODY = {"errors", "secret"}

# Libraries that only these may import: one door to each outside world.
DOORS = {
    "pymysql": {"mysql"},
    "rich": {"cli"},
    "typer": {"cli"},
    "paramiko": {"hosts"},
    "docker": {"sandbox"},
    "aiohttp": {"controller"},
    "prometheus_client": {"controller"},
    "cryptography": {"bootstrap"},
}

# The pure packages: no I/O, clock, randomness or logging.
PURE = ("consensus", "cluster", "planner")
# Their use of a module that does I/O elsewhere, and why it does none there.
EXEMPT = {"cluster/codec.py": {"threading"}}  # a lock around msgspec's first look at a type
IMPURE_MODULES = {"asyncio", "logging", "os", "pathlib", "secrets", "socket", "subprocess", "threading", "time"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """`raftctl/mysql/client.py` is in the room `mysql`, `raftctl/tls.py` in `tls`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "raftctl":
                yield from (f"raftctl.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = room(path)
    if here not in MAY_IMPORT:
        return  # cli, __main__: the top may import everything; the leaves import nothing of ours
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("raftctl.")}
    known = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()}
    assert (rooms & known) - MAY_IMPORT[here] - EVERYBODY - {here} == set()


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_have_one_door(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    assert {library for library in used & DOORS.keys() if room(path) not in DOORS[library]} == set()


@pytest.mark.parametrize("path", [p for p in modules() if room(p) in PURE], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_pure_packages_do_no_io(path: Path) -> None:
    exempt = EXEMPT.get(str(path.relative_to(PACKAGE)), set())
    assert {name.split(".")[0] for name in imports(path)} & IMPURE_MODULES - exempt == set()
    tree = ast.parse(path.read_text())
    global_random = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "random"
        and node.attr != "Random"
    ]
    assert global_random == [], "randomness is passed in"
    opened = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") in {"open", "print"}]
    assert opened == []


def test_guarded_rooms_exist() -> None:
    """A renamed package must not slip out of the rules."""
    rooms = {room(path) for path in modules()}
    assert set(MAY_IMPORT) <= rooms
    assert rooms - set(MAY_IMPORT) - EVERYBODY <= {"cli", "__main__", "__init__"}
