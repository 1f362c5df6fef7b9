"""What a forced change of membership does on a survivor's host while its controller is stopped (rule R10).

`raftctl force-members` runs these there. Each step can be repeated; the incarnation's file is the last thing written
and makes the rest valid.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from raftctl.cluster.apply import apply
from raftctl.cluster.codec import pack, unpack
from raftctl.cluster.commands import AnyCommand, ForceMembers
from raftctl.cluster.state import ClusterState
from raftctl.consensus.types import EntryKind
from raftctl.controller import config, incarnation
from raftctl.durable_file import sync_directory
from raftctl.errors import HostError
from raftctl.raftnode import forced_membership
from raftctl.raftnode.wal import Wal
from raftctl.raftnode.wal_records import Recovered


class LogEnd(msgspec.Struct, frozen=True):
    """Where a stopped controller's log ends: compared in the order of the fields but for the `branch`."""

    incarnation: int
    last_term: int
    last_index: int
    branch: str = ""


def log_end(config_path: Path) -> LogEnd:
    """Raises UsageError, LogInUseError while the controller runs, CorruptLogError, HostError."""
    settings = config.load(config_path)
    directory = Path(settings.directory)
    try:
        now = incarnation.read(directory)
        log = incarnation.log_directory(directory, now.incarnation)
        end = forced_membership.position(log, cluster_id=settings.cluster_id, node_id=settings.node)
    except OSError as error:
        raise HostError(f"cannot read the log in {directory}: {error.strerror or error}") from None
    return LogEnd(now.incarnation, end.last_term, end.last_index, now.branch)


def logged_state(config_path: Path) -> ClusterState:
    """What this host's log says when all of it counts, as it will for the survivor that goes on with it: a controller
    that started after the majority was lost cannot know how far it was committed. The controller may run: a copy is
    read. Raises UsageError, CorruptLogError, HostError."""
    settings = config.load(config_path)
    directory = Path(settings.directory)
    try:
        log = incarnation.log_directory(directory, incarnation.current(directory))
        with tempfile.TemporaryDirectory(dir=directory, prefix=".log-") as copy:
            shutil.copytree(log, copy, dirs_exist_ok=True)
            wal, recovered = Wal.open(Path(copy), cluster_id=settings.cluster_id, node_id=settings.node)
            wal.close()
    except (OSError, shutil.Error) as error:
        raise HostError(f"cannot read the log in {directory}: {error}") from None
    return _state_of(recovered)


def _state_of(recovered: Recovered) -> ClusterState:
    state = unpack(recovered.snapshot.data, ClusterState) if recovered.snapshot else ClusterState()
    for entry in recovered.entries:
        if entry.kind is EntryKind.COMMAND:
            state, _ = apply(state, unpack(entry.data, AnyCommand), entry.index)
    return state


def go_on_alone(config_path: Path, command: ForceMembers) -> LogEnd:
    """Begin the command's incarnation with a copy of this host's log, in which it is the only voter and `command` comes
    last. Raises as `log_end`."""
    settings = config.load(config_path)
    directory = Path(settings.directory)
    if settings.node not in command.survivors:
        raise HostError(f"{settings.node} is not among the survivors {', '.join(command.survivors)}")
    try:
        before = incarnation.current(directory)
        if before < command.incarnation:
            _branch(directory, settings, before, command)
            incarnation.adopt(directory, command.incarnation, command.branch)
    except OSError as error:
        raise HostError(f"cannot write below {directory}: {error.strerror or error}") from None
    return log_end(config_path)


def _branch(directory: Path, settings: config.ControllerConfig, before: int, command: ForceMembers) -> None:
    identity = {"cluster_id": settings.cluster_id, "node_id": settings.node}
    old, new = (incarnation.log_directory(directory, number) for number in (before, command.incarnation))
    draft = new.with_name(f".{new.name}.draft")
    for leftover in (draft, new):  # of an attempt that did not come to adopt it
        shutil.rmtree(leftover, ignore_errors=True)
    wal, recovered = Wal.open(old, **identity)  # locks it: no controller runs
    try:
        _require_effect(_state_of(recovered), command)
        shutil.copytree(old, draft)
    finally:
        wal.close()
    forced_membership.make_sole_voter(draft, **identity, learners=command.learners, command=pack(command))
    sync_directory(draft)
    draft.rename(new)
    sync_directory(directory)


def _require_effect(state: ClusterState, command: ForceMembers) -> None:
    """A new incarnation without a decision in it could not be left again. Raises HostError."""
    _, outcome = apply(state, command, 0)
    if outcome.rejection is not None:
        raise HostError(
            f"this host's log does not allow the forced membership: {outcome.rejection.value}",
            hint="nothing was changed: run `raftctl force-members` again, with `--dry-run` first",
        )


def begin_anew(config_path: Path, number: int, branch: str) -> None:
    """Belong to a branch of incarnation `number` with an empty log: this host joins as a newcomer. Raises UsageError,
    HostError."""
    directory = Path(config.load(config_path).directory)
    try:
        if incarnation.current(directory) < number:
            shutil.rmtree(incarnation.log_directory(directory, number), ignore_errors=True)
            incarnation.adopt(directory, number, branch)
    except OSError as error:
        raise HostError(f"cannot write below {directory}: {error.strerror or error}") from None
