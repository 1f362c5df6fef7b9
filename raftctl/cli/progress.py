"""What long work is doing, on stderr: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def shown() -> Iterator[Callable[[str, float | None], None]]:
    """Yields `report(what, fraction done or None)`."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from raftctl.cli.render import console

    with console(sys.stderr).status("") as status:
        yield lambda what, done: status.update(what if done is None else f"{what} {done:4.0%}")


def _lines() -> Callable[[str, float | None], None]:
    last = ""

    def report(what: str, done: float | None) -> None:  # noqa: ARG001 (how far is of no use in a log)
        nonlocal last
        if what != last:
            sys.stderr.write(f"{what}\n")  # in one piece: several threads may have something to say
            sys.stderr.flush()
        last = what

    return report


@contextlib.contextmanager
def spinner(text: str) -> Iterator[Callable[[str], object]]:
    """A spinner on stderr while something is under way, on a terminal only. Yields a function that changes its text."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from raftctl.cli.render import console

    with console(sys.stderr).status(text) as status:
        yield status.update
