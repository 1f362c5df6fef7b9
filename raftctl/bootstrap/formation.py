"""From running controllers to a working cluster: a leader, the first log entry, a healthy state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from raftctl.api_client import ApiClient, CallError
from raftctl.cluster.commands import InitCluster
from raftctl.cluster.durability import required_acks
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import Member
from raftctl.cluster.status_model import ClusterStatus, Health
from raftctl.errors import NoQuorumError, RaftctlError, RefusedError
from raftctl.inventory.model import ClusterInventory, data_names
from raftctl.mysql.client import Endpoint, connect
from raftctl.mysql.version import ServerVersion

T = TypeVar("T")
Progress = Callable[[str], None]

POLL_SECONDS = 0.1
_CALL_SECONDS = 2.0
_READ_ONLY_SECONDS = 10.0


def find_leader(api: ApiClient, members: Mapping[str, Member]) -> MemberFacts | str:
    """The leader once it has applied everything in its log, so that its state is all that was ever decided; else why
    there is none, one line."""
    answers = api.fetch_all(members, "/v1/member", _CALL_SECONDS, MemberFacts)
    for facts in answers.values():
        if not isinstance(facts, str) and facts.raft.state == "leader":
            if 0 < facts.raft.applied_index == facts.raft.log_index:
                return facts
            return f"the leader, {facts.node}, has not applied its whole log"
    silent = [f"{name}: {answer}" for name, answer in answers.items() if isinstance(answer, str)]
    if len(silent) > len(members) // 2:
        return f"too few controllers answer ({'; '.join(silent)})"
    return "the controllers have not elected a leader"


def wait_for_member(api: ApiClient, member: Member, *, timeout: float) -> None:
    """Wait until the member's controller answers. Raises NoQuorumError when it does not within `timeout` seconds."""
    ask = {member.name: member}
    said = _poll(
        lambda: api.fetch_all(ask, "/v1/member", _CALL_SECONDS, MemberFacts)[member.name],
        until=lambda answer: not isinstance(answer, str),
        timeout=timeout,
    )
    if isinstance(said, str):
        raise NoQuorumError(f"{member.name}: its controller does not come up: {said}", hint="see its log there")


def wait_for_leader(api: ApiClient, members: Mapping[str, Member], *, timeout: float) -> MemberFacts:
    """Raises NoQuorumError when there is no leader within `timeout` seconds."""
    found = _poll(lambda: find_leader(api, members), until=lambda leader: not isinstance(leader, str), timeout=timeout)
    if isinstance(found, str):
        raise NoQuorumError(
            f"no leader within {timeout:g} s: {found}", hint="see the controllers' logs; bootstrap can be repeated"
        )
    return found


def forget_installation(endpoint: Endpoint) -> None:
    """Delete the binary logs and the GTIDs of a server in which nothing is but what its installation made. Raises
    MySQLError."""
    with connect(endpoint, connect_timeout=_CALL_SECONDS, timeout=_READ_ONLY_SECONDS) as conn:
        conn.execute(ServerVersion.parse(str(conn.scalar("SELECT VERSION()"))).reset_binary_logs)


def initialize(
    api: ApiClient, cluster: ClusterInventory, *, primary: str, endpoint: Endpoint, by: str, timeout: float
) -> None:
    """Commit InitCluster with `primary` and everything that it holds. `endpoint` is raftctl's account there.

    A primary that takes writes is read-only from before its GTID set is read until its controller makes it writable
    again: a write in between would be acknowledged by nobody and not be part of the floor. Raises RefusedError and
    NoQuorumError.
    """
    settings = cluster.settings()
    data = data_names(cluster.hosts)
    with connect(endpoint, connect_timeout=_CALL_SECONDS, timeout=_CALL_SECONDS) as conn:
        was_writable = not conn.scalar("SELECT @@GLOBAL.super_read_only")
        was_open = not conn.scalar("SELECT @@GLOBAL.read_only")
        conn.execute("SET GLOBAL super_read_only = ON", timeout=_READ_ONLY_SECONDS)
        command = InitCluster(
            at_ms=int(time.time() * 1000),
            by=by,
            cluster=cluster.name,
            engine=cluster.engine,
            members=tuple(cluster.members().values()),
            settings=settings,
            primary=primary,
            floor=GTIDSet.parse(conn.scalar("SELECT @@GLOBAL.gtid_executed")),
            sync_set=data,
            required_acks=required_acks(settings, data),
        )
        try:
            api.post(cluster.members(), "/v1/commands/init", command, timeout)
        except RefusedError:
            # Certainly not committed, so nobody else makes it writable. Any other error leaves that open.
            if was_writable:
                conn.execute("SET GLOBAL super_read_only = OFF")
            if was_open:
                conn.execute("SET GLOBAL read_only = OFF")
            raise


def wait_until_healthy(
    api: ApiClient, members: Mapping[str, Member], *, timeout: float, progress: Progress
) -> ClusterStatus:
    """Wait for health `ok`. Raises RaftctlError with what is still wrong after `timeout` seconds."""
    told = ""

    def ask() -> ClusterStatus | str:
        nonlocal told
        try:
            status = api.fetch(members, "/v1/status", _CALL_SECONDS, ClusterStatus)
        except (NoQuorumError, CallError) as error:
            return str(error)
        complaint = _complaint(status)
        if complaint and complaint != told:
            progress(f"waiting: {complaint}")
            told = complaint
        return status

    def healthy(status: ClusterStatus | str) -> bool:
        return isinstance(status, ClusterStatus) and status.health is Health.OK

    status = _poll(ask, until=healthy, timeout=timeout)
    if isinstance(status, str) or not healthy(status):
        complaint = status if isinstance(status, str) else _complaint(status)
        raise RaftctlError(
            f"the cluster is set up and not healthy after {timeout:g} s: {complaint}",
            hint="see `raftctl status`; bootstrap can be repeated",
        )
    return status


def _complaint(status: ClusterStatus) -> str:
    return "; ".join(f"{issue.member}: {issue.text}" if issue.member else issue.text for issue in status.issues)


def _poll(ask: Callable[[], T], *, until: Callable[[T], bool], timeout: float) -> T:
    """The first answer that satisfies `until`, or the last one before the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        answer = ask()
        if until(answer) or time.monotonic() >= deadline:
            return answer
        time.sleep(POLL_SECONDS)
