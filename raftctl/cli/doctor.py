"""`raftctl doctor`: are the hosts fit? What bootstrap checks before it changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftctl.cli.options import Options, Output, with_options

if TYPE_CHECKING:
    from raftctl.bootstrap.preflight import Finding


@with_options
def doctor(options: Options) -> None:
    """Check hosts and servers as bootstrap does; change nothing."""
    from raftctl.bootstrap.preflight import failures
    from raftctl.bootstrap.run import examine
    from raftctl.cli.render import emit
    from raftctl.errors import RefusedError
    from raftctl.inventory.load import find_inventory, load_inventory

    findings = examine(load_inventory(find_inventory(options.inventory)).cluster(options.cluster))
    if options.output is Output.TABLE:
        _show(findings)
    else:
        emit({"findings": findings}, options.output)
    if failed := failures(findings):
        raise RefusedError(f"{len(failed)} of {len(findings)} checks failed", reason="preflight")


def _show(findings: list[Finding]) -> None:
    from raftctl.cli.render import line

    styles = {"pass": "green", "warn": "yellow", "fail": "red"}
    for finding in findings:
        line(
            f"{finding.severity}  {finding.host}: {finding.check}{f': {finding.what}' if finding.what else ''}",
            styles[finding.severity],
        )
        if finding.mend:
            line(f"      {finding.mend}")
