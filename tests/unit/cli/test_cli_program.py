"""The program as a whole: help, usage errors, what is imported, how errors look."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import raftctl as package

COMMANDS = [
    "bootstrap",
    "status",
    "switchover",
    "failover",
    "force-members",
    "member",
    "pause",
    "resume",
    "check",
    "history",
    "logs",
    "explain",
    "controller",
    "sandbox",
]
HEAVY = ["aiohttp", "asyncio", "cryptography", "docker", "paramiko", "prometheus_client"]


def test_every_command_has_one_line_in_the_list(raftctl):
    listing = raftctl("--help").stdout.split("Commands:")[1].splitlines()
    described = dict(line.split(maxsplit=1) for line in listing if line.strip())
    assert set(described) >= set(COMMANDS)
    assert not [name for name, text in described.items() if text.endswith("...")], "a description must fit on its line"


@pytest.mark.parametrize("group", ["config", "controller", "member", "rotate", "sandbox"])
def test_every_subcommand_fits_on_its_line(raftctl, group):
    listing = raftctl(group, "--help", columns=80).stdout.split("Commands:")[1].splitlines()
    assert not [line for line in listing if line.endswith("...")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_common_options(raftctl, command):
    done = raftctl(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: raftctl {command}")
    wanted = ["--inventory", "--cluster", "--output", "--timeout", "--via", "--verbose"]
    if command in ("member", "controller", "sandbox"):
        wanted = []
    if command in ("switchover", "failover", "force-members", "pause", "resume"):
        wanted += ["--dry-run", "--yes"]
    assert not [option for option in wanted if option not in done.stdout]


@pytest.mark.parametrize("change", ["add", "remove", "rejoin", "rebuild"])
def test_changes_of_membership_take_the_usual_options(raftctl, change):
    listing = raftctl("member", change, "--help").stdout
    assert not [option for option in ("--dry-run", "--yes", "--output", "--timeout") if option not in listing]


def test_version(raftctl):
    done = raftctl("--version")
    assert (done.returncode, done.stdout) == (0, f"raftctl {package.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["stauts"],
        ["status", "--no-such-option"],
        ["status", "-o", "xml"],
        ["status", "--timeout", "soon"],
        ["status", "--timeout", "0s"],
        ["status", "--via", "pigeon"],
        ["controller", "run"],
        ["-c", "invoices", "status"],
        ["-i", "/nowhere/inventory.yaml", "status"],
    ],
)
def test_bad_usage_exits_2(orders, raftctl, arguments):
    for name in ("db1", "db2", "w1"):
        orders.add_down(name)
    done = raftctl(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "rror: " in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_are_two_lines_and_no_traceback(raftctl):
    done = raftctl("status", inventory=False)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("hint: ")


def test_verbose_shows_the_traceback(raftctl):
    assert "Traceback" in raftctl("status", "-v", inventory=False).stderr


def test_missing_certificates_say_what_to_do(orders, raftctl):
    for name in ("db1", "db2", "w1"):
        orders.add_down(name)
    (orders.directory / ".raftctl" / "orders" / "ca.crt").unlink()
    done = raftctl("status")
    assert done.returncode == 2
    assert "bootstrap" in done.stderr


def test_a_key_that_others_can_read_is_not_used(orders, raftctl):
    orders.add_down("db1")
    key = orders.directory / ".raftctl" / "orders" / "client.key"
    key.chmod(0o640)
    done = raftctl("status")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {key}: others can read it, and with it command the cluster",
        f"hint: chmod 600 {key}",
    ]


@pytest.mark.parametrize("name", ["ca.crt", "client.crt", "client.key"])
def test_damaged_certificates_say_what_to_do(orders, raftctl, name):
    orders.add_down("db1")
    (orders.directory / ".raftctl" / "orders" / name).write_text("garbage")
    done = raftctl("status")
    assert done.returncode == 2
    assert name in done.stderr
    assert "None" not in done.stderr
    assert "hint: copy the directory again" in done.stderr


def test_reader_that_goes_away_is_no_error(orders, raftctl):
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m raftctl --help | head -n 1"], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""


def test_a_full_disk_under_the_output_is_said_plainly(orders, raftctl):
    environment = {**os.environ, "RAFTCTL_INVENTORY": str(orders.inventory)}
    orders.add_down("db1")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "raftctl", "status", "-o", "json", "--timeout", "5s"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: cannot write the output: No space left on device",
        "hint: make room there and run it again",
    ]


@pytest.mark.parametrize("colours", [True, False])
def test_no_color_holds_for_errors_too(colours, tmp_path):
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    if not colours:
        environment["NO_COLOR"] = "1"
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        subprocess.run(
            [sys.executable, "-m", "raftctl", "-i", f"{tmp_path}/nowhere", "status"],
            env=environment,
            stderr=theirs,
            timeout=60,
        )
        os.close(theirs)
        shown = screen.read(4096)
    assert b"error: " in shown
    assert (b"\x1b[" in shown) is colours


def imported(code: str) -> set[str]:
    listing = "import sys; print(' '.join(name for name in sys.modules if '.' not in name))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_program_starts_light():
    loaded = imported("import raftctl.cli.main")
    assert loaded.isdisjoint([*HEAVY, "rich", "msgspec", "yaml", "pymysql", "ssl"])


@pytest.mark.parametrize(("name", "module"), [("run", "main"), ("guard", "guard_start"), ("gate", "gate")])
def test_what_systemd_starts_does_not_load_the_command_line(name, module):
    """mysqld's start waits for the gate, and the cluster for a controller that comes back."""
    code = f"""
import sys
import raftctl.controller.{module}
from raftctl.__main__ import main
from raftctl.controller.programs import PROGRAMS
PROGRAMS["{name}"] = print
sys.argv = ["raftctl", "controller", "{name}", "--config", "FILE"]
main()"""
    loaded = imported(code)
    assert "FILE" in loaded
    assert loaded.isdisjoint(["typer", "rich"])


def test_status_stays_light():
    modules = "raftctl.cli.cluster, raftctl.cli.render, raftctl.cli.status_view"
    assert imported(f"import {modules}").isdisjoint([*HEAVY, "pymysql"])
