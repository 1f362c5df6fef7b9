"""`raftctl check`: one line and an exit code for cron and Nagios."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.core

from raftctl.cli.options import CommandLineError, Options, Output, seconds, with_options
from raftctl.errors import RaftctlError, UsageError

if TYPE_CHECKING:
    from raftctl.cli.nagios import Verdict

CHECKS = "quorum, primary, replication, lag, controllers, or all"


def unknown(text: str) -> NoReturn:
    """End as a check that could not be made. On stdout, where the monitoring system reads; exit code 2, which bad usage
    has elsewhere, would be an alarm."""
    from raftctl.cli.nagios import Level, Verdict

    typer.echo(Verdict(Level.UNKNOWN, text).line())
    raise SystemExit(Level.UNKNOWN)


class CheckCommand(typer.core.TyperCommand):
    """`check`, whose command line may be wrong."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        try:
            return super().make_context(*arguments, **more)
        except CommandLineError as error:
            unknown(error.format_message())


@with_options
def check(
    options: Options,
    topic: Annotated[str, typer.Argument(metavar="[TOPIC]", help=f"What to check: {CHECKS}.")] = "all",
    warning: Annotated[
        float,
        typer.Option("--warning", "-w", metavar="DURATION", parser=seconds, help="Lag that is a warning."),
    ] = 10.0,
    critical: Annotated[
        float,
        typer.Option("--critical", "-C", metavar="DURATION", parser=seconds, help="Lag that is critical."),
    ] = 60.0,
) -> None:
    """Check for cron and Nagios: one line, exit code 0 to 3.

    0 is OK, 1 WARNING, 2 CRITICAL (so is a cluster without quorum, or one that does not answer), 3 UNKNOWN: the check
    itself is not set up right. Thresholds are seconds of replication lag.
    """
    from raftctl.cli.nagios import Level, Verdict

    try:
        verdict = _verdict(options, topic, warning, critical)
    except RaftctlError as error:
        verdict = Verdict(Level.UNKNOWN, str(error))
    except Exception as error:  # noqa: BLE001  a bug here is no news of the cluster
        verdict = Verdict(Level.UNKNOWN, f"internal error: {error!r}")
    if options.output is Output.TABLE:
        typer.echo(verdict.line())
    else:
        from raftctl.cli.render import emit

        shown = {"state": verdict.level.name, "text": verdict.text, "perfdata": verdict.perfdata}
        emit(shown, options.output)
    raise typer.Exit(verdict.level)


def _verdict(options: Options, topic: str, warning: float, critical: float) -> Verdict:
    from raftctl.cli.cluster import open_cluster
    from raftctl.cli.nagios import Topic, judge

    if topic not in list(Topic):
        raise UsageError(f"there is nothing to check named {topic}: name one of {CHECKS}")
    if critical < warning:
        raise UsageError(f"--critical ({critical:g} s) must not be below --warning ({warning:g} s)")
    status = open_cluster(options).status(options.timeout)
    return judge(status, Topic(topic), warning=warning, critical=critical)
