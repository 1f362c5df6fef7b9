"""One sandbox host: a directory, a supervisor in it, and the supervisor's units. Power on, power off, freeze, thaw."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import raftctl.sandbox.supervisor
from raftctl.bootstrap.layout import Layout as HostLayout
from raftctl.errors import HostError
from raftctl.hosts.services import Unit
from raftctl.hosts.supervised import SupervisorServices
from raftctl.sandbox.processes import freeze_host, is_stopped, kill_host, mark, pids_of, thaw_host, wait_stopped

_POLL_S = 0.01
SOCKET_PATH_BYTES_MAX = 107  # sun_path of unix(7), less the final zero byte


class SandboxHost:
    """`directory` holds everything of the host; `namespace` is the network namespace it runs in, "" for none."""

    def __init__(self, directory: Path, *, namespace: str = "") -> None:
        self.directory = directory.resolve()
        self.name = directory.name
        self.socket = self.directory / "run" / "supervisor.sock"
        self.services = SupervisorServices(self.socket)
        self._namespace = namespace
        self._config = self.directory / "supervisor.json"
        self._log = self.directory / "log" / "supervisor.log"

    def configure(self, units: Mapping[str, Mapping[str, Any]]) -> None:
        """Write what the supervisor runs: see `raftctl.sandbox.supervisor.Unit`. Read at the next `power_on`."""
        for path in (self.socket.parent, self._log.parent):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with_logs = {name: {"log": str(self.log_of(name))} | dict(spec) for name, spec in units.items()}
        lock = self.socket.with_name("supervisor.lock")
        self._config.write_text(
            json.dumps({"socket": str(self.socket), "lock": str(lock), "units": with_logs}, indent=1)
        )

    def units(self) -> list[str]:
        """Names of the units that were configured."""
        return list(json.loads(self._config.read_text())["units"])

    def configured_units(self, *, timeout: float) -> list[Unit]:
        """Those of them that may be started: what they wait for is there."""
        present = [unit for unit in Unit if unit.value in self.units()]
        return [unit for unit in present if self.services.is_configured(unit, timeout=timeout)]

    def open_gate(self) -> None:
        """mysqld's next start does not wait for the controllers."""
        Path(HostLayout(str(self.directory)).gate_open).touch()

    def wait_stopped(self, pid: int, *, timeout: float) -> None:
        """Until a process that was sent SIGSTOP has stopped. Raises HostError."""
        wait_stopped(pid, timeout=timeout)

    def log_of(self, unit: str) -> Path:
        """Where standard output and error of a unit go."""
        return self._log.with_name(f"{unit}.log")

    def is_on(self) -> bool:
        """Whether the supervisor accepts connections (it does while it is frozen, too)."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket))
            except TimeoutError:  # frozen, and many wait for it
                return True
            except OSError:
                return False
            return True

    def is_frozen(self) -> bool:
        """Whether the supervisor is stopped by a signal."""
        pids = self.pids()
        return bool(pids) and is_stopped(pids[0])

    def power_on(self, *, timeout: float) -> None:
        """Start the supervisor, which starts the units. The host must be off, with nothing left of an earlier life.

        Raises:
            HostError: the supervisor does not come up within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        enter = ["nsenter", f"--net=/run/netns/{self._namespace}"] if self._namespace else []
        # isolated and without site-packages: it needs the standard library only, and stays small
        python = [sys.executable, "-I", "-S", raftctl.sandbox.supervisor.__file__, str(self._config)]
        with self._log.open("ab") as log:
            # setsid forks, so that the supervisor is no child of this process and outlives it
            subprocess.run(
                ["setsid", "--fork", *enter, *python],
                env=os.environ | mark(self.directory),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=timeout,
                check=True,
            )
        while not self.is_on():
            if time.monotonic() > deadline:
                last = self._log.read_text(errors="replace").splitlines()[-1:]
                raise HostError(
                    f"host {self.name} does not start: {''.join(last) or 'no output'}", hint=f"see {self._log}"
                )
            time.sleep(_POLL_S)

    def power_off(self, *, timeout: float) -> None:
        """SIGKILL everything on the host at once. Nothing survives, nothing is restarted."""
        kill_host(self.directory, timeout=timeout)

    def freeze(self, *, timeout: float) -> None:
        """SIGSTOP everything on the host, the supervisor included."""
        freeze_host(self.directory, timeout=timeout)

    def thaw(self) -> None:
        """SIGCONT everything on the host."""
        thaw_host(self.directory)

    def pids(self) -> list[int]:
        """The host's processes, the supervisor first."""
        return pids_of(self.directory)
