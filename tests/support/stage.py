"""A sandbox cluster under a writer, for tests that break something and look at what becomes of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from raftctl.api_client import split_address
from raftctl.cli.cluster import Cluster, open_cluster
from raftctl.cli.demo import read_option_file
from raftctl.cli.history import newest
from raftctl.cli.options import Options
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import HistoryEntry
from raftctl.cluster.status_model import ClusterStatus
from raftctl.errors import MySQLError, UsageError
from raftctl.mysql.client import Endpoint, connect
from raftctl.sandbox.cluster import AnySandbox, exclusive, open_or_plan
from raftctl.sandbox.up import bring_up
from raftctl.sandbox.writer import Tally, Writer
from tests.support.disk import Disk, mounted
from tests.support.waiting import wait_until

WAIT_SECONDS = 90.0
WRITE_PAUSE_SECONDS = 0.003  # a write is under way most of the time, and the cores are not all the writer's
DISK_BYTES = 16 << 30  # what is used of it is what it takes


@dataclasses.dataclass(frozen=True)
class Stage:
    """One cluster. Every test leaves it healthy, so that the next one can use it. `disks`: the members' own, if any."""

    sandbox: AnySandbox
    cluster: Cluster
    database: str
    login: Endpoint
    disks: Mapping[str, Disk] = dataclasses.field(default_factory=dict)

    def status(self) -> ClusterStatus:
        return self.cluster.status()

    def wait(
        self, condition: Callable[[ClusterStatus], object], what: str, timeout: float = WAIT_SECONDS
    ) -> ClusterStatus:
        def probe() -> ClusterStatus | None:
            status = self.status()
            return status if condition(status) else None

        try:
            return wait_until(probe, what=what, timeout=timeout)
        except AssertionError as error:
            issues = [f"{i.member}: {i.text}" for i in self.status().issues]
            raise AssertionError(f"{error}; status: {issues}; history: {self.story()}") from None

    def wait_healthy(self) -> ClusterStatus:
        return self.wait(lambda s: s.health == "ok", "the cluster is healthy")

    def wait_new_primary(self, old: str) -> ClusterStatus:
        return self.wait(lambda s: s.primary not in (None, old) and s.phase == "steady", f"a primary other than {old}")

    def make_primary(self, member: str) -> None:
        """By a switchover, unless it is."""
        if self.wait_healthy().primary != member:
            command = [sys.executable, "-m", "raftctl", "-i", str(self.sandbox.inventory)]
            subprocess.run(
                [*command, "switchover", "--to", member, "--yes"], check=True, timeout=60, capture_output=True
            )
            assert self.wait_healthy().primary == member

    def history(self) -> list[HistoryEntry]:
        return newest(self.cluster)

    def story(self) -> list[str]:
        try:
            return [f"{e.kind} {e.member} epoch {e.epoch}: {e.why}" for e in self.history()][-40:]
        except Exception as error:  # noqa: BLE001 (only adds to another failure's message)
            return [str(error)]

    def endpoint(self, member: str) -> Endpoint:
        address = self.cluster.inventory.members()[member].mysql
        assert address is not None
        host, port = split_address(address)
        return dataclasses.replace(self.login, host=host, port=port)

    def primary_endpoint(self) -> Endpoint | None:
        primary = self.status().primary
        return self.endpoint(primary) if primary else None

    @contextlib.contextmanager
    def writing(self, *, patience: float = 2.0) -> Iterator[Writer]:
        """A writer at work on a new table; stopped at the end. With much `patience` only real errors are errors."""
        with connect_soon(self) as conn:
            conn.execute("DROP TABLE IF EXISTS raftctl_written")
        writer = Writer(self.primary_endpoint, database=self.database, patience=patience, pause=WRITE_PAUSE_SECONDS)
        writer.start(WAIT_SECONDS)
        assert writer.wait_for(20, WAIT_SECONDS)
        try:
            yield writer
        finally:
            writer.stop()

    def verify(self, writer: Writer) -> Tally:
        """After the writer stopped and the cluster healed: nothing lost, nothing twice, all members equal."""
        status = self.wait_healthy()
        assert status.primary
        tally = writer.tally(self.endpoint(status.primary))
        assert (tally.lost, tally.twice) == (0, 0), (tally, self.story())
        self.wait_equal(status.primary)
        return tally

    def wait_equal(self, primary: str) -> None:
        """All members hold exactly the primary's transactions: no errant one, none missing."""
        wanted = self.executed(primary)
        for member, place in self.cluster.inventory.members().items():
            if place.mysql:
                self._wait_equal(member, primary, wanted)

    def _wait_equal(self, member: str, primary: str, wanted: GTIDSet) -> None:
        try:
            wait_until(lambda: self.executed(member) == wanted, what=f"{member} equals {primary}", timeout=60)
        except AssertionError as error:
            has = self.executed(member)
            more, less = has - wanted, wanted - has
            raise AssertionError(f"{error}; it has {more or 'nothing'} more, {less or 'nothing'} less") from None

    def executed(self, member: str) -> GTIDSet:
        with connect(self.own_endpoint(member), connect_timeout=30.0, timeout=30.0) as conn:
            return GTIDSet.parse(conn.scalar("SELECT @@GLOBAL.gtid_executed"))

    def data_directory(self, member: str) -> Path:
        layout = self.sandbox.layout
        return layout.place(self.sandbox.directory, layout.member(member)).datadir

    def own_endpoint(self, member: str) -> Endpoint:
        """raftctl's own account on a member, through its unix socket."""
        from raftctl.bootstrap.survey import own_endpoint
        from raftctl.controller.config import load_secrets

        secrets = load_secrets(self.cluster.inventory.credentials / "secrets.json")
        return own_endpoint(self.cluster.inventory.host(member), secrets)


