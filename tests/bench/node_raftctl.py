"""A benchmarked node of raftctl's own Raft: `python -m tests.bench.node_raftctl CONFIG.json`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from raftctl.consensus.types import Config, Entry, NotLeader, Role
from raftctl.raftnode.raft_node import RaftNode
from raftctl.raftnode.transport import Address
from raftctl.raftnode.wire import ClusterKey
from tests.bench.front_end import Answer, serve


class Node:
    def __init__(self, settings: dict[str, Any]) -> None:
        peers = {name: Address("127.0.0.1", port) for name, port in settings["peer_ports"].items()}
        self.applied = 0
        self.raft = RaftNode(
            config=Config(
                node_id=settings["name"],
                voters=tuple(peers),
                election_timeout=settings["election_ms"] / 1000,
                heartbeat_interval=settings["heartbeat_ms"] / 1000,
            ),
            cluster_id="bench",
            incarnation=1,
            key=ClusterKey(b"0123456789abcdef"),
            directory=Path(settings["directory"]) / "raft",
            listen=peers[settings["name"]],
            peers=peers,
            apply=self.apply,
            on_event=lambda event: print(event.kind, event.detail, flush=True),
        )

    def apply(self, _entry: Entry) -> int:
        self.applied += 1
        return self.applied

    def propose(self, value: bytes, answer: Answer) -> None:
        def done(future: asyncio.Future[int]) -> None:
            if error := future.exception():
                print(type(error).__name__, error, flush=True)
            answer(error is None)

        try:
            self.raft.propose(value, 10.0).add_done_callback(done)
        except NotLeader as error:
            print(type(error).__name__, error, flush=True)
            answer(False)

    def is_leader(self) -> bool:
        status = self.raft.status()
        return status.role is Role.LEADER and len(status.connected) == len(status.voters) - 1


async def main(settings: dict[str, Any]) -> None:
    node = Node(settings)
    await node.raft.start()
    await serve(settings["client_port"], node.propose, node.is_leader)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
