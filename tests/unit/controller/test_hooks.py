"""Programs that run after a promotion: when, with what, and what becomes of those that misbehave."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftctl.cluster.commands import Record
from raftctl.cluster.state import ClusterState, Phase
from raftctl.controller.hooks import Hooks
from tests.support.planner_builders import a_state

PROMOTING = a_state(primary="db2", epoch=2, previous_primary="db1", phase=Phase.PROMOTING)
STEADY = msgspec.structs.replace(PROMOTING, phase=Phase.STEADY)


def a_program(directory: Path, text: str) -> str:
    program = directory / "hook"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


def told(
    program: str,
    *,
    before: ClusterState = PROMOTING,
    after: ClusterState = STEADY,
    me: str = "db2",
    current: bool = True,
    timeout: float = 30.0,
) -> list[Record]:
    """What the history says once every hook that was started has ended."""
    records: list[Record] = []

    async def tell() -> None:
        hooks = Hooks(
            me=me,
            programs={"after_promote": program},
            is_current=lambda: current,
            record=records.append,
            timeout=timeout,
        )
        hooks.state_changed(before, after)
        await asyncio.gather(*(t for t in asyncio.all_tasks() if t is not asyncio.current_task()))

    asyncio.run(tell())
    return records


def test_it_hears_who_is_primary_now(tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = "$RAFTCTL_EVENT $RAFTCTL_EPOCH $RAFTCTL_PRIMARY $RAFTCTL_PREVIOUS_PRIMARY $RAFTCTL_PRIMARY_ADDRESS"
    (record,) = told(a_program(tmp_path, f'echo "{names}" > {out}'))
    assert out.read_text() == f"after_promote 2 db2 db1 {STEADY.members['db2'].mysql}\n"
    assert (record.kind, record.member, record.epoch) == ("hook", "db2", 2)
    assert record.why == "after_promote: exit status 0"


@pytest.mark.parametrize(
    "case",
    [
        {"me": "db1"},
        {"current": False},
        {"before": STEADY, "after": STEADY},
        {"after": PROMOTING},
    ],
    ids=["another member", "read from the log at a start", "no promotion", "not complete yet"],
)
def test_it_does_not_run(tmp_path: Path, case: dict[str, Any]) -> None:
    assert told(a_program(tmp_path, "exit 0"), **case) == []


def test_a_failure_is_said(tmp_path: Path) -> None:
    (record,) = told(a_program(tmp_path, "echo no such address >&2; exit 3"))
    assert record.why == "after_promote: exit status 3: no such address"


def test_a_missing_program_is_said(tmp_path: Path) -> None:
    (record,) = told(str(tmp_path / "none"))
    assert record.why == "after_promote: cannot be run: No such file or directory"


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    (record,) = told(a_program(tmp_path, "sleep 600 & wait"), timeout=0.2)
    assert record.why == "after_promote: was ended after 0.2 s"
