"""A real process with one RaftNode: `python -m tests.support.raft_process CONFIG.json`.

Its state machine is the list of the commands that were applied. It answers JSON lines on a unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from raftctl.consensus.types import Config, Entry, Event, NotLeader
from raftctl.errors import RaftctlError
from raftctl.raftnode.events import NodeEvent
from raftctl.raftnode.raft_node import ProposalLost, RaftNode
from raftctl.raftnode.transport import Address
from raftctl.raftnode.wire import ClusterKey


class Process:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.applied: list[str] = []
        self.settings = settings
        peers = {name: Address(host, port) for name, (host, port) in settings["peers"].items()}
        self.node = RaftNode(
            config=Config(
                node_id=settings["node"],
                voters=tuple(peers),
                election_timeout=settings["election_timeout"],
                heartbeat_interval=settings["heartbeat_interval"],
            ),
            cluster_id="test",
            incarnation=settings.get("incarnation", 1),
            key=ClusterKey(settings["key"].encode()),
            directory=Path(settings["directory"]),
            listen=peers[settings["node"]],
            peers=peers,
            apply=self.apply,
            take_snapshot=lambda: json.dumps(self.applied).encode(),
            load_snapshot=self.load_snapshot,
            compact_after_bytes=settings["compact_after_bytes"],
            on_event=self.log,
        )

    def apply(self, entry: Entry) -> int:
        self.applied.append(entry.data.decode())
        return len(self.applied)

    def load_snapshot(self, data: bytes) -> None:
        self.applied = json.loads(data)

    def log(self, event: Event | NodeEvent) -> None:
        print(event.kind, event.detail, flush=True)

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        node, timeout = self.node, request.get("timeout", 5.0)
        try:
            match request["op"]:
                case "propose":
                    return {"ok": await node.propose(request["data"].encode(), timeout)}
                case "read":
                    await node.read_index(timeout)
                    return {"ok": self.applied}
                case "peek":
                    return {"ok": self.applied}
                case "measure":
                    return {"ok": await self.measure(request["count"], request["outstanding"])}
                case "transfer":
                    return {"ok": await node.transfer(request["to"], timeout)}
                case "status":
                    status = node.status()
                    return {"ok": {name: getattr(status, name) for name in status.__struct_fields__}}
        except NotLeader as error:
            return {"error": "not-leader", "leader": error.leader_hint}
        except ProposalLost:
            return {"error": "lost"}
        except TimeoutError:
            return {"error": "timeout"}
        raise ValueError(request)

    async def measure(self, count: int, outstanding: int) -> dict[str, Any]:
        """Latencies (seconds) and duration of `count` proposals of 256 bytes, `outstanding` at a time."""
        latencies: list[float] = []
        data = b"x" * 256

        async def worker() -> None:
            for _ in range(count // outstanding):
                began = time.perf_counter()
                await self.node.propose(data, 10.0)
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(outstanding)))
        return {"latencies": latencies, "duration": time.perf_counter() - began}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(json.dumps(await self.answer(json.loads(line))).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def run(self) -> None:
        await self.node.start()
        server = await asyncio.start_unix_server(self.serve, self.settings["socket"], limit=1 << 24)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(Process(json.loads(Path(sys.argv[1]).read_text())).run())
    except RaftctlError as error:
        sys.exit(f"{type(error).__name__}: {error}")
