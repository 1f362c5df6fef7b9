"""While the controller reads its log, the API says so."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from raftctl.api_client import ApiClient
from raftctl.bootstrap.tls import create_authority, issue_node
from raftctl.controller.api import Api
from raftctl.controller.config import ApiConfig, ControllerConfig, Secrets
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
    config = configuration()
    api = write_certificate(tmp_path, config)
    node = Node(msgspec.structs.replace(config, directory=str(tmp_path), api=api), secrets)
    async with TestClient(TestServer(Api(node, ApiClient(ssl.create_default_context())).application())) as client:
        response = await client.get(path)
        assert response.status == 503
        assert (await response.json())["reason"] == "starting"


def write_certificate(directory: Path, config: ControllerConfig) -> ApiConfig:
    now = dt.datetime.now(dt.UTC)
    authority = create_authority(config.cluster, now=now)
    pair = issue_node(authority, config.node, "127.0.0.1", now=now)
    files = {"ca": authority.certificate, "cert": pair.certificate, "key": pair.key}
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return msgspec.structs.replace(config.api, **{name: str(directory / name) for name in files})
