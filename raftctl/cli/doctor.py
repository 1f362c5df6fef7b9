"""`raftctl doctor`: are the hosts fit? What bootstrap checks before it changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftctl.cli.options import Options, Output, with_options

if TYPE_CHECKING:
    from raftctl.bootstrap.finding import Finding


@with_options
def doctor(options: Options) -> None:
    """Check hosts and servers as bootstrap does; change nothing."""
    from raftctl.bootstrap.preflight import failures
    from raftctl.bootstrap.run import EXAMINATION_SECONDS, examine
    from raftctl.cli.render import emit
    from raftctl.errors import RefusedError
    from raftctl.inventory.load import find_inventory, load_inventory

    cluster = load_inventory(find_inventory(options.inventory)).cluster(options.cluster)
    findings = examine(cluster, timeout=options.timeout or EXAMINATION_SECONDS)
    if options.output is Output.TABLE:
        _show(findings)
    else:
        emit({"findings": findings}, options.output)
    if failed := failures(findings):
        what = f"{len(failed)} of {len(findings)} checks failed"
        raise RefusedError(what, reason="preflight", hint="each says how to mend it")


def _show(findings: list[Finding]) -> None:
    from raftctl.cli.render import Cell, Column, console, table

    styles = {"pass": "green", "warn": "yellow", "fail": "red"}
    order = {finding.host: number for number, finding in reversed(list(enumerate(findings)))}
    rows = [
        [
            Cell(finding.severity, styles[finding.severity]),
            Cell(finding.host),
            Cell(finding.check),
            Cell(finding.what + (f"\n-> {finding.mend}" if finding.mend else "")),
        ]
        for finding in sorted(findings, key=lambda finding: order[finding.host])
    ]
    screen = console()
    columns = [Column("result"), Column("host"), Column("check"), Column("what was found, and how to mend it")]
    screen.print(table(columns, rows, screen.width))
