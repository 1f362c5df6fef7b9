"""While the controller reads its log, the API says so."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from raftctl.api_client import ApiClient
from raftctl.controller.api import Api
from raftctl.controller.config import Secrets
from raftctl.controller.node import Node
from raftctl.secret import Secret
from tests.support.bootstrap_builders import configuration


@pytest.mark.parametrize("path", ["/primary", "/replica", "/health", "/metrics"])
async def test_nothing_is_answered_before_the_log_is_read(tmp_path: Path, path: str) -> None:
    secrets = Secrets(
        cluster_id="abc",
        cluster_key=Secret("k" * 32),
        admin_password=Secret("admin-pw"),
        replication_passwords={"db1": Secret("repl-pw")},
    )
    node = Node(msgspec.structs.replace(configuration(), directory=str(tmp_path)), secrets)
    async with TestClient(TestServer(Api(node, ApiClient(ssl.create_default_context())).application())) as client:
        response = await client.get(path)
        assert response.status == 503
        assert (await response.json())["reason"] == "starting"
