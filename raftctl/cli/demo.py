"""`raftctl sandbox demo`: a cluster, a writer, a killed primary, a new one, and a count of what was lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from raftctl.cli.options import Options, with_options
from raftctl.errors import RaftctlError, UsageError
from raftctl.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftctl.cli.cluster import Cluster
    from raftctl.cluster.status_model import ClusterStatus
    from raftctl.mysql.client import Endpoint
    from raftctl.sandbox.cluster import AnySandbox

WAIT_SECONDS = 60.0
ROWS_BETWEEN = 1000


@with_options
def demo(
    _: Options,
    directory: Annotated[
        Path | None, typer.Option("--directory", help="Where to make the sandbox [default: a temporary directory].")
    ] = None,
) -> None:
    """Kill the primary of a new cluster; nothing is lost.

    Three MySQL servers and a writer. Nothing acknowledged is lost, and nothing is left behind.
    """
    import tempfile

    from raftctl.cli.progress import shown
    from raftctl.sandbox.up import bring_up

    parent = directory or Path(tempfile.mkdtemp(prefix="raftctl-demo-"))
    home = _claim(parent / "sandbox")
    sandbox = None
    try:
        with shown() as progress:
            sandbox = bring_up(home, progress=progress)
        lost = _show(sandbox)
    finally:
        _clean_up(sandbox, home, parent, keep_parent=directory is not None)
    if lost:
        raise RaftctlError(f"{lost} acknowledged rows are lost", hint="this must never happen: please report it")


def _claim(home: Path) -> Path:
    """Made here, so that what is removed at the end is the demo's own. Raises UsageError."""
    try:
        home.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise UsageError(f"{home} is there already", hint="name another directory") from None
    except OSError as error:
        raise UsageError(f"cannot make {home}: {error.strerror}", hint="name another directory") from None
    return home


def _clean_up(sandbox: AnySandbox | None, home: Path, parent: Path, *, keep_parent: bool) -> None:
    import contextlib

    from raftctl.sandbox.cluster import open_sandbox

    with contextlib.suppress(RaftctlError):
        (sandbox or open_sandbox(home)).down(purge=True)
    if not keep_parent:
        with contextlib.suppress(OSError):
            parent.rmdir()


def _show(sandbox: AnySandbox) -> int:
    """Run the story; returns how many acknowledged rows are lost."""
    from raftctl.cli.cluster import open_cluster
    from raftctl.sandbox.cluster import Target
    from raftctl.sandbox.writer import Writer

    cluster = open_cluster(Options(inventory=sandbox.inventory))
    login = read_option_file(sandbox.option_file)
    began = time.monotonic()
    timeline: list[tuple[float, str]] = []

    def note(text: str) -> None:
        timeline.append((time.monotonic() - began, text))

    first = _wait(cluster, lambda s: s.health == "ok", "the cluster is healthy")
    _print_status(first)
    writer = Writer(lambda: _endpoint(cluster, login), database=login.database)
    writer.start(WAIT_SECONDS)
    _require(writer.wait_for(ROWS_BETWEEN, WAIT_SECONDS), "the writer writes")
    old = first.primary or ""
    note(f"{len(writer.acknowledged)} rows acknowledged; mysqld of {old}, the primary, is killed (SIGKILL)")
    sandbox.kill(old, Target.MYSQLD)
    second = _wait(cluster, lambda s: s.primary not in (None, old) and s.phase == "steady", "a new primary is elected")
    note(f"{second.primary} is the primary of epoch {second.epoch}")
    _require(writer.wait_for(ROWS_BETWEEN, WAIT_SECONDS), "the writer goes on")
    note(f"the writer goes on; its longest pause was {writer.longest_pause:.2f} s")
    third = _wait(cluster, lambda s: s.health == "ok", f"{old} is back by itself")
    note(f"{old} is back as a replica, the cluster is healthy")
    _require(writer.wait_for(ROWS_BETWEEN, WAIT_SECONDS), "the writer goes on")
    writer.stop()
    _print_status(third)
    _print_timeline(timeline, cluster)
    endpoint = _endpoint(cluster, login)
    _require(endpoint is not None, "there is a primary at the end")
    assert endpoint is not None
    tally = writer.tally(endpoint)
    _require(not tally.twice, "no row is there twice")
    typer.echo(f"acknowledged {tally.acknowledged}, lost {tally.lost}")
    return tally.lost


class Login(NamedTuple):
    user: str
    password: Secret
    database: str


def read_option_file(path: Path) -> Login:
    """The application's account from a MySQL option file."""
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    user, password, database = (parser["client"][key].strip('"') for key in ("user", "password", "database"))
    return Login(user, Secret(password), database)


def _endpoint(cluster: Cluster, login: Login) -> Endpoint | None:
    from raftctl.api_client import split_address
    from raftctl.mysql.client import Endpoint

    status = cluster.status()
    row = next((m for m in status.members if m.name == status.primary), None)
    if row is None or row.mysql is None or not row.mysql.address:
        return None
    host, port = split_address(row.mysql.address)
    return Endpoint(user=login.user, password=login.password, host=host, port=port)


def _wait(cluster: Cluster, condition: Callable[[ClusterStatus], bool], what: str) -> ClusterStatus:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        status = cluster.status()
        if condition(status):
            return status
        _require(time.monotonic() < deadline, what)
        time.sleep(0.05)


def _require(good: bool, what: str) -> None:
    if not good:
        raise RaftctlError(f"the demo expected that {what}, and it did not happen within {WAIT_SECONDS:g} s")


def _print_status(status: ClusterStatus) -> None:
    from raftctl.cli import render
    from raftctl.cli.status_view import draw

    screen = render.console()
    screen.print(draw(status, screen.width))
    screen.print("")


def _print_timeline(timeline: list[tuple[float, str]], cluster: Cluster) -> None:
    from raftctl.cli import render
    from raftctl.cli.history_view import draw, timed
    from raftctl.cluster.state import HistoryEntry

    for at, text in timeline:
        typer.echo(f"{at:7.2f} s  {text}")
    typer.echo("")
    entries = cluster.api.fetch(cluster.inventory.members(), "/v1/history", 5.0, list[HistoryEntry])
    screen = render.console()
    screen.print(draw(timed(entries), screen.width))
    screen.print("")
