"""Whoever has to be sure that mysqld is fenced, before it gives up its log (rule R10), tries until it is."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from raftctl.cluster.commands import Record
from raftctl.controller.cluster_log import ClusterLog
from raftctl.controller.keeper import Keeper
from raftctl.controller.lease import Lease
from raftctl.errors import HostError
from raftctl.hosts.services import Unit
from raftctl.hosts.supervised import SupervisorServices
from raftctl.mysql.client import Endpoint
from raftctl.secret import Secret


class Stubborn(SupervisorServices):
    """A host on which SIGKILL succeeds at the second attempt."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "no-supervisor")
        self.kills = 0

    def main_pid(self, unit: Unit, *, timeout: float) -> int | None:
        return 1

    def kill(self, unit: Unit, signal_number: int = signal.SIGKILL, *, timeout: float) -> None:
        self.kills += 1
        if self.kills == 1:
            raise HostError("the service manager does not answer")


def test_a_fencing_that_failed_is_tried_again(tmp_path: Path) -> None:
    records: list[Record] = []
    services = Stubborn(tmp_path)
    endpoint = Endpoint(user="raftctl", password=Secret("p"), unix_socket=str(tmp_path / "no-mysqld"))

    async def fence() -> None:
        keeper = Keeper(
            me="db1",
            endpoint=endpoint,
            password_of=lambda _member, _uid: Secret("p"),
            services=services,
            log=ClusterLog(),
            lease=Lease(time.monotonic()),
            members=dict,
            record=records.append,
            on_change=lambda: None,
            directory=tmp_path,
        )
        await keeper.fence_now("excluded by force")

    asyncio.run(fence())
    assert services.kills == 2
    assert [record.kind for record in records] == ["fencing-failed", "fenced"]