def connect_soon(stage: Stage):
    def probe():
        endpoint = stage.primary_endpoint()
        if endpoint is None:
            return None
        try:
            return connect(dataclasses.replace(endpoint), timeout=10.0)
        except MySQLError:
            return None

    conn = wait_until(probe, what="a connection to the primary", timeout=WAIT_SECONDS)
    conn.execute(f"USE `{stage.database}`")
    return conn


class SideClient:
    """A client that keeps writing to one member, whatever it is, with the time of every acknowledgement."""

    def __init__(self, endpoint: Endpoint, database: str, clock: Callable[[], float]) -> None:
        self._endpoint, self._database, self._clock = endpoint, database, clock
        self.acknowledged: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SideClient:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(self._endpoint, connect_timeout=1.0, timeout=1.0) as conn:
                    while not self._stop.is_set():
                        conn.execute(f"INSERT INTO `{self._database}`.side VALUES ()")
                        self.acknowledged.append(self._clock())
                        self._stop.wait(WRITE_PAUSE_SECONDS)
            except MySQLError:
                self._stop.wait(0.05)


@contextlib.contextmanager
def stage(
    *,
    namespaces: bool = True,
    nodes: int = 3,
    witnesses: int = 0,
    settings: tuple[str, ...] = (),
    image: str = "",
    disks: bool = False,
) -> Iterator[Stage]:
    """A new healthy cluster, taken down and removed at the end. Skips the test that cannot have its namespaces. With
    `image`, its hosts are containers upon that; with `disks`, each member has a disk of its own, or HostError."""
    if namespaces and (os.geteuid() != 0 or not shutil.which("ip")):
        pytest.skip("network namespaces need root and the ip command")
    parent = Path(tempfile.mkdtemp(prefix="rc-"))  # a unix socket's path must stay short
    directory, sandbox = parent / "s", None
    shape = {"nodes": nodes, "witnesses": witnesses, "namespaces": namespaces, "settings": settings, "image": image}
    try:
        with contextlib.ExitStack() as mounts:
            own = _disks(directory, shape, mounts) if disks else {}
            try:
                sandbox = bring_up(directory, **shape)
                cluster = open_cluster(Options(inventory=sandbox.inventory))
                login = read_option_file(sandbox.option_file)
                endpoint = Endpoint(user=login.user, password=login.password)
                yield Stage(sandbox, cluster, login.database, endpoint, own)
            finally:
                from raftctl.sandbox.cluster import open_sandbox

                with contextlib.suppress(UsageError):  # it never came to be
                    (sandbox or open_sandbox(directory)).down(purge=not disks)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _disks(directory: Path, shape: dict[str, Any], mounts: contextlib.ExitStack) -> dict[str, Disk]:
    """One for each member of the sandbox that is going to be there."""
    with exclusive(directory):
        names = open_or_plan(directory, **shape).layout.names
    for name in names:
        (directory / name).mkdir(mode=0o700)
    return {name: mounts.enter_context(mounted(directory / name, size=DISK_BYTES)) for name in names}
