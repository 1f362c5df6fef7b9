"""Raft in real processes on real sockets and disks: what was acknowledged survives SIGKILL, in any
combination."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from tests.support.raft_cluster import ROOT, RaftCluster
from tests.support.waiting import wait_until

ClusterFactory = Callable[..., RaftCluster]


def test_a_killed_leader_costs_no_acknowledged_proposal(raft_cluster: ClusterFactory) -> None:
    cluster = raft_cluster()
    for reign in range(3):
        for n in range(20):
            cluster.propose(f"{reign}.{n}")
        leader = cluster.leader()
        leader.kill()
        for n in range(20, 30):
            cluster.propose(f"{reign}.{n}")
        leader.start()
        cluster.check_nothing_lost()


def test_all_killed_at_once_come_back_with_everything(raft_cluster: ClusterFactory) -> None:
    cluster = raft_cluster()
    for round_number in range(3):
        for n in range(20):
            cluster.propose(f"{round_number}.{n}")
        for member in cluster.members.values():
            member.signal(signal.SIGKILL)
        cluster.kill()
        cluster.start()
        cluster.check_nothing_lost()


def test_a_minority_commits_nothing(raft_cluster: ClusterFactory) -> None:
    cluster = raft_cluster()
    cluster.propose("before")
    leader = cluster.leader()
    others = [m for m in cluster.members.values() if m is not leader]
    for member in others:
        member.kill()
    wait_until(lambda: (s := leader.status()) and s["role"] != "leader", what="the lonely leader to step down")
    assert leader.ask("propose", data="lonely", timeout=0.5)["error"] == "not-leader"
    others[0].start()
    cluster.propose("after")
    cluster.check_nothing_lost()


def test_a_stopped_leader_that_wakes_up_is_deposed_before_it_acts(raft_cluster: ClusterFactory) -> None:
    cluster = raft_cluster()
    cluster.propose("before")
    old = cluster.leader()
    old.signal(signal.SIGSTOP)
    others = [m for m in cluster.members.values() if m is not old]
    wait_until(lambda: any((s := m.status()) and s["role"] == "leader" for m in others), what="a new leader")
    old.signal(signal.SIGCONT)
    # Its first answer after waking comes from a loop that has a request and stale messages waiting at once.
    assert old.ask("propose", data="stale", timeout=0.2)["error"] == "not-leader"
    cluster.propose("after")
    cluster.check_nothing_lost()
    assert "stale" not in cluster.applied(old.name)


def test_leadership_can_be_handed_over(raft_cluster: ClusterFactory) -> None:
    cluster = raft_cluster()
    cluster.propose("before")
    leader = cluster.leader()
    target = next(m for m in cluster.members.values() if m is not leader)
    assert leader.ask("transfer", to=target.name) == {"ok": None}
    assert cluster.leader() is target
    cluster.propose("after")
    cluster.check_nothing_lost()


def test_garbage_on_the_raft_port_disturbs_nobody(raft_cluster: ClusterFactory) -> None:
    cluster = raft_cluster()
    cluster.wait_connected()
    cluster.propose("before")
    lines = [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x40", b"\xff" * 4, b"\x05\x00\x00\x00abc"]
    open_connections = []
    for n in range(200):
        for member in cluster.members.values():
            stranger = socket.create_connection(member.address, timeout=10)
            stranger.sendall(lines[n % 4] if n % 5 else secrets.token_bytes(20_000))
            open_connections.append(stranger)
        if n % 10 == 0:
            cluster.propose(f"{n}")
    cluster.check_nothing_lost()
    for stranger in open_connections:
        stranger.close()


def test_a_second_process_on_the_same_directory_is_refused(raft_cluster: ClusterFactory) -> None:
    cluster = raft_cluster()
    cluster.wait_connected()
    cluster.propose("before")
    member = cluster["n1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.raft_process", str(member.config_file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("LogInUseError: ")
    cluster.propose("after")
    cluster.check_nothing_lost()
