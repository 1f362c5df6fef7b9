"""Against a primary that is lost, and whose MySQL does not answer, the operator's program runs: once, where the leader
is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftctl.cluster.commands import Cause, Record
from raftctl.cluster.state import ClusterState, Phase
from raftctl.controller.hooks import Hooks
from raftctl.controller.outside_fencing import OutsideFence
from raftctl.sandbox.network import free_ports
from raftctl.secret import Secret
from tests.support.planner_builders import a_change, a_state

STEADY = a_state()
FAILOVER = msgspec.structs.replace(a_change(Phase.FAILOVER), failover_cause=Cause.HOST_SILENT.value)
DEAD = msgspec.structs.replace(FAILOVER, failover_cause=Cause.MYSQLD_DEAD.value)
EVERYBODY = ("db1", "db3")


def unreachable(state: ClusterState) -> ClusterState:
    """The same with a db1 at whose address nobody listens."""
    lost = msgspec.structs.replace(state.members["db1"], mysql=f"127.0.0.1:{free_ports(1)[0]}", raft="192.0.2.1:8007")
    return msgspec.structs.replace(state, members=state.members | {"db1": lost})


def told(
    program: str,
    *,
    me: str = "db2",
    after: ClusterState = FAILOVER,
    now: ClusterState | None = None,
    leads: bool = True,
    connected: tuple[str, ...] = EVERYBODY,
) -> list[Record]:
    """What the history says once all that was begun has ended."""
    records: list[Record] = []

    async def tell() -> None:
        programs = {"fence": program} if program else {}
        hooks = Hooks(me="db2", programs=programs, is_current=lambda: True, record=records.append)
        fence = OutsideFence(
            me=me,
            login=("raftctl", Secret("pw")),
            hooks=hooks,
            leads=lambda: leads,
            connected=lambda: connected,
            state=lambda: now or after,
            record=records.append,
        )
        fence.state_changed(STEADY, unreachable(after))
        await asyncio.gather(*(t for t in asyncio.all_tasks() if t is not asyncio.current_task()))

    asyncio.run(tell())
    return records


def a_program(directory: Path, text: str) -> str:
    program = directory / "fence"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


def test_the_program_hears_whom_to_fence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = "$RAFTCTL_EVENT $RAFTCTL_FENCE_MEMBER $RAFTCTL_FENCE_ADDRESS $RAFTCTL_EPOCH"
    (record,) = told(a_program(tmp_path, f'echo "{names}" > {out}'))
    assert out.read_text() == f"fence db1 192.0.2.1 {FAILOVER.epoch}\n"
    assert (record.kind, record.member, record.why) == ("fence-from-outside", "db1", "fenced: exit status 0")
    assert "no mysqld listens there" in str(record.detail["mysql"])


def test_a_leader_does_not_have_its_own_host_switched_off(tmp_path: Path) -> None:
    """Its connections are to others: it does not hear itself."""
    assert told(a_program(tmp_path, "true"), me="db1", after=DEAD, connected=("db2", "db3")) == []


def test_who_is_the_primary_again_meanwhile_is_not_switched_off(tmp_path: Path) -> None:
    out = tmp_path / "out"
    again = msgspec.structs.replace(FAILOVER, phase=Phase.PROMOTING, primary="db1")
    (record,) = told(a_program(tmp_path, f"touch {out}"), now=again)
    assert not out.exists()
    assert "hook" not in record.detail


def test_a_program_that_fails_is_said(tmp_path: Path) -> None:
    (record,) = told(a_program(tmp_path, "echo no such outlet; exit 2"))
    assert record.why == "not reached: exit status 2: no such outlet"


def test_without_a_program_the_attempt_is_said_all_the_same() -> None:
    (record,) = told("")
    assert record.why.startswith("not reached: its mysqld: ")


@pytest.mark.parametrize(
    "case", [{"leads": False}, {"after": STEADY}, {"after": DEAD}], ids=["a follower", "no failover", "it is heard"]
)
def test_nothing_is_done(case: dict[str, Any]) -> None:
    assert told("", **case) == []


def test_a_dead_mysqld_whose_controller_is_silent_too_is_fenced() -> None:
    assert len(told("", after=DEAD, connected=("db3",))) == 1
