"""What a forced membership does with a stopped controller's log: each incarnation has one, and the old ones stay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftctl.cluster.apply import apply
from raftctl.cluster.codec import pack, unpack
from raftctl.cluster.commands import AnyCommand, ForceMembers
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import ClusterState, Member, MemberRole
from raftctl.consensus.membership import Membership
from raftctl.consensus.types import Entry, EntryKind, HardState
from raftctl.controller import config as c
from raftctl.controller import incarnation
from raftctl.controller.forced import LogEnd, begin_anew, go_on_alone, log_end, logged_state
from raftctl.errors import CorruptLogError, HostError
from raftctl.raftnode.wal import LogInUseError, Wal
from tests.support.planner_builders import an_init

IDENTITY = {"cluster_id": "c1", "node_id": "db1"}
INIT = an_init()
COMMAND = ForceMembers(
    incarnation=2, survivors=("db1",), learners=("db2", "db3"), target="db1", certificate=GTIDSet(), at_ms=1, by="dba"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A controller's own directory with a log of two entries; its configuration is beside it."""
    state = tmp_path / "state"
    wal, _ = Wal.open(state / "raft", **IDENTITY)
    wal.append(HardState(3, "db2"), [Entry(1, 2, EntryKind.COMMAND, pack(INIT)), Entry(2, 3, EntryKind.NOOP, b"")])
    wal.close()
    settings = c.ControllerConfig(
        cluster="orders",
        cluster_id="c1",
        node="db1",
        directory=str(state),
        secrets_file="",
        raft=c.RaftConfig(listen="127.0.0.1:1"),
        api=c.ApiConfig(listen="127.0.0.1:2", cert="", key="", ca=""),
        peers={"db1": Member(name="db1", role=MemberRole.DATA, raft="127.0.0.1:1", api="127.0.0.1:2")},
        services=c.ServicesConfig(kind="systemd"),
    )
    (tmp_path / "controller.yaml").write_bytes(c.dump(settings))
    return state


@pytest.fixture
def config(directory: Path) -> Path:
    return directory.parent / "controller.yaml"


def entries(directory: Path) -> tuple[Entry, ...]:
    wal, recovered = Wal.open(directory, **IDENTITY)
    wal.close()
    return tuple(recovered.entries)


def test_a_copy_of_the_log_goes_on_with_one_voter_and_the_decision(directory: Path, config: Path) -> None:
    before = (directory / "raft" / "raft.wal").read_bytes()
    assert log_end(config) == LogEnd(1, 3, 2)
    assert go_on_alone(config, COMMAND) == LogEnd(2, 4, 4)
    assert incarnation.current(directory) == 2
    first, second, membership, decision = entries(directory / "raft-2")
    assert (first.data, second.data) == (pack(INIT), b"")
    assert Membership.decode(membership.data) == Membership(("db1",), ("db2", "db3"))
    assert unpack(decision.data, AnyCommand) == COMMAND
    assert (directory / "raft" / "raft.wal").read_bytes() == before, "the old log is kept"


def test_repeating_it_changes_nothing(directory: Path, config: Path) -> None:
    assert go_on_alone(config, COMMAND) == go_on_alone(config, COMMAND)
    assert len(entries(directory / "raft-2")) == 4


def test_what_an_interrupted_attempt_left_is_not_believed(directory: Path, config: Path) -> None:
    """It broke off before the incarnation was adopted, so nobody ever ran with that log."""
    wal, _ = Wal.open(directory / "raft-2", **IDENTITY)
    wal.append(HardState(9, "db9"), [Entry(1, 9, EntryKind.COMMAND, b"stray")])
    wal.close()
    (directory / ".raft-2.draft").mkdir()
    assert go_on_alone(config, COMMAND) == LogEnd(2, 4, 4)


def test_the_whole_log_counts_also_while_its_controller_runs(directory: Path, config: Path) -> None:
    init = INIT
    shutil.rmtree(directory / "raft")
    wal, _ = Wal.open(directory / "raft", **IDENTITY)  # as the controller holds it
    wal.append(HardState(1, "db1"), [Entry(1, 1, EntryKind.COMMAND, pack(init))])
    try:
        assert logged_state(config) == apply(ClusterState(), init, 1)[0]
    finally:
        wal.close()
    assert [path.name for path in directory.iterdir()] == ["raft"]


def test_a_newcomer_has_an_empty_log(directory: Path, config: Path) -> None:
    begin_anew(config, 2, "a")
    assert (incarnation.current(directory), log_end(config)) == (2, LogEnd(2, 0, 0, "a"))
    assert entries(directory / "raft"), "the old log is kept"
    begin_anew(config, 2, "a")


def test_who_has_gone_further_does_not_go_back(directory: Path, config: Path) -> None:
    begin_anew(config, 3, "a")
    begin_anew(config, 2, "a")
    assert go_on_alone(config, COMMAND) == LogEnd(3, 0, 0, "a")


def test_a_running_controller_is_left_alone(directory: Path, config: Path) -> None:
    wal, _ = Wal.open(directory / "raft", **IDENTITY)
    for step in (lambda: log_end(config), lambda: go_on_alone(config, COMMAND)):
        with pytest.raises(LogInUseError):
            step()
    assert incarnation.current(directory) == 1
    wal.close()


def test_only_a_survivor_goes_on(directory: Path, config: Path) -> None:
    with pytest.raises(HostError, match="db1 is not among the survivors"):
        go_on_alone(config, msgspec.structs.replace(COMMAND, survivors=("db2",)))
    assert incarnation.current(directory) == 1


@pytest.mark.parametrize("change", [{"survivors": ("db1", "db9")}, {"target": "w1", "survivors": ("db1", "w1")}])
def test_no_incarnation_begins_without_its_decision(directory: Path, config: Path, change: dict[str, Any]) -> None:
    """The log would reject it, and the one voter would go on as if nothing had been decided."""
    with pytest.raises(HostError, match="does not allow the forced membership"):
        go_on_alone(config, msgspec.structs.replace(COMMAND, **change))
    assert incarnation.current(directory) == 1
    assert sorted(path.name for path in directory.iterdir()) == ["raft"]


def test_a_damaged_incarnation_is_not_guessed(directory: Path) -> None:
    (directory / "incarnation.json").write_text("{")
    with pytest.raises(CorruptLogError, match=r"incarnation\.json"):
        incarnation.current(directory)
