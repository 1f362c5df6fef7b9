"""`raftctl logs`: what all hosts logged, in the order of time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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
STYLES = ("cyan", "green", "yellow", "magenta", "blue", "red")


@with_options
def logs(options: Options, names: Names = None, since: Since = None, last: Last = 200) -> None:
    """Show what all hosts logged, interleaved."""
    from raftctl.cli.render import emit
    from raftctl.errors import HostError
    from raftctl.inventory.load import find_inventory, load_inventory

    cluster = load_inventory(find_inventory(options.inventory)).cluster(options.cluster)
    hosts = [cluster.host(name) for name in names] if names else list(cluster.hosts)
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        found = list(pool.map(lambda host: _read(host, since=since, last=last), hosts))
    errors = [answer for answer in found if isinstance(answer, str)]
    for error in errors:
        typer.echo(f"warning: {error}", err=True)
    if len(errors) == len(hosts):
        raise HostError(f"no host of {cluster.name} could be asked", hint="see `raftctl doctor`")
    read = [line for answer in found if not isinstance(answer, str) for line in answer]
    lines = sorted(read, key=lambda line: line.at)[-last:]
    if options.output is Output.TABLE:
        _show(lines, [host.name for host in hosts])
    else:
        emit(lines, options.output)


def _read(host: InventoryHost, *, since: float | None, last: int) -> list[LogLine] | str:
    from raftctl.errors import HostError
    from raftctl.hosts.logs import read_logs

    try:
        return read_logs(host, since=since, last=last)
    except HostError as error:
        return str(error)


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
