"""Programs of the operator: `after_promote` runs on the new primary; `fence` where the leader is, against an old
primary that nothing else reaches (raftctl.controller.outside_fencing).

They only ever hear of what is done and committed, and nothing waits for them: a hook that hangs is ended, one that
fails is a line in the history. Each event is told at most once: a controller that dies in between does not tell it
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from typing import Final

from raftctl.cluster.commands import Record
from raftctl.cluster.state import ClusterState, Phase

logger = logging.getLogger(__name__)

HOOK_SECONDS: Final = 60.0
_END_SECONDS: Final = 5.0  # of a killed process
_OUTPUT_BYTES: Final = 500


class Hooks:
    """`programs` by event; `is_current` says whether the applied state is the present one: what is read from the log at
    a start happened long ago; `record` gets a line of history for each run."""

    def __init__(
        self,
        *,
        me: str,
        programs: Mapping[str, str],
        is_current: Callable[[], bool],
        record: Callable[[Record], None],
        timeout: float = HOOK_SECONDS,
    ) -> None:
        self._me = me
        self._programs = programs
        self._is_current = is_current
        self._record = record
        self._timeout = timeout
        self._running: set[asyncio.Task[None]] = set()

    def state_changed(self, before: ClusterState, after: ClusterState) -> None:
        """For `ClusterLog.listen`: this member has become primary when its promotion is complete."""
        complete = (before.phase, after.phase) == (Phase.PROMOTING, Phase.STEADY)
        program = self._programs.get("after_promote")
        if program and complete and after.primary == self._me and self._is_current():
            task = asyncio.get_running_loop().create_task(self._run("after_promote", program, after))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def program(self, event: str) -> str | None:
        return self._programs.get(event)

    async def run(self, event: str, program: str, state: ClusterState, about: Mapping[str, str]) -> tuple[int, str]:
        """Run it with the event's environment and `about`: its exit status (-1 for none), and how it ended in words."""
        status, outcome = await _outcome(program, _environment(event, state) | dict(about), self._timeout)
        logger.info("hook %s: %s: %s", event, program, outcome)
        return status, outcome

    async def _run(self, event: str, program: str, state: ClusterState) -> None:
        _, outcome = await self.run(event, program, state, {})
        self._record(Record(kind="hook", member=self._me, epoch=state.epoch, why=f"{event}: {outcome}", by=self._me))


def _environment(event: str, state: ClusterState) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "RAFTCTL_EVENT": event,
        "RAFTCTL_CLUSTER": state.cluster,
        "RAFTCTL_EPOCH": str(state.epoch),
        "RAFTCTL_PRIMARY": state.primary,
        "RAFTCTL_PRIMARY_ADDRESS": (state.members[state.primary].mysql or "") if state.primary else "",
        "RAFTCTL_PREVIOUS_PRIMARY": state.previous_primary,
    }


async def _outcome(program: str, environment: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """The program's exit status, -1 when it has none, and how it ended in words."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return -1, f"cannot be run: {error.strerror or error}"
    ended = False
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout)
        ended = True
    except TimeoutError:
        return -1, f"was ended after {timeout:g} s"
    finally:
        if not ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):  # one in a stalled write does not even end when it is killed
                await asyncio.wait_for(process.wait(), _END_SECONDS)
    last = " ".join(output[-_OUTPUT_BYTES:].decode(errors="replace").split())
    status = -1 if process.returncode is None else process.returncode
    return status, f"exit status {status}" + (f": {last}" if status and last else "")
