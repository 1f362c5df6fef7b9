"""`raftctl bootstrap`: from hosts with MySQL to a running cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from raftctl.cli.changes import DryRun, Yes, approve, show_plan
from raftctl.cli.options import Options, Output, with_options

if TYPE_CHECKING:
    from raftctl.bootstrap.finding import Finding
    from raftctl.bootstrap.run import BootstrapReport


@with_options
def bootstrap(options: Options, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Set a cluster up: controllers, accounts, replication.

    Checks the hosts first; does only what is missing, and says what it changed.
    """
    from raftctl.bootstrap.run import TIMEOUT_SECONDS
    from raftctl.bootstrap.run import bootstrap as run
    from raftctl.bootstrap.set_up import PreflightError
    from raftctl.cli.cluster import requester
    from raftctl.cli.progress import shown
    from raftctl.inventory.load import find_inventory, load_inventory

    cluster = load_inventory(find_inventory(options.inventory)).cluster(options.cluster)
    try:
        if dry_run or not yes:
            plan = run(cluster, dry_run=True)
            if dry_run:
                show_findings(plan.warnings)
                show_plan(plan.changed or [f"nothing: {cluster.name} is set up"], options.output)
                return
            if plan.changed:
                approve(f"Bootstrap {cluster.name}?", yes=yes, plan=plan.changed, output=options.output)
        with shown() as progress:
            report = run(
                cluster,
                progress=lambda what: progress(what, None),
                by=requester(),
                timeout=options.timeout or TIMEOUT_SECONDS,
            )
    except PreflightError as error:
        show_findings(error.findings)
        raise
    show_findings(report.warnings)
    _show_report(report, options.output)


def show_findings(findings: Sequence[Finding]) -> None:
    """What is wrong with the hosts, on stderr, a line each. `raftctl doctor` shows what is right, too."""
    for finding in findings:
        if finding.severity != "pass":
            mend = f" ({finding.mend})" if finding.mend else ""
            typer.echo(f"{finding.severity}: {finding.host}: {finding.check}: {finding.what}{mend}", err=True)


def _show_report(report: BootstrapReport, output: Output) -> None:
    from raftctl.cli.render import emit, line

    if output is not Output.TABLE:
        emit(report, output)
        return
    for change in report.changed:
        line(change)
    done = "is set up" if report.changed else "was set up already, nothing was changed"
    line(f"{report.cluster} {done}; the primary is {report.primary}")
