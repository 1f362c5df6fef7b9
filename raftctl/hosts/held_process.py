"""A process that is held on to. Standard library only: the guard imports this."""

from __future__ import annotations

import os
import select
import signal

from raftctl.errors import HostError


class HeldProcess:
    """One process, whoever gets its number after it (pidfd_open(2)). Asking about it and killing it needs no service
    manager and no disk, so that it can be done when both stand still.

    Raises OSError when there is none of that number, or the system has no such call."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def has_ended(self) -> bool:
        return self._ends_within(0.0)

    def kill(self, *, timeout: float) -> None:
        """SIGKILL, and wait until it is gone. Raises HostError when it is not in that time, or may not be killed."""
        try:
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return
        except OSError as error:
            raise HostError(f"process {self.pid} cannot be killed: {error.strerror}") from None
        if not self._ends_within(timeout):
            raise HostError(f"process {self.pid} was killed and is still there")

    def _ends_within(self, seconds: float) -> bool:
        end = select.poll()
        end.register(self._descriptor, select.POLLIN)
        return bool(end.poll(seconds * 1000))
