"""A certificate of the cluster's authority opens the API to the operator and to present members, and to nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.bootstrap.tls import KeyPair, issue_node
from tests.support.api_server import AUTHORITY, NOW, OPERATOR, api


@pytest.mark.parametrize(
    ("pair", "status"),
    [
        (OPERATOR, 200),
        (issue_node(AUTHORITY, "db1", "127.0.0.1", now=NOW), 200),
        (issue_node(AUTHORITY, "w1", "127.0.0.1", now=NOW, uid="new"), 200),
        (issue_node(AUTHORITY, "w1", "127.0.0.1", now=NOW, uid="old"), 401),
        (issue_node(AUTHORITY, "w1", "127.0.0.1", now=NOW), 401),
        (issue_node(AUTHORITY, "db9", "127.0.0.1", now=NOW), 401),
    ],
    ids=["operator", "member", "added member", "earlier host", "host of before that", "removed member"],
)
async def test_who_may_ask(tmp_path: Path, pair: KeyPair, status: int) -> None:
    async with api(tmp_path, pair) as ask, ask("GET", "/v1/history") as answer:
        assert answer.status == status
        if status != 200:
            assert (await answer.json())["reason"] == "not-a-member"
