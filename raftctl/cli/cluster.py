"""The cluster that a command works on: its inventory, its API client, and one round of asking everybody."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from typing import Any, TypeVar

from raftctl.api_client import ApiClient, in_parallel
from raftctl.cli.options import Options, Via
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.issues import NOT_ASKED
from raftctl.cluster.state import Member, MemberRole
from raftctl.cluster.status import Answer, DirectAnswer, build_status
from raftctl.cluster.status_model import ClusterStatus, IssueCode, MemberRow
from raftctl.errors import NoQuorumError, UsageError
from raftctl.hosts.api_dial import dial_from_host
from raftctl.inventory.load import find_inventory, load_inventory
from raftctl.inventory.model import ClusterInventory, Connection

_ROUNDS = 3  # of asking, at most: the inventory's members, those that only the log knows, MySQL
MEMBER_SECONDS = 1.0  # for each round, unless --timeout says otherwise
SSH_SECONDS = 15.0  # for each round through SSH: its connections are made first

T = TypeVar("T")


class Cluster:
    """One cluster of the inventory, and how to reach it. `api` is the way to the controllers that worked last: direct,
    or through tunnels."""

    def __init__(self, inventory: ClusterInventory, via: Via, *, direct: ApiClient, tunnelled: ApiClient) -> None:
        self.inventory = inventory
        self.via = via
        self._direct = direct
        self._tunnelled = tunnelled
        self.api = tunnelled if via is Via.SSH else direct

    @property
    def name(self) -> str:
        return self.inventory.name

    def status(self, timeout: float | None = None) -> ClusterStatus:
        """Ask all members at once. Takes at most `timeout` seconds, 3 by default, whoever is missing. When no
        controller answers directly, another 45 through SSH; of a timeout of at least 6 s each way gets one half."""
        members = self.inventory.members()
        ways = self._ways(timeout)
        found = []
        for way in ways:
            answers = self._ask(way, members, self._round_seconds(way, timeout, len(ways)))
            found.append((way, answers))
            if any(isinstance(answer, MemberFacts) for answer in answers.values()):
                self.api = way
                break
        else:  # MySQL alone, or nothing
            way, answers = min(found, key=lambda one: all(isinstance(answer, str) for answer in one[1].values()))
        via = dict.fromkeys(answers, "ssh") if way is self._tunnelled else {}
        return build_status(members=members, answers=answers, now_via=via, cluster=self.name)

    def fetch_all(self, path: str, timeout: float | None, kind: type[T]) -> dict[str, T | str]:
        """GET `path` from every member of the inventory, in at most `timeout` seconds; an error is a line of text."""
        ways = self._ways(timeout)
        answers: dict[str, T | str] = {}
        for way in ways:
            seconds = self._round_seconds(way, timeout, len(ways)) * _ROUNDS
            answers = way.fetch_all(self.inventory.members(), path, seconds, kind)
            if not all(isinstance(answer, str) for answer in answers.values()):
                self.api = way
                break
        return answers

    def _ways(self, timeout: float | None) -> list[ApiClient]:
        """In the order in which to try them."""
        has_ssh = any(host.connection is Connection.SSH for host in self.inventory.hosts)
        is_time = timeout is None or timeout >= 2 * _ROUNDS * MEMBER_SECONDS
        if self.via is not Via.AUTO or not has_ssh or not is_time:
            return [self.api]
        return [self.api, self._direct if self.api is self._tunnelled else self._tunnelled]

    def _round_seconds(self, way: ApiClient, timeout: float | None, ways: int) -> float:
        if timeout is not None:
            return timeout / _ROUNDS / ways
        return SSH_SECONDS if way is self._tunnelled else MEMBER_SECONDS

    def require_quorum(self, timeout: float | None = None) -> ClusterStatus:
        """As `status`. Raises NoQuorumError when no change could be decided now."""
        if self.via is Via.DIRECT:
            raise UsageError(
                "this needs the controllers, and --via direct asks MySQL alone", hint="say --via ssh or api"
            )
        now = self.status(timeout)
        if not now.quorum.ok:
            why = "; ".join(issue.text for issue in now.issues if issue.code is IssueCode.NO_QUORUM)
            raise NoQuorumError(
                f"{self.name} has no quorum: {why}", hint="see `raftctl status` for who is missing and why"
            )
        return now

    def in_order(self, now: ClusterStatus) -> dict[str, Member]:
        """The members in the order in which to ask one of them: the leader, those that answered, the rest."""
        rows = sorted(now.members, key=lambda row: (row.name != now.leader, row.via != "api"))
        known = self.inventory.members()
        return {row.name: known.get(row.name) or _member(row) for row in rows}

    def post(self, now: ClusterStatus, path: str, body: object, timeout: float) -> dict[str, Any]:
        """See `ApiClient.post`."""
        return self.api.post(self.in_order(now), path, body, timeout)

    def ask(self, member: Member, timeout: float) -> MemberFacts:
        """What one controller says. Raises CallError."""
        return self.api.get(member, "/v1/member", timeout, MemberFacts)

    def _ask(self, way: ApiClient, members: Mapping[str, Member], timeout: float) -> dict[str, Answer]:
        """The API first; then the members that only the log knows; then MySQL itself where no controller answered.
        `timeout` is for each of the rounds."""
        answers: dict[str, Answer] = dict.fromkeys(members, NOT_ASKED)
        if self.via is not Via.DIRECT:
            answers.update(self._ask_api(way, members, timeout))
        if self.via is Via.API:
            return answers
        return answers | self._ask_mysql(members, answers, timeout, tunnels=way is self._tunnelled)

    def _ask_api(self, api: ApiClient, members: Mapping[str, Member], timeout: float) -> dict[str, Answer]:
        """`timeout` is for each of two rounds: the second one asks those that only the log knows."""
        answers: dict[str, Answer] = {**api.fetch_all(members, "/v1/member", timeout, MemberFacts)}
        added = {
            name: member
            for answer in list(answers.values())
            if isinstance(answer, MemberFacts)
            for name, member in answer.state.members.items()
            if name not in members
        }
        return answers | api.fetch_all(added, "/v1/member", timeout, MemberFacts)

    def _ask_mysql(
        self, members: Mapping[str, Member], answers: Mapping[str, Answer], timeout: float, *, tunnels: bool
    ) -> dict[str, Answer]:
        """Those of the inventory's `members` with MySQL whose controllers gave no answer."""
        silent = {
            name: member
            for name, member in members.items()
            if member.role is not MemberRole.WITNESS and isinstance(answers[name], str)
        }
        if not silent:
            return {}
        from raftctl.cli.direct import ask_mysql

        ask = ask_mysql(self.inventory, timeout, tunnels=tunnels)
        found: dict[str, Answer] = {}
        for name, outcome in in_parallel(silent, ask, timeout).items():
            error = str(answers[name])
            if isinstance(outcome, str):
                found[name] = error if outcome in error else f"{error}; MySQL: {outcome}"  # SSH itself: said once
            else:
                found[name] = DirectAnswer(mysql=outcome, error=error)
        return found


def open_cluster(options: Options) -> Cluster:
    """The cluster that the options name. Raises UsageError."""
    inventory = load_inventory(find_inventory(options.inventory)).cluster(options.cluster)
    return Cluster(
        inventory,
        options.via,
        direct=ApiClient.from_directory(inventory.credentials),
        tunnelled=ApiClient.from_directory(inventory.credentials, dial=dial_from_host(inventory)),
    )


def _member(row: MemberRow) -> Member:
    """A member that the inventory does not know, as the cluster described it."""
    return Member(name=row.name, role=MemberRole(row.role), raft=row.address, api=row.api)


def requester() -> str:
    """Who runs the command, for the history: user@host, the user behind sudo."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
