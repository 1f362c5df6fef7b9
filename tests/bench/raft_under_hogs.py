"""No needless election while other programs want every processor: `python -m tests.bench.raft_under_hogs --minutes 10`.

Three nodes with the timeouts that controllers have by default, at the priority of any program (controllers in service
have a better one), a write now and then, and processes that do nothing but compute.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

from raftctl.controller.config import RaftConfig
from tests.bench.systems import Raftctl, Timing

DEFAULTS = RaftConfig(listen="")
TIMING = Timing(
    heartbeat_ms=round(1000 * DEFAULTS.heartbeat_interval), election_ms=round(1000 * DEFAULTS.election_timeout)
)
ELECTIONS = ("pre-vote-started", "election-started", "stepped-down")


def compute() -> None:
    while True:
        pass


def elections(directory: Path) -> list[str]:
    """What the members' logs say of elections."""
    lines = [line for log in sorted(directory.glob("*/log")) for line in log.read_text().splitlines()]
    return [line for line in lines if line.startswith(ELECTIONS)]


async def watch(directory: Path, *, minutes: float, hogs: int) -> tuple[list[str], list[float]]:
    """The needless elections, and the seconds that each write took."""
    group = Raftctl().start(directory, TIMING)
    others = [multiprocessing.get_context("spawn").Process(target=compute, daemon=True) for _ in range(hogs)]
    try:
        client = await group.connect(await group.leader())
        await client.measure(10, 1)
        before = elections(directory)
        for other in others:
            other.start()
        latencies = []
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            latencies += await client.measure(1, 1)
            await asyncio.sleep(0.1)
        return elections(directory)[len(before) :], latencies
    finally:
        for other in others:
            if other.is_alive():
                other.kill()
                other.join()
        group.kill()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.raft_under_hogs", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--hogs", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raft-hogs-") as name:
        needless, latencies = asyncio.run(watch(Path(name), minutes=options.minutes, hogs=options.hogs))
    ms = sorted(1000 * seconds for seconds in latencies)
    print(
        f"{options.minutes:g} minutes with {options.hogs} hogs, heartbeat {TIMING.heartbeat_ms} ms, election timeout "
        f"{TIMING.election_ms} ms: {len(needless)} needless elections; {len(ms)} writes, "
        f"p50 {ms[len(ms) // 2]:.1f} ms, p99 {ms[len(ms) * 99 // 100]:.1f} ms, slowest {ms[-1]:.0f} ms"
    )
    print("\n".join(needless))
    return 1 if needless else 0


if __name__ == "__main__":
    sys.exit(main())
