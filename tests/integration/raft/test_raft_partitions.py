"""Raft over a network that loses packets without a word: partitions of real TCP connections between
namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.sandbox.network import NamespaceNetwork, cuts, free_subnet
from tests.support.raft_cluster import RaftCluster, RaftMember
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
NAMES = ("n1", "n2", "n3")


@pytest.fixture
def network() -> Iterator[NamespaceNetwork]:
    number = os.getpid() % 10_000
    network = NamespaceNetwork(f"t{number}", free_subnet(number), NAMES)
    try:
        network.ensure()
        yield network
    finally:
        network.remove()


@pytest.fixture
def cluster(network: NamespaceNetwork, tmp_path: Path) -> Iterator[RaftCluster]:
    # Long enough that no busy machine causes an election that the tests did not ask for.
    cluster = RaftCluster(tmp_path, network=network, election_timeout=1.5, heartbeat_interval=0.1)
    cluster.start()
    try:
        cluster.wait_connected()
        cluster.propose("before")
        yield cluster
    finally:
        cluster.kill()


def others(cluster: RaftCluster, member: RaftMember) -> list[RaftMember]:
    return [m for m in cluster.members.values() if m is not member]


def role(member: RaftMember) -> str:
    status = member.status()
    return status["role"] if status else ""


def propose_on(members: list[RaftMember], data: str, cluster: RaftCluster) -> None:
    """Acknowledged by one of `members`, whoever else believes to lead."""

    def attempt() -> bool:
        return any("ok" in m.ask("propose", data=data, timeout=2.0) for m in members)

    wait_until(attempt, what=f"acknowledgement of {data}")
    cluster.acknowledged.append(data)


@pytest.mark.parametrize("direction", ["both ways", "leader is not heard", "leader hears nothing"])
def test_a_leader_that_is_cut_off_steps_down_and_the_others_go_on(
    network: NamespaceNetwork, cluster: RaftCluster, direction: str
) -> None:
    old = cluster.leader()
    rest = others(cluster, old)
    outgoing = {(old.name, m.name) for m in rest}
    incoming = {(m.name, old.name) for m in rest}
    network.drop(
        {"both ways": outgoing | incoming, "leader is not heard": outgoing, "leader hears nothing": incoming}[direction]
    )
    propose_on(rest, "by the majority", cluster)
    wait_until(lambda: role(old) != "leader", what="the old leader to step down")
    assert old.ask("propose", data="stale", timeout=0.5)["error"] == "not-leader"
    network.heal()
    cluster.wait_connected()
    cluster.propose("after")
    cluster.check_nothing_lost()
    assert "stale" not in cluster.applied(old.name)


def test_a_follower_that_returns_does_not_disturb_the_leader(network: NamespaceNetwork, cluster: RaftCluster) -> None:
    """Pre-vote (thesis 9.6): its own attempts to be elected did not raise its term."""
    leader = cluster.leader()
    follower = others(cluster, leader)[0]
    network.drop(cuts(NAMES, [[follower.name]], one_way=False))
    wait_until(lambda: role(follower) == "pre-candidate", what="the follower to miss its leader")
    for n in range(20):
        cluster.propose(str(n))
    before = leader.status()
    network.heal()
    cluster.wait_connected()
    cluster.propose("after")
    cluster.check_nothing_lost()
    after = leader.status()
    assert before is not None
    assert after is not None
    assert (after["role"], after["term"]) == ("leader", before["term"])


def test_a_bridge_keeps_the_cluster_alive(network: NamespaceNetwork, cluster: RaftCluster) -> None:
    """The leader and one follower lose each other; the third member reaches both. Somebody leads, and
    stays."""
    leader = cluster.leader()
    lost, bridge = others(cluster, leader)
    network.drop({(leader.name, lost.name), (lost.name, leader.name)})
    wait_until(lambda: leader.name not in (lost.status() or {}).get("connected", [leader.name]), what="the cut")
    for n in range(20):
        cluster.propose(str(n))
    assert role(bridge) != ""
    settled = cluster.leader().status()
    for n in range(20, 40):
        cluster.propose(str(n))
    assert settled is not None
    assert (cluster.leader().status() or {})["term"] == settled["term"]
    network.heal()
    cluster.wait_connected()
    cluster.check_nothing_lost()
