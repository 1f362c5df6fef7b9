"""A MySQL server for this machine: the one on PATH when it will do, else one fetched into a cache.

The cache (`RAFTCTL_CACHE`, else ~/.cache/raftctl) holds unpacked packages and an initialised data directory
for each server: copying that takes a fraction of a second, `mysqld --initialize` several. A whole entry
appears by one rename, under a lock: a run that was interrupted leaves nothing that looks finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from raftctl.errors import HostError
from raftctl.sandbox.apt import Package, PrivateApt, Progress, Source, ignore_progress, sources

MINIMUM_VERSION = (8, 0, 26)  # the first with the source/replica names everywhere
_PLUGINS = ("semisync_source.so", "semisync_replica.so", "mysql_clone.so", "group_replication.so")
# (packages with their closure, packages of which only the files are wanted: plugins), by distribution release
_PACKAGE_SETS = (
    (("mysql-server-core", "mysql-client-core"), ()),
    (("mysql-server-core-8.4", "mysql-client-core-8.4"), ("mysql-server-8.4",)),
    (("mysql-server-core-8.0", "mysql-client-core-8.0"), ("mysql-server-8.0",)),
)
_UNWANTED = re.compile(r"perl|libperl|gcc-|openssl-provider")  # for scripts and legacy ciphers that nobody calls
_INITIALIZE_TIMEOUT_S = 180.0
_PROBE_TIMEOUT_S = 30.0


class MySQLDistribution(msgspec.Struct, frozen=True):
    """How to run one particular MySQL server and its client."""

    version: tuple[int, int, int]
    origin: str  # for people: where it comes from
    mysqld: tuple[str, ...]  # the program, behind its own loader when it was fetched
    options: tuple[str, ...]  # where it finds its own files
    client_argv: tuple[str, ...]  # the `mysql` program; options are to be appended
    template: str = ""  # an initialised data directory, "" while there is none

    def mysqld_argv(self, *, defaults_file: Path | None = None) -> tuple[str, ...]:
        """The command line that runs the server in the foreground. More options may be appended."""
        defaults = f"--defaults-file={defaults_file}" if defaults_file else "--no-defaults"
        as_root = ("--user=root",) if os.geteuid() == 0 else ()  # mysqld refuses to run as root unless told to
        return (*self.mysqld, defaults, *self.options, *as_root)

    def initialize(self, datadir: Path) -> None:
        """Make `datadir` a fresh data directory, mode 0700: only root@localhost, without a password.

        Raises:
            HostError: the directory has files in it, or mysqld could not initialise it.
        """
        datadir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(datadir.iterdir()):
            raise HostError(f"{datadir} is not empty", hint="choose another directory, or remove it first")
        if not self.template:
            _initialize_with_mysqld(self, datadir)
            return
        shutil.copytree(self.template, datadir, dirs_exist_ok=True, symlinks=True)
        datadir.chmod(0o700)


def cache_directory() -> Path:
    """`RAFTCTL_CACHE`, else ~/.cache/raftctl (or below XDG_CACHE_HOME)."""
    if chosen := os.environ.get("RAFTCTL_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "raftctl"


def find_or_fetch(progress: Progress = ignore_progress) -> MySQLDistribution:
    """A MySQL server that can run cluster members: Oracle's or Percona's, 8.0.26 or later, with the plugins.

    Blocks for as long as a download takes when nothing is at hand; a second run at the same time waits for
    the first.

    Raises:
        HostError: none is here and none can be fetched; says why and what to do.
    """
    cache = cache_directory() / "mysql"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"cannot write the cache {cache}: {error.strerror}",
            hint="set RAFTCTL_CACHE to a writable directory",
        ) from error
    with _locked(cache / "lock", progress):
        return _installed(cache, progress) or _cached(cache) or _fetch(cache, progress)


# --- a server on PATH ------------------------------------------------------------------------------


def _installed(cache: Path, progress: Progress) -> MySQLDistribution | None:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/libexec"  # plain users often lack sbin
    mysqld, client = shutil.which("mysqld", path=path), shutil.which("mysql", path=path)
    if mysqld is None or client is None:
        return None
    version = _version_of([mysqld])
    if version is None or version < MINIMUM_VERSION:
        return None
    stat = Path(mysqld).resolve().stat()
    identity = hashlib.sha256(f"{Path(mysqld).resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    entry = cache / f"installed-{identity}"
    found = MySQLDistribution(version=version, origin=mysqld, mysqld=(mysqld,), options=(), client_argv=(client,))
    if (entry / "template").is_dir():
        return msgspec.structs.replace(found, template=str(entry / "template"))
    if not _has_plugins(mysqld):
        return None
    progress(f"preparing a data directory for {mysqld}", None)
    try:
        with _new_entry(entry) as building:
            _initialize_with_mysqld(found, building / "template")
    except HostError:
        # AppArmor confines a packaged mysqld to /var/lib/mysql: it is of no use here, a fetched one is
        return None
    return msgspec.structs.replace(found, template=str(entry / "template"))


def _version_of(command: list[str]) -> tuple[int, int, int] | None:
    """The version that a mysqld tells, None if it does not run or is MariaDB."""
    try:
        result = subprocess.run(
            [*command, "--no-defaults", "--version"],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(result.stdout)


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The version in the output of `mysqld --version`; None for MariaDB and for anything else."""
    match = re.search(r"\bVer (\d+)\.(\d+)\.(\d+)", text)
    if match is None or "mariadb" in text.lower():
        return None
    return int(match[1]), int(match[2]), int(match[3])


