"""`raftctl sandbox`: a cluster on this machine, and faults on demand."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raftctl.cli.options import Options, Output, with_options

if TYPE_CHECKING:
    from raftctl.sandbox.cluster import AnySandbox

app = typer.Typer(no_args_is_help=True, help="A whole cluster on this machine, and faults on demand.")


class Network(enum.StrEnum):
    LOOPBACK = "loopback"
    NETNS = "netns"


class Driver(enum.StrEnum):
    LOCAL = "local"
    DOCKER = "docker"


class EngineChoice(enum.StrEnum):
    SEMI_SYNC = "semi-sync"
    GROUP = "group"


class KillTarget(enum.StrEnum):
    MYSQLD = "mysqld"
    CONTROLLER = "controller"
    GUARD = "guard"
    HOST = "host"


class FreezeTarget(enum.StrEnum):
    MYSQLD = "mysqld"
    CONTROLLER = "controller"
    HOST = "host"


Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The sandbox's directory.")]
Member = Annotated[str, typer.Argument(metavar="NAME", help="A member: db1.., w1..")]


@app.command("up")
@with_options
def up(
    options: Options,
    directory: Directory,
    nodes: Annotated[int, typer.Option(help="Members with a MySQL server: db1..")] = 3,
    witnesses: Annotated[int, typer.Option(help="Members that only vote: w1..")] = 0,
    engine: Annotated[EngineChoice, typer.Option(help="Replication engine.")] = EngineChoice.SEMI_SYNC,
    network: Annotated[
        Network, typer.Option(help="One address with many ports, or a network namespace per member (needs root).")
    ] = Network.LOOPBACK,
    driver: Annotated[
        Driver, typer.Option(help="What a host is: local processes, or a container with systemd, reached over SSH.")
    ] = Driver.LOCAL,
    base_image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="What containers are built upon  [default: debian:trixie-slim]")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A cluster setting: failover.cooldown=5s.")
    ] = None,
) -> None:
    """Start a cluster in DIR, or what is down of it.

    Returns once it is healthy. A new one is bootstrapped.
    """
    from raftctl.cli.progress import shown
    from raftctl.errors import RefusedError, UsageError
    from raftctl.sandbox.layout import BASE_IMAGE
    from raftctl.sandbox.up import bring_up

    if engine is EngineChoice.GROUP:
        raise RefusedError(
            "--engine group is not there yet", reason="not-supported", hint="leave it out: semi-sync works"
        )
    if driver is Driver.DOCKER and network is Network.NETNS:
        raise UsageError("--network netns is for local processes", hint="leave it out: containers have a network")
    if driver is Driver.LOCAL and base_image is not None:
        raise UsageError("--base-image is for containers", hint="say --driver docker")
    with shown() as progress:
        sandbox = bring_up(
            directory,
            nodes=nodes,
            witnesses=witnesses,
            namespaces=network is Network.NETNS,
            settings=settings or [],
            image=(base_image or BASE_IMAGE) if driver is Driver.DOCKER else "",
            timeout=options.timeout,
            progress=progress,
        )
    _report(sandbox, f"{', '.join(sandbox.layout.names)} are up; the inventory is {sandbox.inventory}", options)


def _report(sandbox: AnySandbox, text: str, options: Options) -> None:
    from raftctl.cli.render import emit, line

    if options.output is Output.TABLE:
        line(text)
    else:
        emit({"members": sandbox.layout.names, "inventory": str(sandbox.inventory)}, options.output)


@app.command("add")
@with_options
def add(
    options: Options,
    directory: Directory,
    witness: Annotated[bool, typer.Option("--witness", help="A host that only votes.")] = False,
) -> None:
    """Start one more host, for `raftctl member add`.

    It is put into the inventory; `raftctl member add NAME` makes it a member.
    """
    from raftctl.cli.progress import shown
    from raftctl.sandbox.cluster import exclusive, open_sandbox

    sandbox = open_sandbox(directory)
    with exclusive(sandbox.directory), shown() as progress:
        name = sandbox.add(witness=witness, progress=progress)
    text = f"{name} is up; `raftctl -i {sandbox.inventory} member add {name}` makes it a member"
    _report(sandbox, text, options)


@app.command("down")
@with_options
def down(
    _: Options,
    directory: Directory,
    purge: Annotated[bool, typer.Option("--purge", help="Remove DIR as well.")] = False,
) -> None:
    """End every process of the sandbox."""
    from raftctl.sandbox.cluster import exclusive, open_sandbox

    sandbox = open_sandbox(directory)
    with exclusive(sandbox.directory):
        sandbox.down(purge=purge)


@app.command("kill")
@with_options
def kill(
    _: Options,
    directory: Directory,
    name: Member,
    target: Annotated[KillTarget, typer.Argument(metavar="[mysqld|controller|guard|host]")] = KillTarget.HOST,
    no_restart: Annotated[
        bool, typer.Option("--no-restart", help="Keep it down until `sandbox start`, unlike systemd.")
    ] = False,
) -> None:
    """SIGKILL. A host and a controller stay down until `sandbox start`; mysqld and guard are restarted."""
    from raftctl.sandbox.cluster import Target, open_sandbox

    open_sandbox(directory).kill(name, Target(target.value), restart=not no_restart)


@app.command("stop")
@with_options
def stop(
    _: Options,
    directory: Directory,
    name: Member,
    target: Annotated[KillTarget, typer.Argument(metavar="[mysqld|controller|guard|host]")] = KillTarget.HOST,
) -> None:
    """A planned stop: what has the primary hands over first.

    It stays down until `sandbox start`.
    """
    from raftctl.sandbox.cluster import Target, open_sandbox

    open_sandbox(directory).stop(name, Target(target.value))


@app.command("freeze")
@with_options
def freeze(
    _: Options,
    directory: Directory,
    name: Member,
    target: Annotated[FreezeTarget, typer.Argument(metavar="[mysqld|controller|host]")] = FreezeTarget.HOST,
) -> None:
    """SIGSTOP: it hangs, and its connections stay open."""
    from raftctl.sandbox.cluster import Target, open_sandbox

    open_sandbox(directory).freeze(name, Target(target.value))


@app.command("thaw")
@with_options
def thaw(
    _: Options,
    directory: Directory,
    name: Member,
    target: Annotated[FreezeTarget, typer.Argument(metavar="[mysqld|controller|host]")] = FreezeTarget.HOST,
) -> None:
    """SIGCONT: undo `freeze`."""
    from raftctl.sandbox.cluster import Target, open_sandbox

    open_sandbox(directory).thaw(name, Target(target.value))


@app.command("start")
@with_options
def start(
    _: Options,
    directory: Directory,
    name: Member,
    target: Annotated[KillTarget, typer.Argument(metavar="[mysqld|controller|guard|host]")] = KillTarget.HOST,
    ungated: Annotated[
        bool, typer.Option("--ungated", help="Start mysqld without asking the controllers who is primary.")
    ] = False,
) -> None:
    """Undo `kill`: start what is down."""
    from raftctl.sandbox.cluster import Target, open_sandbox

    open_sandbox(directory).start(name, Target(target.value), ungated=ungated)


@app.command("partition")
@with_options
def partition(
    _: Options,
    directory: Directory,
    sides: Annotated[list[str], typer.Argument(metavar="A,B [C]", help="Each comma list is one side.")],
    one_way: Annotated[
        bool, typer.Option("--one-way", help="Lose only what the first side sends to the second.")
    ] = False,
) -> None:
    """Lose all packets between the sides.

    Members not named form one more side. Adds to earlier partitions.
    """
    from raftctl.sandbox.cluster import open_sandbox

    open_sandbox(directory).partition([side.split(",") for side in sides], one_way=one_way)


@app.command("heal")
@with_options
def heal(_: Options, directory: Directory) -> None:
    """Undo every partition."""
    from raftctl.sandbox.cluster import open_sandbox

    open_sandbox(directory).heal()
