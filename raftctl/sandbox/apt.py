"""Fetch packages and their whole dependency closure with apt, without touching the system.

A private apt configuration (own sources, lists, cache and an empty dpkg status, so that the closure includes
the C library and its loader) resolves and downloads; `dpkg -x` unpacks into a folder. Works as root and as a
plain user. The machine's own mirror, proxy and keyring are used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from raftctl.errors import HostError

Progress = Callable[[str, float | None], None]
"""Called with what is being done and the fraction done (None: unknown)."""


def ignore_progress(what: str, done: float | None) -> None:
    """Progress for callers that show none."""


_DEFAULT_MIRROR = "http://deb.debian.org/debian/"
_DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_UPDATE_TIMEOUT_S = 300.0
_RESOLVE_TIMEOUT_S = 60.0
_DOWNLOAD_TIMEOUT_S = 1800.0
_UNPACK_TIMEOUT_S = 120.0


class Source(msgspec.Struct, frozen=True):
    """Where packages come from: lines of a sources.list, or the machine's own sources when there are none."""

    name: str
    lines: tuple[str, ...] = ()


class Package(msgspec.Struct, frozen=True):
    name: str
    file: str
    size: int


def sources() -> list[Source]:
    """Where to look for a MySQL server, best first.

    Ubuntu's own suites have one. Debian's have MariaDB, so unstable is read there: from the machine's own
    mirror first, from the project's if that one does not carry unstable.

    Raises:
        HostError: this machine has no apt.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise HostError(
            "no MySQL server is on PATH, and there is no apt here to fetch one with",
            hint="install MySQL 8.0.26 or later (mysqld and mysql) and run this again",
        )
    release = _os_release()
    if release.get("ID") == "ubuntu" or "ubuntu" in release.get("ID_LIKE", "").split():
        return [Source("this machine's apt sources")]
    mirrors = dict.fromkeys([*_debian_mirrors(release.get("VERSION_CODENAME", "")), (_DEFAULT_MIRROR, "")])
    return [Source(f"Debian unstable at {uri}", (_unstable_line(uri, key),)) for uri, key in mirrors]


def _os_release() -> dict[str, str]:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {}
    return {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in text.splitlines())}


def _debian_mirrors(codename: str) -> list[tuple[str, str]]:
    """(URI, Signed-By) of the main archive in the machine's apt sources."""
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(SIGNED_BY)"
    listing = _run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], _RESOLVE_TIMEOUT_S)
    mirrors = []
    for line in listing.stdout.splitlines():
        uri, release, component, origin, signed_by = line.split("|", 4)
        # ORIGIN stays unexpanded until the machine's own lists were fetched once
        if component == "main" and release == codename and origin in ("Debian", "$(ORIGIN)"):
            mirrors.append((uri, signed_by if signed_by.startswith("/") else ""))
    return mirrors


def _unstable_line(uri: str, signed_by: str) -> str:
    keyring = signed_by or (str(_DEBIAN_KEYRING) if _DEBIAN_KEYRING.exists() else "")
    return f"deb {f'[signed-by={keyring}] ' if keyring else ''}{uri} unstable main"


