"""How fast the Raft group commits, on this machine: `python -m tests.bench.raft_commit`. Three processes, one
disk, fsync on."""

from __future__ import annotations

import socket
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.raft_cluster import RaftCluster, Unreachable

CLOCK_TICKS_PER_SECOND = 100


def commit_latency(cluster: RaftCluster, *, count: int = 2000) -> str:
    cluster.leader().ask("measure", count=500, outstanding=1, wait=60)
    result = cluster.leader().ask("measure", count=count, outstanding=1, wait=120)["ok"]
    ms = sorted(1000 * seconds for seconds in result["latencies"])
    return f"p50 {ms[len(ms) // 2]:.2f} ms, p99 {ms[len(ms) * 99 // 100]:.2f} ms"


def commit_rate(cluster: RaftCluster, *, count: int = 20_000, outstanding: int = 64) -> str:
    result = cluster.leader().ask("measure", count=count, outstanding=outstanding, wait=120)["ok"]
    return f"{len(result['latencies']) / result['duration']:.0f}/s"


def failover(cluster: RaftCluster) -> float:
    """Seconds from SIGKILL of the leader to the next commit."""
    cluster.propose("before")
    leader = cluster.leader()
    others = [m for m in cluster.members.values() if m is not leader]
    began = time.perf_counter()
    leader.signal(9)
    while True:
        for member in others:
            try:
                if "ok" in member.ask("propose", data="after", timeout=1.0):
                    took = time.perf_counter() - began
                    leader.kill()
                    leader.start()
                    cluster.check_nothing_lost()
                    cluster.wait_connected()
                    return took
            except Unreachable:
                pass


def idle_cpu(cluster: RaftCluster, *, seconds: float = 10.0) -> dict[str, str]:
    """Share of one core that each process takes while nothing happens."""

    def ticks(name: str) -> int:
        process = cluster[name].process
        assert process is not None
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    leader = cluster.leader().name
    before = {name: ticks(name) for name in cluster.members}
    time.sleep(seconds)
    return {
        ("leader" if name == leader else f"follower {name}"): (
            f"{100 * (ticks(name) - before[name]) / CLOCK_TICKS_PER_SECOND / seconds:.1f} %"
        )
        for name in cluster.members
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        cluster = RaftCluster(Path(directory), election_timeout=1.0, heartbeat_interval=0.1)
        cluster.start()
        try:
            cluster.wait_connected()
            print("idle CPU:", idle_cpu(cluster))
            for _ in range(3):
                print("sequential:", commit_latency(cluster), "; 64 outstanding:", commit_rate(cluster))
        finally:
            cluster.kill()
    with tempfile.TemporaryDirectory() as directory:
        cluster = RaftCluster(Path(directory), election_timeout=0.1, heartbeat_interval=0.02)
        cluster.start()
        try:
            cluster.wait_connected()
            times = [1000 * failover(cluster) for _ in range(10)]
            print("leader killed:", f"median {statistics.median(times):.0f} ms", [round(t) for t in times])
        finally:
            cluster.kill()


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    main()
