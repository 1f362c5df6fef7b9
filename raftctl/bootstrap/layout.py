"""Where a controller's files are on its host."""

from __future__ import annotations

from typing import NamedTuple

from raftctl.controller import gate_protocol


class Layout(NamedTuple):
    """`directory` is the host's `raftctl_dir`."""

    directory: str

    @property
    def config(self) -> str:
        return f"{self.directory}/controller.yaml"

    @property
    def secrets(self) -> str:
        return f"{self.directory}/secrets.json"

    @property
    def tls(self) -> str:
        return f"{self.directory}/tls"

    @property
    def authority(self) -> str:
        return f"{self.tls}/ca.crt"

    @property
    def certificate(self) -> str:
        return f"{self.tls}/node.crt"

    @property
    def key(self) -> str:
        return f"{self.tls}/node.key"

    @property
    def state(self) -> str:
        """The controller's own directory: write-ahead log, snapshots, what it must remember."""
        return f"{self.directory}/state"

    @property
    def restart_pending(self) -> str:
        """This file is there from before bootstrap changes what a running controller reads until it was restarted."""
        return f"{self.directory}/restart-pending"

    @property
    def gate_open(self) -> str:
        """While this file is there, mysqld's next start does not wait for the controllers."""
        return f"{self.state}/{gate_protocol.OPEN}"
