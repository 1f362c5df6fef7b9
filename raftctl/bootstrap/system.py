"""A host that systemd runs: raftctl itself, its units, MySQL's drop-in and option file. Looked at first, then planned,
then done. A sandbox's hosts have none of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from raftctl.bootstrap import mysqld_options, runtime, units
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.runtime import Target
from raftctl.cluster.codec import from_json
from raftctl.errors import HostError
from raftctl.hosts.base import Host
from raftctl.hosts.systemd import CONTROLLER_UNIT, GUARD_UNIT
from raftctl.inventory.model import InventoryHost

CALL_SECONDS: Final = 10.0
RESTART_SECONDS: Final = 300.0  # mysqld of a large buffer pool writes its dirty pages first

OPTION_DIRECTORIES: Final = ("/etc/mysql/mysql.conf.d", "/etc/mysql/conf.d", "/etc/my.cnf.d")
# No raftctl there yet, so with python3's own libraries only.
_LOOK: Final = """import json, os, platform, subprocess, sys
def show(unit, name):
    done = subprocess.run(["systemctl", "show", "-p", name, "--value", unit], capture_output=True, text=True)
    return done.stdout.strip()
mysqld, link, *own_units = sys.argv[1:5]
print(json.dumps({
    "python": sys.version_info[:2],
    "machine": platform.machine(),
    "release": os.path.basename(os.path.dirname(os.path.realpath(link))) if os.path.exists(link) else "",
    "mysqld_unit": show(mysqld, "LoadState"),
    "enabled": [unit for unit in own_units if show(unit, "UnitFileState") == "enabled"],
    "outdated": [unit for unit in (mysqld, *own_units) if show(unit, "NeedDaemonReload") == "yes"],
    "option_directory": next((path for path in sys.argv[5:] if os.path.isdir(path)), ""),
}))
"""


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """A host as it was found. `release` is the raftctl that is there, "" without; `mysqld_unit` systemd's LoadState;
    `enabled` are those of raftctl's units that start at boot, `outdated` those whose files systemd has not read again.
    """

    python: tuple[int, int]
    machine: str
    release: str
    mysqld_unit: str
    option_directory: str
    enabled: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()

    @property
    def target(self) -> Target:
        return Target(self.python, self.machine)


class HostFile(msgspec.Struct, frozen=True):
    path: str
    data: bytes
    mode: int

    def __repr__(self) -> str:
        return f"HostFile({self.path!r}, ..., {self.mode:04o})"  # the data may be secret


class SystemPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is missing. `target` is None when raftctl is there already."""

    target: Target | None = None
    files: tuple[HostFile, ...] = ()
    reload: bool = False
    enable: tuple[str, ...] = ()
    restart_mysqld: bool = False

    @property
    def replaces_controller(self) -> bool:
        """Whether a running controller is not what the host has afterwards."""
        return self.target is not None or any(file.path.startswith(units.UNIT_DIRECTORY) for file in self.files)

    @property
    def changes(self) -> list[str]:
        lines = []
        if self.target is not None:
            lines.append(f"raftctl installed in {runtime.DIRECTORY}/{runtime.release(self.target)}")
        if self.files:
            lines.append(f"files written: {', '.join(file.path for file in self.files)}")
        elif self.reload:
            lines.append("systemd reads its units again")
        if self.enable:
            lines.append(f"started at boot from now on: {', '.join(self.enable)}")
        if self.restart_mysqld:
            lines.append("mysqld restarted with raftctl's settings")
        return lines


def look(machine: Host, host: InventoryHost) -> Platform:
    """Raises HostError."""
    arguments = [host.mysql_service, runtime.PROGRAM, CONTROLLER_UNIT, GUARD_UNIT, *OPTION_DIRECTORIES]
    result = machine.run(["python3", "-c", _LOOK, *arguments], timeout=CALL_SECONDS)
    try:
        return from_json(result.stdout, Platform)
    except msgspec.DecodeError as error:
        raise HostError(f"{host.name}: python3 there does not say what it is: {error}") from None


def unfit(host: InventoryHost, platform: Platform) -> str:
    """Why this cannot be a member's host, "" when it can."""
    if problem := runtime.unfit(platform.target):
        return problem
    if host.has_mysql and platform.mysqld_unit != "loaded":
        return f"systemd has no unit {host.mysql_service}: it is {platform.mysqld_unit or 'not known'}"
    if host.has_mysql and not platform.option_directory:
        return f"there is no directory for mysqld's options: none of {', '.join(OPTION_DIRECTORIES)}"
    return ""


def plan_system(
    host: InventoryHost,
    machine: Host,
    platform: Platform,
    *,
    options: bytes | None,
    restart_mysqld: bool,
) -> SystemPlan:
    """Reads the host's files, changes nothing. `options` is the content of mysqld's option file, None on a witness.
    Raises HostError."""
    wanted = _unit_files(host)
    if options is not None:
        wanted.append(HostFile(f"{platform.option_directory}/{mysqld_options.FILE_NAME}", options, 0o644))
    names = [CONTROLLER_UNIT, *([GUARD_UNIT] if host.has_mysql else [])]
    files = tuple(file for file in wanted if machine.read_file(file.path) != file.data)
    return SystemPlan(
        target=platform.target if platform.release != runtime.release(platform.target) else None,
        files=files,
        reload=bool(files or platform.outdated),
        enable=tuple(name for name in names if name not in platform.enabled),
        restart_mysqld=restart_mysqld,
    )


def _unit_files(host: InventoryHost) -> list[HostFile]:
    layout, program = Layout(host.directory), runtime.PROGRAM
    texts = {f"{units.UNIT_DIRECTORY}/{CONTROLLER_UNIT}": units.controller_unit(layout, program)}
    if host.has_mysql:
        drop_in = units.mysqld_drop_in(layout, program)
        texts[f"{units.DROP_IN_DIRECTORY}/{host.mysql_service}.d/raftctl.conf"] = drop_in
        texts[f"{units.UNIT_DIRECTORY}/{GUARD_UNIT}"] = units.guard_unit(layout, program)
    return [HostFile(path, text.encode(), 0o644) for path, text in texts.items()]


def apply(host: InventoryHost, machine: Host, plan: SystemPlan, *, progress: Callable[[str], None]) -> None:
    """Each step can be repeated. `progress` is told what begins. Raises HostError."""
    if plan.target is not None:
        progress("installing raftctl")
        runtime.install(machine, plan.target)
    if plan.files or plan.reload or plan.enable:
        progress("writing units and options")
    for file in plan.files:
        machine.make_dir(file.path.rpartition("/")[0], mode=0o755)
        machine.write_file(file.path, file.data, mode=file.mode)
    if plan.reload:
        machine.run(["systemctl", "daemon-reload"], timeout=CALL_SECONDS)
    if plan.enable:
        machine.run(["systemctl", "enable", *plan.enable], timeout=CALL_SECONDS)
    if plan.restart_mysqld:
        progress("restarting mysqld with raftctl's settings")
        _restart_mysqld(host, machine)


def _restart_mysqld(host: InventoryHost, machine: Host) -> None:
    """Returns when systemd has been told that it is ready. What its log says is the reason when it does not start."""
    began = int(time.time())
    result = machine.run(["systemctl", "restart", host.mysql_service], timeout=RESTART_SECONDS, check=False)
    if result.status != 0:
        raise HostError(
            f"{host.name}: {host.mysql_service} does not start with raftctl's settings",
            hint=f"see `journalctl -u {host.mysql_service} --since @{began}` and mysqld's error log there",
        )
