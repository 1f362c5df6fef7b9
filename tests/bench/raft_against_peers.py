"""raftctl's Raft beside etcd and PySyncObj on this machine: `python -m tests.bench.raft_against_peers --rounds 5`.

Three processes each, one disk, loopback, values of 256 bytes, one client process that speaks to the leader over one TCP
connection. Every round measures all systems one after the other, in turning order, so that what disturbs the machine
disturbs them alike; ratios are medians over rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.bench.clients import Client
from tests.bench.systems import Etcd, Group, Member, PySyncObj, Raftctl, System, Timing

CALM = Timing(heartbeat_ms=100, election_ms=5000)  # no election because of a disk that is busy elsewhere
IDLE = Timing(heartbeat_ms=50, election_ms=500)
HASTY = Timing(heartbeat_ms=20, election_ms=100)
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
GIVE_UP_SECONDS = 20.0
ATTEMPTS = 5


class Measure(NamedTuple):
    key: str
    title: str


MEASURES = (
    Measure("p50_ms", "sequential commit, p50 (ms)"),
    Measure("p99_ms", "sequential commit, p99 (ms)"),
    Measure("per_second", "64 outstanding (commits/s)"),
    Measure("killed_ms", "kill -9 of the leader to the next commit (ms)"),
    Measure("frozen_ms", "SIGSTOP of the leader to the next commit (ms)"),
    Measure("cpu_leader", "idle leader (% of a core)"),
    Measure("cpu_follower", "idle follower (% of a core)"),
    Measure("rss_mb", "bare node, resident (MB)"),
)
Result = dict[str, float]


class Sizes(NamedTuple):
    sequential: int
    outstanding: int
    idle_seconds: float
    kills: int


async def commit(system: System, directory: Path, sizes: Sizes) -> Result:
    group = system.start(directory, CALM)
    try:
        client = await group.connect(await group.leader())
        await client.measure(sizes.sequential // 4, 1)
        latencies = sorted(await client.measure(sizes.sequential, 1))
        await client.measure(sizes.outstanding // 4, 64)
        began = time.perf_counter()
        await client.measure(sizes.outstanding, 64)
        rate = sizes.outstanding / (time.perf_counter() - began)
        client.close()
        return {
            "p50_ms": 1000 * latencies[len(latencies) // 2],
            "p99_ms": 1000 * latencies[len(latencies) * 99 // 100],
            "per_second": rate,
        }
    finally:
        group.kill()


async def idle(system: System, directory: Path, sizes: Sizes) -> Result:
    group = system.start(directory, IDLE)
    try:
        leader = await group.leader()
        await asyncio.sleep(1)
        before = {member.name: member.ticks() for member in group.members}
        began = time.perf_counter()
        await asyncio.sleep(sizes.idle_seconds)
        seconds = time.perf_counter() - began
        share = {m.name: 100 * (m.ticks() - before[m.name]) / TICKS_PER_SECOND / seconds for m in group.members}
        followers = [share[m.name] for m in group.members if m is not leader]
        return {
            "cpu_leader": share[leader.name],
            "cpu_follower": statistics.mean(followers),
            "rss_mb": max(m.rss_mb() for m in group.members),
        }
    finally:
        group.kill()


async def lose_leader(system: System, directory: Path, how: signal.Signals) -> float:
    """Milliseconds from the signal to the first commit that one of the others acknowledges."""
    group = system.start(directory, HASTY)
    try:
        leader = await _steady_leader(group)
        survivors = [member for member in group.members if member is not leader]
        clients = [await group.connect(member) for member in survivors]
        return 1000 * await _outage(group, leader, clients, how)
    finally:
        group.kill()


async def _steady_leader(group: Group) -> Member:
    """One that led for fifty commits: with such timeouts a busy machine has elections of its own accord."""
    async with asyncio.timeout(60):
        while True:
            leader = await group.leader()
            client = await group.connect(leader)
            try:
                await client.measure(50, 1)
            except RuntimeError:
                continue
            finally:
                client.close()
            return leader


async def _outage(group: Group, leader: Member, clients: list[Client], how: signal.Signals) -> float:
    committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tasks = [asyncio.create_task(_try(client, committed)) for client in clients]
    began = time.perf_counter()
    leader.process.send_signal(how)
    for client in clients:
        client.lost = client.lost or False
    try:
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await committed
    except TimeoutError:
        return GIVE_UP_SECONDS
    finally:
        for task in tasks:
            task.cancel()
    return time.perf_counter() - began


async def _try(client: Client, committed: asyncio.Future[None]) -> None:
    """A put after the other, again 1 ms after a refusal, and another one when there is no answer for 10 ms: a system
    that refuses at once is asked again at once, a system that lets requests wait has some waiting."""
    while not committed.done():
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(ok: bool, answered: asyncio.Future[bool] = answered) -> None:
            if not answered.done():
                answered.set_result(ok)
            if ok and not committed.done():
                committed.set_result(None)

        client.put(done)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.010):
                await asyncio.shield(answered)
        await asyncio.sleep(0.001)


async def one_round(system: System, sizes: Sizes) -> Result:
    with tempfile.TemporaryDirectory(prefix="raft-bench-") as name:
        result: Result = {}
        for part in (commit, idle):
            (Path(name) / part.__name__).mkdir()
            result |= await part(system, Path(name) / part.__name__, sizes)
        for key, how in (("killed_ms", signal.SIGKILL), ("frozen_ms", signal.SIGSTOP)):
            outages = []
            for number in range(sizes.kills):
                directory = Path(name) / f"{key}{number}"
                directory.mkdir()
                outages.append(await lose_leader(system, directory, how))
            result[key] = statistics.median(outages)
        return result


async def _patiently(system: System, sizes: Sizes) -> Result:
    """A round; again when the group lost its leader over it, which a machine that is busy with others can do."""
    for _ in range(ATTEMPTS):
        try:
            return await one_round(system, sizes)
        except (OSError, RuntimeError, TimeoutError) as error:
            print(f"{system.name}: {error!r}; this round again", flush=True)
    raise SystemExit(f"{system.name} failed {ATTEMPTS} times in a row")


def table(results: dict[str, list[Result]]) -> str:
    """Markdown: medians, and in brackets raftctl's value as a multiple of the other's."""
    ours, *others = results
    lines = ["| | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for measure in MEASURES:
        cells = [f"{statistics.median(r[measure.key] for r in results[ours]):.4g}"]
        for other in others:
            pairs = zip(results[ours], results[other], strict=True)
            ratio = statistics.median(mine[measure.key] / max(its[measure.key], 1e-9) for mine, its in pairs)
            median = statistics.median(r[measure.key] for r in results[other])
            cells.append(f"{median:.4g} ({ratio:.2f})")
        lines.append(f"| {measure.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.raft_against_peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    parser.add_argument("--json", type=Path, help="write every round's numbers here")
    options = parser.parse_args()
    sizes = Sizes(200, 2000, 2.0, 1) if options.quick else Sizes(1000, 10_000, 5.0, 3)
    with tempfile.TemporaryDirectory(prefix="raft-bench-venv-") as directory:
        systems: list[System] = [Raftctl(), Etcd(), PySyncObj(Path(directory))]
        results: dict[str, list[Result]] = {system.name: [] for system in systems}
        for number in range(options.rounds):
            turn = number % len(systems)
            for system in systems[turn:] + systems[:turn]:
                result = await _patiently(system, sizes)
                results[system.name].append(result)
                print(f"round {number + 1}, {system.name}:", {k: round(v, 2) for k, v in result.items()}, flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"\n{os.cpu_count()} cores, Python {platform.python_version()}, load average {load}, {options.rounds} rounds\n"
    )
    print(table(results))


if __name__ == "__main__":
    asyncio.run(main())