def _has_plugins(mysqld: str) -> bool:
    """Whether the plugins lie where this mysqld looks for them."""
    try:
        result = subprocess.run(
            [mysqld, "--no-defaults", "--verbose", "--help"],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    match = re.search(r"^plugin-dir\s+(\S+)", result.stdout, re.MULTILINE)
    return match is not None and all((Path(match[1]) / plugin).is_file() for plugin in _PLUGINS)


# --- a fetched server ------------------------------------------------------------------------------


def _cached(cache: Path) -> MySQLDistribution | None:
    entries = [found for entry in cache.glob("fetched-*/") if (found := _load(entry)) is not None]
    return max(entries, key=lambda found: found.version, default=None)


def _load(entry: Path) -> MySQLDistribution | None:
    try:
        return msgspec.json.decode((entry / "distribution.json").read_bytes(), type=MySQLDistribution)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _fetch(cache: Path, progress: Progress) -> MySQLDistribution:
    failures = []
    for source in sources():
        with tempfile.TemporaryDirectory(prefix="apt-", dir=cache) as work:
            apt = PrivateApt(Path(work), source)
            try:
                progress(f"reading the package lists of {source.name}", None)
                apt.update()
                packages = _choose_packages(apt)
            except HostError as error:
                failures.append(error)
                continue
            if packages:
                return _install(cache, source, apt, packages, progress)
            failures.append(HostError(f"{source.name} has no MySQL server", hint="install MySQL by hand"))
    raise HostError(f"no MySQL server is on PATH, and none can be fetched: {failures[-1]}", hint=failures[-1].hint)


def _choose_packages(apt: PrivateApt) -> list[Package]:
    for with_closure, files_only in _PACKAGE_SETS:
        closure = [package for package in apt.resolve(with_closure) if not _UNWANTED.match(package.name)]
        if closure:
            extra = [package for package in apt.resolve(files_only) if package.name in files_only] if files_only else []
            return closure + extra
    return []


def _install(
    cache: Path, source: Source, apt: PrivateApt, packages: list[Package], progress: Progress
) -> MySQLDistribution:
    megabytes = sum(package.size for package in packages) / 1e6
    apt.download(packages, lambda done: progress(f"downloading MySQL ({megabytes:.0f} MB)", done))
    server = next(package for package in packages if package.name.startswith("mysql-server-core"))
    entry = cache / f"fetched-{server.file.removesuffix('.deb')}"
    with _new_entry(entry) as building:
        apt.unpack(building / "root", lambda done: progress("unpacking MySQL", done))
        progress("preparing a data directory", None)
        draft = _describe(building / "root", origin=f"{server.file} from {source.name}")
        _initialize_with_mysqld(draft, building / "template")
        final = msgspec.structs.replace(
            _describe(building / "root", origin=draft.origin, installed_at=entry / "root"),
            template=str(entry / "template"),
        )
        (building / "distribution.json").write_bytes(msgspec.json.encode(final))
    return final


def _describe(root: Path, *, origin: str, installed_at: Path | None = None) -> MySQLDistribution:
    """How to run the server unpacked at `root`, once it stands at `installed_at`.

    It runs behind its own loader and libraries: those of the machine may be older, or another C library's."""
    final = installed_at or root
    libraries = [path for pattern in ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*") for path in root.glob(pattern)]
    loader = next((found for path in libraries for found in path.glob("ld-linux*.so.*")), None)
    if loader is None:
        raise HostError(f"{origin} has no loader of its own: it cannot run here")
    private = [path / "mysql" / "private" for path in libraries if (path / "mysql" / "private").is_dir()]
    library_path = ":".join(str(final / path.relative_to(root)) for path in [*libraries, *private])
    run = (str(final / loader.relative_to(root)), "--library-path", library_path)
    runnable_now = (str(loader), "--library-path", ":".join(map(str, [*libraries, *private])))
    version = _version_of([*runnable_now, str(root / "usr/sbin/mysqld")])
    if version is None or version < MINIMUM_VERSION:
        raise HostError(f"{origin} does not run here", hint="install MySQL 8.0.26 or later by hand")
    share = final / "usr/share/mysql"
    return MySQLDistribution(
        version=version,
        origin=origin,
        mysqld=(*run, str(final / "usr/sbin/mysqld")),
        options=(
            f"--basedir={final / 'usr'}",
            f"--lc-messages-dir={share}",
            f"--character-sets-dir={share / 'charsets'}",
            f"--plugin-dir={final / 'usr/lib/mysql/plugin'}",
            "--secure-file-priv=",
        ),
        client_argv=(*run, str(final / "usr/bin/mysql")),
    )


def _initialize_with_mysqld(distribution: MySQLDistribution, datadir: Path) -> None:
    datadir.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [
        *distribution.mysqld_argv(),
        "--initialize-insecure",
        f"--datadir={datadir}",
        "--innodb-redo-log-capacity=8M" if distribution.version >= (8, 0, 30) else "--innodb-log-file-size=4M",
    ]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_INITIALIZE_TIMEOUT_S, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"mysqld cannot initialise {datadir}: {error}") from error
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if "[ERROR]" in line] or result.stderr.splitlines()
        raise HostError(f"mysqld cannot initialise {datadir}: {lines[0] if lines else 'no output'}")
    # without it every copy of this directory would be a server with the same server_uuid
    (datadir / "auto.cnf").unlink(missing_ok=True)


# --- the cache -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another run that prepares MySQL", None)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _new_entry(entry: Path) -> Iterator[Path]:
    """A directory to build in, renamed to `entry` if the block ends well and has made something."""
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=entry.parent))
    try:
        yield building
        if any(building.iterdir()):
            building.rename(entry)
    finally:
        shutil.rmtree(building, ignore_errors=True)
