"""Directly, or through SSH: the way that works is found once, and every command of the program goes it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import yaml

from raftctl import tls
from raftctl.api_client import ApiClient, dial_directly
from raftctl.cli.cluster import MEMBER_SECONDS, Cluster
from raftctl.cli.history import newest
from raftctl.cli.options import Via
from raftctl.cluster.state import HistoryEntry, Member
from raftctl.errors import HostError, UsageError
from raftctl.hosts.api_dial import either
from raftctl.inventory.load import load_inventory
from tests.support.fake_controllers import FakeCluster, with_addresses
from tests.support.member_facts import healthy, replace

ENTRY = HistoryEntry(index=7, at_ms=0, kind="promote", epoch=1, by="raftctl")


class Way:
    """Dials that work or not, counted."""

    def __init__(self, works: bool, error: Exception | None = None) -> None:
        self.works = works
        self.error = error or HostError("no way there")
        self.dials = 0

    def __call__(self, member: Member, timeout: float) -> socket.socket:
        self.dials += 1
        if not self.works:
            raise self.error
        return dial_directly(member, timeout)


MakeCluster = Callable[[Way, Way, Via], Cluster]


@pytest.fixture
def cluster_by(orders: FakeCluster) -> MakeCluster:
    """The cluster, healthy, by a direct way and one through SSH. No mysqld listens."""
    answers = healthy()
    for name in answers:
        orders.add(name, {})
    for name, answer in answers.items():
        known = replace(answer, state=with_addresses(answer.state, orders))
        orders.controllers[name].replies |= {
            "GET /v1/member": (200, known),
            "GET /v1/history": (200, [ENTRY]),
            "POST /v1/pause": (200, {"applied": True}),
        }
    document = yaml.safe_load(orders.inventory.read_text())
    for variables in document["all"]["children"]["orders"]["hosts"].values():
        variables["ansible_connection"] = "ssh"
    orders.inventory.write_text(yaml.safe_dump(document))
    inventory = load_inventory(orders.inventory).cluster()
    files = orders.directory / ".raftctl" / "orders"
    context = tls.client_context(files / "ca.crt", files / "client.crt", files / "client.key")

    def make(direct: Way, tunnelled: Way, via: Via) -> Cluster:
        return Cluster(
            inventory,
            via,
            direct=ApiClient(context, dial=direct),
            tunnelled=ApiClient(context, dial=tunnelled),
        )

    return make


def ways(cluster: Cluster) -> set[str | None]:
    return {row.via for row in cluster.status().members}


def test_ssh_is_not_used_where_the_controllers_answer_directly(cluster_by: MakeCluster) -> None:
    direct, tunnelled = Way(True), Way(True)
    cluster = cluster_by(direct, tunnelled, Via.AUTO)
    assert ways(cluster) == {"api"}
    assert newest(cluster) == [ENTRY]
    assert tunnelled.dials == 0


def test_what_was_found_for_the_status_is_the_way_of_a_change(cluster_by: MakeCluster) -> None:
    direct, tunnelled = Way(False), Way(True)
    cluster = cluster_by(direct, tunnelled, Via.AUTO)
    now = cluster.require_quorum()
    assert {row.via for row in now.members} == {"ssh"}
    tried = direct.dials
    assert cluster.post(now, "/v1/pause", {"by": "eve"}, 30.0) == {"applied": True}
    assert cluster.ask(cluster.in_order(now)["db1"], 30.0).node == "db1"
    assert ways(cluster) == {"ssh"}
    assert direct.dials == tried, "what did not work is not tried first again"


def test_a_command_that_asks_for_no_status_finds_its_way_as_well(cluster_by: MakeCluster) -> None:
    cluster = cluster_by(Way(False), Way(True), Via.AUTO)
    assert newest(cluster) == [ENTRY]


def test_the_direct_way_is_taken_again_when_ssh_ends(cluster_by: MakeCluster) -> None:
    direct, tunnelled = Way(False), Way(True)
    cluster = cluster_by(direct, tunnelled, Via.AUTO)
    assert ways(cluster) == {"ssh"}
    direct.works, tunnelled.works = True, False
    assert ways(cluster) == {"api"}


@pytest.mark.parametrize("via", [Via.API, Via.DIRECT])
def test_ssh_is_not_tried_when_another_way_is_asked_for(cluster_by: MakeCluster, via: Via) -> None:
    direct, tunnelled = Way(False), Way(True)
    assert not cluster_by(direct, tunnelled, via).status().quorum.ok
    assert tunnelled.dials == 0


def test_a_short_timeout_leaves_no_time_for_ssh(cluster_by: MakeCluster) -> None:
    tunnelled = Way(True)
    cluster = cluster_by(Way(False), tunnelled, Via.AUTO)
    assert not cluster.status(5 * MEMBER_SECONDS).quorum.ok
    assert tunnelled.dials == 0
    assert cluster.status(60 * MEMBER_SECONDS).quorum.ok


def test_mysql_alone_decides_nothing(cluster_by: MakeCluster) -> None:
    cluster = cluster_by(Way(True), Way(True), Via.DIRECT)
    with pytest.raises(UsageError, match="needs the controllers"):
        cluster.require_quorum()
    issues = {issue.code: issue.text for issue in cluster.status().issues}
    assert "no controller was asked" in issues["no-quorum"]


def test_what_worked_for_a_member_is_not_searched_for_again(cluster_by: MakeCluster) -> None:
    direct, tunnelled = Way(False, ConnectionRefusedError()), Way(True)
    members = cluster_by(direct, tunnelled, Via.AUTO).inventory.members()
    dial = either(direct, tunnelled, by_ssh=("db1", "db2"))
    for _ in range(3):
        dial(members["db1"], 30.0).close()
    assert (direct.dials, tunnelled.dials) == (1, 3)
    with pytest.raises(ConnectionRefusedError):
        dial(members["db3"], 30.0)
    tunnelled.works = False
    with pytest.raises(ConnectionRefusedError):
        dial(members["db2"], 30.0)
