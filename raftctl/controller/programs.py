"""What systemd starts on every host, by name. Each takes the path of the controller's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final


def _run(config: Path) -> None:
    from raftctl.controller.main import run

    run(config)


def _guard(config: Path) -> None:
    from raftctl.controller.guard_start import become_guard

    become_guard(config)


def _gate(config: Path) -> None:
    from raftctl.controller.gate import run

    run(config)


PROGRAMS: Final[Mapping[str, Callable[[Path], None]]] = {"run": _run, "guard": _guard, "gate": _gate}
