"""Writers that never stop, and processes that are killed and stopped at random: acknowledged proposals lost,
0.

Each value is proposed once and never again after an unclear outcome, so it must be in the log at most once;
what a writer was told is checked against what every member has applied in the end. RAFTCTL_TORTURE_SECONDS
makes it longer.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.raft_cluster import RaftCluster, RaftMember
from tests.support.raft_writer import Writer

ClusterFactory = Callable[..., RaftCluster]
SECONDS = float(os.environ.get("RAFTCTL_TORTURE_SECONDS", "15"))


def disturb(cluster: RaftCluster, rng: random.Random) -> None:
    """Once: kill or stop one member, or kill all of them, and bring back what was hit."""
    everyone = list(cluster.members.values())
    victims: list[RaftMember] = rng.choice([[rng.choice(everyone)], [rng.choice(everyone)], everyone])
    if rng.random() < 0.7:
        for member in victims:
            member.signal(signal.SIGKILL)
        for member in victims:
            member.kill()
        time.sleep(rng.uniform(0, 0.5))
        for member in victims:
            member.start()
    else:
        for member in victims:
            member.signal(signal.SIGSTOP)
        time.sleep(rng.uniform(0, 1.0))
        for member in victims:
            member.signal(signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("compact_after_bytes", [1 << 30, 4000], ids=["whole log", "with compaction"])
def test_nothing_acknowledged_is_lost(raft_cluster: ClusterFactory, compact_after_bytes: int) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    cluster = raft_cluster(compact_after_bytes=compact_after_bytes)
    cluster.propose("before")
    writers = [Writer(cluster, f"w{n}", random.Random(seed + n)) for n in range(4)]
    for writer in writers:
        writer.start()
    try:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            disturb(cluster, rng)
            cluster.propose(f"after a disturbance at {deadline - time.monotonic()}")
            time.sleep(rng.uniform(0, 0.5))
    finally:
        for writer in writers:
            writer.ended.set()
        for writer in writers:
            writer.join(30)
    for writer in writers:
        cluster.acknowledged += writer.acknowledged
    print("acknowledged", len(cluster.acknowledged))
    cluster.check_nothing_lost()
    applied = Counter(cluster.applied("n1"))
    twice = [value for value, count in applied.items() if count > 1 and value.startswith("w")]
    assert not twice, "proposed once, applied more than once"
    ghosts = [value for writer in writers for value in writer.denied if value in applied]
    assert not ghosts, "reported as lost, but applied"
    for writer in writers:
        told = set(writer.acknowledged)
        order = [value for value in applied if value in told]
        assert order == writer.acknowledged, "applied in the order of acknowledgement"
