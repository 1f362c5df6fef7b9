"""What the API does with requests that it cannot carry out as they stand: a refusal in JSON, and nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftctl.cluster.codec import to_json
from raftctl.cluster.commands import InitCluster
from raftctl.cluster.state import Engine, Settings
from raftctl.controller.requests import what_is_foreign
from tests.support.api_server import api
from tests.support.bootstrap_builders import configuration
from tests.support.planner_builders import a_member, an_init

BIG = b'{"by": "' + b"x" * (2 << 20) + b'"}'


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", "/v1/nothing", b"", 404, "not-found"),
        ("GET", "/v1/switchover", b"", 405, "method-not-allowed"),
        ("DELETE", "/primary", b"", 405, "method-not-allowed"),
        ("POST", "/v1/switchover", BIG, 413, "request-entity-too-large"),
        ("POST", "/v1/switchover", b"{", 400, "bad-request"),
        ("POST", "/v1/switchover", b'{"tarject": "db2"}', 400, "bad-request"),
        ("POST", "/v1/switchover", b'{"target": ""}', 400, "bad-request"),
        ("POST", "/v1/settings", b'{"replaces": 1' + b"0" * 30 + b', "settings": {}}', 400, "bad-request"),
        ("POST", "/v1/pause", b'{"by": "' + b"x" * 300 + b'"}', 400, "bad-request"),
    ],
)
async def test_every_error_is_a_refusal_in_json(
    tmp_path: Path, method: str, path: str, body: bytes, status: int, reason: str
) -> None:
    async with api(tmp_path) as ask, ask(method, path, data=body) as answer:
        assert answer.status == status
        refusal = await answer.json()
        assert refusal["reason"] == reason
        assert refusal["text"]


async def test_a_bug_is_said_without_its_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("s3cret")

    monkeypatch.setattr("raftctl.controller.node.Node.facts", broken)
    async with api(tmp_path) as ask, ask("GET", "/v1/member") as answer:
        assert answer.status == 500
        assert (await answer.json())["reason"] == "internal-server-error"
        assert "s3cret" not in await answer.text()


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("switchover", "dry_run=please"),
        ("switchover", "dry_run=1&dry_run=0"),
        ("switchover", "dryrun=1"),
        ("failover", "dry-run=true"),
        ("members/remove", "dry_run="),
        ("pause", "dry_run=1"),
        ("resume", "dry_run=1"),
        ("settings", "dry_run=1"),
        ("commands/init", "dry_run=1"),
    ],
)
async def test_a_parameter_that_is_not_understood_carries_nothing_out(
    tmp_path: Path, path: str, parameter: str
) -> None:
    bodies: dict[str, Any] = {"settings": {"replaces": 0, "settings": {}}, "commands/init": an_init()}
    async with api(tmp_path) as ask, ask("POST", f"/v1/{path}?{parameter}", data=to_json(bodies.get(path, {}))) as done:
        assert done.status == 400
        assert parameter.partition("=")[0] in (await done.json())["text"]


@pytest.mark.parametrize("path", ["/primary", "/replica", "/health"])
async def test_a_load_balancer_may_ask_with_options(tmp_path: Path, path: str) -> None:
    async with api(tmp_path, started=False) as ask, ask("GET", path) as got, ask("OPTIONS", path) as asked:
        assert (got.status, got.headers["Content-Type"]) == (503, asked.headers["Content-Type"])
        assert asked.status == got.status


CONFIG = configuration()
OWN = an_init(
    cluster=CONFIG.cluster, members=tuple(CONFIG.peers.values()), settings=Settings(election_timeout=2.0), data=1
)


def other(**changes: Any) -> InitCluster:
    return msgspec.structs.replace(OWN, **changes)


@pytest.mark.parametrize(
    "command",
    [
        other(cluster="invoices"),
        other(engine=Engine.GROUP),
        other(members=OWN.members[:1]),
        other(members=(*OWN.members, a_member("db9"))),
        other(members=(OWN.members[0], msgspec.structs.replace(OWN.members[1], raft="192.0.2.9:8007"))),
        other(settings=Settings(election_timeout=1.0)),
    ],
    ids=["name", "engine", "too few", "too many", "address", "times"],
)
async def test_a_cluster_that_the_controllers_were_not_configured_for_does_not_begin(
    tmp_path: Path, command: InitCluster
) -> None:
    assert not what_is_foreign(OWN, CONFIG)
    assert what_is_foreign(command, CONFIG)
    async with api(tmp_path) as ask, ask("POST", "/v1/commands/init", data=to_json(command)) as answer:
        assert (answer.status, (await answer.json())["reason"]) == (409, "another-cluster")
