"""The cluster that a command works on: its inventory, its API client, and one round of asking everybody."""

from __future__ import annotations

import dataclasses
import getpass
import os
import socket
from collections.abc import Mapping
from typing import Any

from raftctl.api_client import ApiClient, Dial, in_parallel, split_address
from raftctl.cli.options import Options, Via
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.state import Member, MemberRole
from raftctl.cluster.status import Answer, DirectAnswer, build_status
from raftctl.cluster.status_model import ClusterStatus, IssueCode, MemberRow
from raftctl.errors import HostError, NoQuorumError, UsageError
from raftctl.inventory.load import find_inventory, load_inventory
from raftctl.inventory.model import ClusterInventory, Connection

MEMBER_SECONDS = 1.0  # for each of the at most three rounds of asking, unless --timeout says otherwise
SSH_SECONDS = 15.0  # for each round through SSH: its connections are made first


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One cluster of the inventory, and how to reach it."""

    inventory: ClusterInventory
    api: ApiClient
    via: Via
    ssh: ApiClient  # through tunnels

    @property
    def name(self) -> str:
        return self.inventory.name

    def status(self, timeout: float | None = None) -> ClusterStatus:
        """Ask all members at once. Takes at most `timeout` seconds, 3 by default, whoever is missing. When nobody
        answers directly and no timeout was given, another 30 through SSH."""
        members = self.inventory.members()
        answers = self._ask(members, timeout)
        by_ssh = self.via is Via.SSH
        closed = all(isinstance(answer, str) for answer in answers.values())
        if closed and self.via is Via.AUTO and timeout is None and self._has_ssh:
            tunnelled = self._ask_by_ssh(members, SSH_SECONDS)
            if by_ssh := any(not isinstance(answer, str) for answer in tunnelled.values()):
                answers = tunnelled
        via = dict.fromkeys(answers, "ssh") if by_ssh else {}
        return build_status(members=members, answers=answers, now_via=via, cluster=self.name)

    @property
    def _has_ssh(self) -> bool:
        return any(host.connection is Connection.SSH for host in self.inventory.hosts)

    def require_quorum(self, timeout: float | None = None) -> ClusterStatus:
        """As `status`. Raises NoQuorumError when no change could be decided now."""
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

    def _ask(self, members: Mapping[str, Member], timeout: float | None) -> dict[str, Answer]:
        """The API first; then the members that only the log knows; then MySQL itself where no controller answered."""
        share = timeout / 3 if timeout else MEMBER_SECONDS
        answers: dict[str, Answer] = dict.fromkeys(members, "the controller was not asked")
        if self.via is Via.SSH:
            return self._ask_by_ssh(members, share if timeout else SSH_SECONDS)
        if self.via is not Via.DIRECT:
            answers.update(self._ask_api(self.api, members, share))
        if self.via is Via.API:
            return answers
        return answers | self._ask_mysql(members, answers, share, tunnels=False)

    def _ask_by_ssh(self, members: Mapping[str, Member], timeout: float) -> dict[str, Answer]:
        """`timeout` is for each of three rounds."""
        answers = self._ask_api(self.ssh, members, timeout)
        return answers | self._ask_mysql(members, answers, timeout, tunnels=True)

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
    tunnelled = ApiClient.from_directory(inventory.credentials, dial=_dialer(inventory))
    direct = ApiClient.from_directory(inventory.credentials)
    return Cluster(inventory, tunnelled if options.via is Via.SSH else direct, options.via, tunnelled)


def _dialer(inventory: ClusterInventory) -> Dial:
    """Connects to a member's API from its own host, or from this machine where that is the host."""

    def dial(member: Member, timeout: float) -> socket.socket:
        from raftctl.hosts.reach import reach

        try:
            host = inventory.host(member.name)
        except UsageError as error:
            raise HostError(f"{error}: no way there is known") from None
        address, port = split_address(member.api)
        return reach(host).dial_tcp(address, port, timeout=timeout)

    return dial


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
