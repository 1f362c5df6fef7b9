"""`raftctl logs`: what all hosts logged, in the order of time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from raftctl.cli.options import Options, Output, seconds, with_options

if TYPE_CHECKING:
    from raftctl.hosts.logs import LogLine
    from raftctl.inventory.model import InventoryHost

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these members [default: all].")]
Since = Annotated[
    float | None, typer.Option("--since", metavar="DURATION", parser=seconds, help="Not older than: 90s, 10m, 2h.")
]
Last = Annotated[int, typer.Option("--last", "-n", min=1, help="Show only the last N lines of all.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until interrupted.")]
READ_SECONDS = 60.0  # unless --timeout says otherwise
FOLLOW_SECONDS = 1.0
FOLLOW_LINES = 1000  # of each host, in FOLLOW_SECONDS
STYLES = ("cyan", "green", "yellow", "magenta", "blue", "red")


@with_options
def logs(options: Options, names: Names = None, since: Since = None, last: Last = 200, follow: Follow = False) -> None:
    """Show what all hosts logged, interleaved."""
    from raftctl.cli.render import emit
    from raftctl.errors import HostError
    from raftctl.inventory.load import find_inventory, load_inventory

    cluster = load_inventory(find_inventory(options.inventory)).cluster(options.cluster)
    hosts = [cluster.host(name) for name in dict.fromkeys(names)] if names else list(cluster.hosts)
    timeout = options.timeout or READ_SECONDS
    found = _read_all(hosts, since=since, last=last, timeout=timeout)
    errors = [f"{host.name}: {answer}" for host, answer in zip(hosts, found, strict=True) if isinstance(answer, str)]
    for error in errors:
        typer.echo(f"warning: {error}", err=True)
    if len(errors) == len(hosts):
        raise HostError(f"no host of {cluster.name} could be asked", hint="see `raftctl doctor`")
    read = [line for answer in found if not isinstance(answer, str) for line in answer]
    lines = sorted(read, key=lambda line: line.at)[-last:]
    names_shown = [host.name for host in hosts]
    if follow:
        for more in itertools.chain([lines], _following(hosts, found, timeout)):
            _show(more, names_shown) if options.output is Output.TABLE else _emit_each(more, options.output)
    elif options.output is Output.TABLE:
        _show(lines, names_shown)
    else:
        emit(lines, options.output)


def _following(hosts: list[InventoryHost], read: list[list[LogLine] | str], timeout: float) -> Iterator[list[LogLine]]:
    """What the hosts log from now on, about a second late. By what was shown and not by time: clocks differ."""
    from raftctl.hosts.logs import Unseen

    unseen = [Unseen([] if isinstance(lines, str) else lines) for lines in read]
    complaints = [lines if isinstance(lines, str) else "" for lines in read]
    while True:
        time.sleep(FOLLOW_SECONDS)
        answers = _read_all(hosts, since=None, last=FOLLOW_LINES, timeout=timeout)
        new: list[LogLine] = []
        for number, answer in enumerate(answers):
            complaint = answer if isinstance(answer, str) else ""
            if complaint and complaint != complaints[number]:
                typer.echo(f"warning: {hosts[number].name}: {complaint}", err=True)
            complaints[number] = complaint
            if not isinstance(answer, str):
                new += unseen[number].of(answer)
        yield sorted(new, key=lambda line: line.at)


def _emit_each(lines: list[LogLine], output: Output) -> None:
    """A document each: a stream has no end at which a list could be closed."""
    from raftctl.cli.render import emit

    for line in lines:
        emit(line, output, compact=True)


def _read_all(
    hosts: list[InventoryHost], *, since: float | None, last: int, timeout: float
) -> list[list[LogLine] | str]:
    """In the order of the hosts; a line of text for one that could not be asked within `timeout` seconds."""
    from raftctl.api_client import in_parallel

    found = in_parallel({host.name: host for host in hosts}, lambda host: _read(host, since=since, last=last), timeout)
    return list(found.values())


def _read(host: InventoryHost, *, since: float | None, last: int) -> list[LogLine] | str:
    from raftctl.errors import HostError
    from raftctl.hosts.logs import read_logs

    try:
        return read_logs(host, since=since, last=last)
    except HostError as error:
        return str(error).removeprefix(f"{host.name}: ")


def _show(lines: list[LogLine], hosts: list[str]) -> None:
    from rich.text import Text

    from raftctl.cli.render import console

    screen = console()
    width = max(map(len, hosts))
    for line in lines:
        at = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
        style = STYLES[hosts.index(line.host) % len(STYLES)]
        name = (f"{line.host:<{width}}", style)
        screen.print(Text.assemble(at, " ", name, f" {line.unit:<10} ", line.text), soft_wrap=True)
