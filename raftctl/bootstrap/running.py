"""What is known of a cluster that runs already, and where the inventory differs from it.

Bootstrap neither changes who is a member nor the policy in the log: a controller that got another list of peers than
the log has could form a majority of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from raftctl.api_client import ApiClient
from raftctl.bootstrap.survey import HostSurvey
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.state import ClusterState, Member, Phase
from raftctl.errors import NoQuorumError, RefusedError
from raftctl.inventory.model import ClusterInventory

_CALL_SECONDS = 2.0


def known_state(api: ApiClient, members: Mapping[str, Member]) -> ClusterState | None:
    """The newest initialized state among those that answer; None when there is none."""
    answers = api.fetch_all(members, "/v1/member", _CALL_SECONDS, MemberFacts)
    facts = [answer for answer in answers.values() if not isinstance(answer, str)]
    initialized = [fact for fact in facts if fact.state.phase is not Phase.UNINITIALIZED]
    newest = max(initialized, key=lambda fact: (fact.state.incarnation, fact.raft.applied_index), default=None)
    return newest.state if newest else None


def present_state(api: ApiClient, cluster: ClusterInventory) -> ClusterState:
    """The state of a cluster whose members are the inventory's and answer, each of them. Raises RefusedError."""
    members = cluster.members()
    answers = api.fetch_all(members, "/v1/member", _CALL_SECONDS, MemberFacts)
    silent = {name: answer for name, answer in answers.items() if isinstance(answer, str)}
    state = known_state(api, members)
    if state is None:
        raise NoQuorumError(f"no controller answers: {next(iter(silent.values()), '')}", hint="see `raftctl status`")
    check_members(cluster, state.members)
    for name, error in silent.items():
        raise RefusedError(
            f"{name} does not answer: {error}",
            reason="not-reporting",
            hint=f"start it, or take it out with `raftctl member remove {name}` and out of the inventory:"
            " it would be left behind; `raftctl member add` takes it in again",
        )
    return state


def configured_members(surveys: Iterable[HostSurvey]) -> dict[str, Member]:
    """All members that the controllers' configurations on the hosts name."""
    return {name: member for found in surveys if found.config for name, member in found.config.peers.items()}


def with_uids(listed: Mapping[str, Member], known: Mapping[str, Member]) -> dict[str, Member]:
    """The inventory's members, each as the host that the cluster knows under that name."""
    uids = {name: member.uid for name, member in known.items()}
    return {name: msgspec.structs.replace(member, uid=uids.get(name, "")) for name, member in listed.items()}


def check_members(cluster: ClusterInventory, existing: Mapping[str, Member]) -> None:
    """Raises RefusedError when the inventory does not list the `existing` members, at the same addresses."""
    listed = cluster.members()
    differences = [f"{name} is not in the inventory" for name in sorted(existing.keys() - listed.keys())]
    differences += [f"{name} is not in the cluster" for name in sorted(listed.keys() - existing.keys())]
    for name in sorted(listed.keys() & existing.keys()):
        now, then = _identity(listed[name]), _identity(existing[name])
        changed = [f"{what} {then[what]}, now {now[what]}" for what in now if now[what] != then[what]]
        differences += [f"{name} had {change}" for change in changed]
    if differences:
        raise RefusedError(
            f"the cluster exists with other members than the inventory lists: {'; '.join(differences)}",
            reason="members-differ",
            hint="membership is changed with `raftctl member`; a cluster that never worked is begun anew after "
            "removing raftctl_dir on its hosts",
        )


def _identity(member: Member) -> dict[str, str]:
    return {"role": member.role, "raft": member.raft, "api": member.api, "mysql": member.mysql or "none"}


def ineffective_settings(cluster: ClusterInventory, state: ClusterState) -> list[str]:
    """What the inventory says otherwise than the log, and what therefore has no effect, one line each."""
    pairs: list[tuple[str, msgspec.Struct, msgspec.Struct]] = [("", cluster.settings(), state.settings)]
    pairs += [(f"{name}'s ", member, state.members[name]) for name, member in cluster.members().items()]
    lines: list[str] = []
    for owner, listed, decided in pairs:
        now, then = msgspec.to_builtins(listed), msgspec.to_builtins(decided)
        now.pop("uid", None)  # the inventory knows nothing of it
        lines += [
            f"{owner}{name} stays {then[name]!r}: {value!r} in the inventory has no effect"
            for name, value in now.items()
            if value != then[name]
        ]
    return lines
