"""A benchmarked node of PySyncObj: `python -m tests.bench.node_pysyncobj CONFIG.json`, with the interpreter of a
virtual environment that has it. Its journal is on, and never synced: it has no setting for that."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated  # type: ignore[import-not-found]

from tests.bench.front_end import Answer, serve


class Counter(SyncObj):  # type: ignore[misc]
    def __init__(self, settings: dict[str, Any]) -> None:
        peers = {name: f"127.0.0.1:{port}" for name, port in settings["peer_ports"].items()}
        mine = peers.pop(settings["name"])
        election = settings["election_ms"] / 1000
        super().__init__(
            mine,
            list(peers.values()),
            SyncObjConf(
                appendEntriesPeriod=settings["heartbeat_ms"] / 1000,
                raftMinTimeout=election,
                raftMaxTimeout=2 * election,
                leaderFallbackTimeout=2 * election,
                connectionTimeout=max(3.5, 2 * election),  # it insists on no less than raftMaxTimeout
                appendEntriesUseBatch=False,  # with it, an entry waits for the next heartbeat
                journalFile=str(Path(settings["directory"]) / "journal"),
                commandsWaitLeader=False,
                dynamicMembershipChange=False,
            ),
        )
        self._count = 0

    @replicated  # type: ignore[untyped-decorator]
    def put(self, value: str) -> int:
        self._count += 1
        return self._count


async def main(settings: dict[str, Any]) -> None:
    node = Counter(settings)
    loop = asyncio.get_running_loop()

    def propose(value: bytes, answer: Answer) -> None:
        def done(_result: object, error: int) -> None:  # on PySyncObj's own thread
            loop.call_soon_threadsafe(answer, error == FAIL_REASON.SUCCESS)

        node.put(value.decode(), callback=done)

    def is_leader() -> bool:
        status = node.getStatus()
        return (
            status["leader"] == status["self"] and status["partner_nodes_count"] == status["readonly_nodes_count"] + 2
        )

    await serve(settings["client_port"], propose, is_leader)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
