"""What a request to the API may say: bodies and parameters, read strictly. What cannot be read changes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from raftctl.cluster.codec import from_json
from raftctl.cluster.commands import InitCluster
from raftctl.cluster.membership import PRIORITY_MAX
from raftctl.cluster.state import Engine, Member, MemberRole, Settings
from raftctl.controller.config import ControllerConfig

YES: Final = ("1", "true", "yes")
NO: Final = ("0", "false", "no")

Who = Annotated[str, msgspec.Meta(max_length=256)]


class ChangeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /v1/switchover and /v1/failover. `by` is who asks, for the history."""

    by: Who = "unknown"
    target: Annotated[str, msgspec.Meta(min_length=1)] | None = None


class SettingsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /v1/settings: `settings` instead of those with the number `replaces`."""

    replaces: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    settings: Settings
    by: Who = "unknown"


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: Who = "unknown"
    reason: Annotated[str, msgspec.Meta(max_length=10_000)] = ""


class MemberRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /v1/members/CHANGE: the `member` to be added, or the `name` of the one to be changed; the rest is
    for the change `set`."""

    by: Who = "unknown"
    name: str = ""
    member: Member | None = None
    role: MemberRole | None = None
    zone: str | None = None
    priority: Annotated[int, msgspec.Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] | None = None


async def read_body(request: web.Request, kind: type[Any]) -> Any:
    """Raises HTTPBadRequest."""
    try:
        return from_json(await request.read() or b"{}", kind)
    except (msgspec.DecodeError, ValueError) as error:
        raise web.HTTPBadRequest(text=str(error)) from None


def is_dry_run(request: web.Request) -> bool:
    """`?dry_run=1`. What cannot be read must not carry anything out. Raises HTTPBadRequest."""
    refuse_parameters(request, "dry_run")
    match request.query.getall("dry_run", []):
        case []:
            return False
        case [word] if word.lower() in (*YES, *NO):
            return word.lower() in YES
        case words:
            raise web.HTTPBadRequest(text=f"dry_run ({', '.join(words)}) must be one of {', '.join((*YES, *NO))}")


def refuse_parameters(request: web.Request, *known: str) -> None:
    """Somebody who gives one believes that it means something. Raises HTTPBadRequest."""
    if unknown := sorted(set(request.query) - set(known)):
        raise web.HTTPBadRequest(text=f"there is no parameter {', '.join(unknown)}")


def what_is_foreign(command: InitCluster, config: ControllerConfig) -> str:
    """How the cluster that is to begin differs from the one that this controller was configured for, "" when it does
    not. Raft counts the votes of the configured members by the configured times, whatever the log says."""
    if (command.cluster, command.engine) != (config.cluster, Engine.SEMI_SYNC):
        return f"this controller is for the cluster {config.cluster}, with {Engine.SEMI_SYNC} replication"
    if {_identity(m) for m in command.members} != {_identity(m) for m in config.peers.values()}:
        return f"the members of {config.cluster} are {', '.join(sorted(config.peers))}, at their addresses"
    times = (config.raft.election_timeout, config.raft.heartbeat_interval)
    if (command.settings.election_timeout, command.settings.heartbeat_interval) != times:
        return f"the controllers of {config.cluster} have other times for Raft"
    return ""


def _identity(member: Member) -> tuple[str, ...]:
    return member.name, member.role.value, member.raft, member.api, member.mysql or ""
