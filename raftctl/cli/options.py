"""The options that every command takes, before or after its name: `raftctl -c orders status -o json`.

A command is a function whose first parameter is an `Options`; `with_options` gives it the common flags:

    @app.command("status")
    @with_options
    def status(options: Options, watch: bool = False) -> None: ...

Only typer is imported here: `raftctl --version` and `--help` must stay fast.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

CommandLineError: Any = typer.BadParameter.__base__  # click's UsageError; typer has had click in different places


class Output(enum.StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class Via(enum.StrEnum):
    """How members are asked: their controllers' API, their mysqld itself, or both through SSH tunnels."""

    AUTO = "auto"  # the API, and MySQL directly where that does not answer
    API = "api"
    DIRECT = "direct"
    SSH = "ssh"


@dataclasses.dataclass(frozen=True)
class Options:
    """The common options, as given. None means "not given": each command has its own default timeout (seconds)."""

    inventory: Path | None = None
    cluster: str | None = None
    output: Output = Output.TABLE
    timeout: float | None = None
    via: Via = Via.AUTO
    verbose: bool = False


def seconds(text: str | float) -> float:
    """Read `5`, `500ms`, `5s`, `2m` or `1h` as seconds. Raises typer.BadParameter."""
    from raftctl.inventory.fields import parse_duration

    written = str(text).strip()
    try:
        value = parse_duration(written if written[-1:].isalpha() else written + "s")
    except ValueError:
        value = 0.0
    if value <= 0:
        raise typer.BadParameter(f"{text!r} is not a duration above zero: write 5s, 500ms or 2m")
    return value


_PANEL = "Common options"

_COMMON: dict[str, Any] = {
    "inventory": Annotated[
        Path | None,
        typer.Option("--inventory", "-i", metavar="FILE", help="Inventory file.", rich_help_panel=_PANEL),
    ],
    "cluster": Annotated[
        str | None,
        typer.Option(
            "--cluster", "-c", metavar="NAME", help="Cluster, when there are several.", rich_help_panel=_PANEL
        ),
    ],
    "output": Annotated[
        Output | None,
        typer.Option("--output", "-o", help="Form of the output [default: table].", rich_help_panel=_PANEL),
    ],
    "timeout": Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="DURATION",
            parser=seconds,
            help="The longest this may take: 5s, 500ms, 2m.",
            rich_help_panel=_PANEL,
        ),
    ],
    "via": Annotated[
        Via | None,
        typer.Option("--via", help="How to reach the members [default: auto].", rich_help_panel=_PANEL),
    ],
    "verbose": Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Say more; tracebacks of errors.", rich_help_panel=_PANEL),
    ],
}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command`, whose first parameter is an Options, the common flags."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(ctx: typer.Context, **given: Any) -> None:
        options = merge(ctx.obj, **{name: given.pop(name) for name in _COMMON})
        ctx.obj = options
        command(options, **given)

    return _present(run, command, own)


def root_options(callback: Callable[..., None]) -> Callable[..., None]:
    """Give the application's callback the common flags, so that they may also stand before the command."""
    own = list(inspect.signature(callback, eval_str=True).parameters.values())

    def run(ctx: typer.Context, **given: Any) -> None:
        ctx.obj = merge(None, **{name: given.pop(name) for name in _COMMON})
        callback(**given)

    return _present(run, callback, own)


def merge(before: Options | None, **after: Any) -> Options:
    """What stands after the command wins over what stands before it."""
    return dataclasses.replace(before or Options(), **{name: value for name, value in after.items() if value})


def _present(
    run: Callable[..., None], command: Callable[..., None], own: list[inspect.Parameter]
) -> Callable[..., None]:
    """Make `run` look to typer like `command` with the common parameters in place of its first one."""
    common = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if name == "verbose" else None,
            annotation=annotation,
        )
        for name, annotation in _COMMON.items()
    ]
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *common]
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
