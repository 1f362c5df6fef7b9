"""The controller's HTTP API. Health endpoints are open (load balancers ask them); all else needs a certificate of the
cluster's CA, and every change is a POST."""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from raftctl.api_client import ApiClient
from raftctl.cluster.codec import to_json
from raftctl.cluster.commands import ChangeSettings, InitCluster, PauseFailover, ResumeFailover
from raftctl.cluster.facts import MemberFacts, MySQLState
from raftctl.cluster.status import build_status
from raftctl.controller import metrics
from raftctl.controller.leader import refused
from raftctl.controller.messages import (
    ChangeMember,
    Failover,
    MemberChange,
    Operation,
    OperationResult,
    Propose,
    Switchover,
)
from raftctl.controller.node import NO_QUORUM, OUTCOME_UNKNOWN, Node
from raftctl.controller.requests import (
    ChangeRequest,
    MemberRequest,
    PauseRequest,
    SettingsRequest,
    is_dry_run,
    read_body,
    refuse_parameters,
    what_is_foreign,
)
from raftctl.inventory.fields import parse_duration
from raftctl.planner.explain import explain_loss
from raftctl.tls import OPERATOR, Subject, peer_subject

logger = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 1 << 20
STATUS_SECONDS: Final = 1.0
OPEN_PATHS: Final = frozenset({"/primary", "/replica", "/health", "/metrics"})
OPEN_METHODS: Final = ("GET", "HEAD", "OPTIONS")  # HAProxy's own health check asks with OPTIONS unless told otherwise

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    def __init__(self, node: Node, client: ApiClient) -> None:
        self._node = node
        self._client = client

    def application(self) -> web.Application:
        app = web.Application(
            client_max_size=BODY_BYTES_MAX, middlewares=[_say_errors, self._require_certificate, self._require_start]
        )
        app.add_routes(
            [
                *_asked("/primary", self.primary),
                *_asked("/replica", self.replica),
                *_asked("/health", self.health),
                web.get("/v1/member", self.member),
                web.get("/v1/status", self.status),
                web.get("/v1/history", self.history),
                web.get("/v1/explain", self.explain),
                web.post("/v1/switchover", self.switchover),
                web.post("/v1/failover", self.failover),
                web.post("/v1/pause", self.pause),
                web.post("/v1/resume", self.resume),
                web.post("/v1/settings", self.settings),
                *(web.post(f"/v1/members/{change}", self._member_changer(change)) for change in MemberChange),
                web.post("/v1/commands/init", self.init),
            ]
        )
        if self._node.config.monitoring:
            app.add_routes([web.get("/metrics", self.metrics)])
        return app

    @web.middleware
    async def _require_certificate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Only the operator and present members get more than the health endpoints: a certificate outlives the
        membership of its host."""
        if request.path in OPEN_PATHS and request.method in OPEN_METHODS:
            return await handler(request)
        who = peer_subject(request.get_extra_info("ssl_object"))
        if who is None:
            reason, text = "no-certificate", "a client certificate of the cluster is needed"
        elif not self._is_known(who):
            reason, text = "not-a-member", f"the certificate is {who.name}'s, which is not a member"
        else:
            return await handler(request)
        logger.warning("refused %s %s from %s: %s", request.method, request.path, request.remote, text)
        return _answer(401, reason=reason, text=text)

    def _is_known(self, who: Subject) -> bool:
        member = self._node.members.get(who.name)
        return who.name == OPERATOR or (member is not None and member.uid == who.uid)

    @web.middleware
    async def _require_start(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Before the log is read there is nothing to say."""
        if not self._node.started:
            return _answer(503, reason="starting", text="the controller is starting")
        return await handler(request)

    # --- health ----------------------------------------------------------------------------------------

    async def primary(self, _: web.Request) -> web.Response:
        keeper = self._node.keeper
        return _health(
            keeper is not None and keeper.is_open_primary, "the writable primary", "not the writable primary"
        )

    async def replica(self, request: web.Request) -> web.Response:
        """`?lag=5s` also asks that no more than that waits to be applied."""
        try:
            lag_max = parse_duration(request.query.get("lag", "24h"))
        except ValueError as error:
            return _answer(400, reason="bad-request", text=f"lag: {error}")
        mysql = self._node.report().mysql
        channel = mysql.observation.channel if mysql and mysql.observation else None
        following = mysql is not None and mysql.state is MySQLState.REPLICA and channel is not None
        lag = channel.apply_lag_seconds if channel else None
        return _health(following and lag is not None and lag <= lag_max, "a healthy replica", "not a healthy replica")

    async def health(self, _: web.Request) -> web.Response:
        status = self._node.raft.status()
        return _health(bool(status.leader), f"{self._node.name}: {status.role.value}", "no leader")

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=metrics.render(metrics.read(self._node)), headers={"Content-Type": metrics.CONTENT_TYPE}
        )

    # --- reads -----------------------------------------------------------------------------------------

    async def member(self, _: web.Request) -> web.Response:
        return _json(self._node.facts())

    async def status(self, _: web.Request) -> web.Response:
        """The whole cluster, as this controller can see it: it asks its peers like the CLI does."""
        node = self._node
        members = node.members
        peers = {name: member for name, member in members.items() if name != node.name}
        answers: dict[str, MemberFacts | str] = await asyncio.to_thread(
            self._client.fetch_all, peers, "/v1/member", STATUS_SECONDS, MemberFacts
        )
        answers[node.name] = node.facts()
        return _json(build_status(members=members, answers=answers, cluster=node.config.cluster))

    async def history(self, _: web.Request) -> web.Response:
        return _json(self._node.state.history)

    async def explain(self, request: web.Request) -> web.Response:
        """What the loss of `?member=NAME` (the primary, when none is named) would do, as the leader sees it."""
        node, state = self._node, self._node.state
        if not node.leader.is_current:
            return _answer(503, reason="not-leader", text=f"{node.name} does not lead")
        member = request.query.get("member") or state.primary
        found = explain_loss(state, node.leader.view(), member, leader=node.name)
        return _refused(refused(found)) if isinstance(found, list) else _json(found)

    # --- changes ---------------------------------------------------------------------------------------

    async def switchover(self, request: web.Request) -> web.Response:
        wish = await read_body(request, ChangeRequest)
        return await self._operate(Switchover(by=wish.by, target=wish.target or "", dry_run=is_dry_run(request)))

    async def failover(self, request: web.Request) -> web.Response:
        wish = await read_body(request, ChangeRequest)
        return await self._operate(Failover(by=wish.by, target=wish.target or "", dry_run=is_dry_run(request)))

    async def pause(self, request: web.Request) -> web.Response:
        wish = await read_body(request, PauseRequest)
        refuse_parameters(request)
        return await self._operate(Propose(PauseFailover(by=wish.by, reason=wish.reason)))

    async def resume(self, request: web.Request) -> web.Response:
        wish = await read_body(request, PauseRequest)
        refuse_parameters(request)
        return await self._operate(Propose(ResumeFailover(by=wish.by)))

    async def settings(self, request: web.Request) -> web.Response:
        wish = await read_body(request, SettingsRequest)
        refuse_parameters(request)
        return await self._operate(Propose(ChangeSettings(by=wish.by, replaces=wish.replaces, settings=wish.settings)))

    def _member_changer(self, change: MemberChange) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            wish = await read_body(request, MemberRequest)
            if (wish.member is not None) != (change is MemberChange.ADD):
                return _answer(400, reason="bad-request", text="a member's addresses are given when it is added")
            name = wish.member.name if wish.member else wish.name
            dry_run = is_dry_run(request)
            wanted = ChangeMember(wish.by, change, name, wish.member, dry_run, wish.role, wish.zone, wish.priority)
            return await self._operate(wanted)

        return handle

    async def init(self, request: web.Request) -> web.Response:
        command = await read_body(request, InitCluster)
        refuse_parameters(request)
        if wrong := what_is_foreign(command, self._node.config):
            return _answer(409, reason="another-cluster", text=wrong)
        return await self._operate(Propose(command))

    async def _operate(self, operation: Operation) -> web.Response:
        result = await self._node.operate(operation)
        if result.applied or result.plan:
            return _json(result)
        return _refused(result)


@web.middleware
async def _say_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error has the form of a refusal, also those of the HTTP library and of a bug here."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < http.HTTPStatus.BAD_REQUEST:
            raise
        answer = _answer(
            error.status, reason=_word(error.status), text=f"{request.method} {request.path}: {error.text}"
        )
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _answer(500, reason=_word(500), text="a bug in the controller: its log has the details")


def _word(status: int) -> str:
    """`bad-request`, `not-found`"""
    return http.HTTPStatus(status).phrase.lower().replace(" ", "-")


def _asked(path: str, handler: Handler) -> list[web.RouteDef]:
    """A health check's routes: its status is what counts, whichever way it is asked for."""
    return [web.get(path, handler), web.options(path, handler)]


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=to_json(value), status=status, content_type="application/json")


def _answer(status: int, **body: str) -> web.Response:
    return _json(body, status)


def _health(good: bool, yes: str, no: str) -> web.Response:
    return web.Response(text=(yes if good else no) + "\n", status=200 if good else 503)


def _refused(result: OperationResult) -> web.Response:
    return _json(result, status={NO_QUORUM: 503, OUTCOME_UNKNOWN: 504}.get(result.reason, 409))