class PrivateApt:
    """An apt of our own below `directory`; nothing outside it is written."""

    def __init__(self, directory: Path, source: Source) -> None:
        self._directory = directory
        self._source = source
        self._archives = directory / "archives"
        for path in (directory / "lists" / "partial", self._archives, directory / "cache"):
            path.mkdir(parents=True, exist_ok=True)
        (directory / "status").touch()
        (directory / "sources.list").write_text("".join(f"{line}\n" for line in source.lines))
        (directory / "apt.conf").write_text(self._configuration())
        self._environment = os.environ | {"APT_CONFIG": str(directory / "apt.conf"), "LC_ALL": "C"}

    def _configuration(self) -> str:
        here = self._directory
        settings = {
            "Dir::State": here,
            "Dir::State::lists": here / "lists",
            "Dir::State::status": here / "status",
            "Dir::Cache": here / "cache",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",  # hooks there expect root and the system's own cache
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            # apt would drop to the user _apt, who cannot write here, and warn about it
            "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        if self._source.lines:
            settings |= {
                "Dir::Etc::sourcelist": here / "sources.list",
                "Dir::Etc::sourceparts": "/dev/null",
                # unstable's Release file expires within days, and a frozen mirror is as good to us
                "Acquire::Check-Valid-Until": "false",
            }
        return "".join(f'{key} "{value}";\n' for key, value in settings.items()) + _machine_network_settings()

    def update(self) -> None:
        """Fetch the package lists. A source that fails is said only if nothing can be resolved without it."""
        result = self._apt(["apt-get", "update"], _UPDATE_TIMEOUT_S)
        if not any((self._directory / "lists").glob("*Packages*")):
            raise _apt_error(f"cannot read the package lists of {self._source.name}", result)

    def resolve(self, packages: Sequence[str]) -> list[Package]:
        """`packages` and all they need, whatever is installed on this machine. Empty when one is unknown."""
        result = self._apt(["apt-get", "install", "--print-uris", "-y", *packages], _RESOLVE_TIMEOUT_S)
        pattern = re.compile(r"^'[^']+' ([^_ ]+)_(\S+) (\d+) ", re.MULTILINE)
        return [Package(name, f"{name}_{rest}", int(size)) for name, rest, size in pattern.findall(result.stdout)]

    def download(self, packages: Sequence[Package], progress: Callable[[float], None]) -> None:
        """Download and verify `packages`; `progress` gets the fraction done."""
        total = sum(package.size for package in packages) or 1
        command = ["apt-get", "download", "-q", *(package.name for package in packages)]
        log = self._directory / "download.log"
        deadline = time.monotonic() + _DOWNLOAD_TIMEOUT_S
        with (
            log.open("w") as output,
            subprocess.Popen(
                command, cwd=self._archives, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            ) as process,
        ):
            while process.poll() is None:
                progress(min(1.0, sum(f.stat().st_size for f in self._archives.iterdir()) / total))
                if time.monotonic() > deadline:
                    process.kill()
                    raise HostError(f"downloading from {self._source.name} took over {_DOWNLOAD_TIMEOUT_S:.0f} s")
                time.sleep(0.1)
        if process.returncode != 0:
            raise HostError(
                f"cannot download from {self._source.name}: {_last_error(log.read_text())}",
                hint=_NETWORK_HINT,
            )

    def unpack(self, root: Path, progress: Callable[[float], None]) -> None:
        """Unpack everything downloaded below `root`; no package script runs."""
        files = sorted(self._archives.glob("*.deb"))
        for done, file in enumerate(files):
            progress(done / len(files))
            result = _run(["dpkg", "-x", str(file), str(root)], _UNPACK_TIMEOUT_S)
            if result.returncode != 0:
                raise HostError(f"cannot unpack {file.name}: {_last_error(result.stderr)}")

    def _apt(self, command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        return _run(command, timeout_s, self._environment)


_NETWORK_HINT = "check the network and the proxy settings of apt, or install MySQL 8.0.26 or later by hand"


def _machine_network_settings() -> str:
    """Proxies, time limits and the like from the machine's apt configuration, which ours replaces."""
    dump = _run(["apt-config", "dump", "--no-empty"], _RESOLVE_TIMEOUT_S).stdout
    wanted = ("Acquire::http", "Acquire::https", "Acquire::ForceIPv", "Acquire::Check-Date")
    return "".join(f"{line}\n" for line in dump.splitlines() if line.startswith(wanted))


def _run(
    command: list[str], timeout_s: float, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"`{' '.join(command[:2])}` took over {timeout_s:.0f} s", hint=_NETWORK_HINT) from None


def _apt_error(what: str, result: subprocess.CompletedProcess[str]) -> HostError:
    return HostError(f"{what}: {_last_error(result.stderr)}", hint=_NETWORK_HINT)


def _last_error(output: str) -> str:
    """The line of apt's output that says most: the first error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for marks in (("E:", "Err:", "dpkg"), ("W: Failed",)):
        for line in lines:
            if line.startswith(marks):
                return line
    return lines[-1] if lines else "no output"
