"""A certificate of the cluster's authority opens the API to the operator and to present members, and to nobody else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession, TCPConnector
from aiohttp.test_utils import TestServer

from raftctl import tls
from raftctl.api_client import ApiClient
from raftctl.bootstrap.tls import KeyPair, create_authority, issue_node, issue_operator
from raftctl.controller.api import Api
from raftctl.controller.config import Secrets
from raftctl.controller.node import Node
from raftctl.secret import Secret
from tests.support.bootstrap_builders import configuration

NOW = dt.datetime.now(dt.UTC)
AUTHORITY = create_authority("orders", now=NOW)


def write(directory: Path, name: str, pair: KeyPair) -> tuple[str, str]:
    paths = str(directory / f"{name}.crt"), str(directory / f"{name}.key")
    for path, data in zip(paths, pair, strict=True):
        Path(path).write_bytes(data)
    return paths


def controller(directory: Path) -> Node:
    """db1's, in a cluster whose other member, w1, was added later and so has a uid."""
    config = configuration()
    ca, _ = write(directory, "ca", AUTHORITY)
    cert, key = write(directory, "node", issue_node(AUTHORITY, config.node, "127.0.0.1", now=NOW))
    api = msgspec.structs.replace(config.api, ca=ca, cert=cert, key=key)
    peers = config.peers | {"w1": msgspec.structs.replace(config.peers["w1"], uid="new")}
    secrets = Secrets(
        cluster_id="abc", cluster_key=Secret("k" * 32), admin_password=Secret("pw"), replication_passwords={}
    )
    return Node(msgspec.structs.replace(config, directory=str(directory), api=api, peers=peers), secrets)


@pytest.mark.parametrize(
    ("pair", "status"),
    [
        (issue_operator(AUTHORITY, now=NOW), 200),
        (issue_node(AUTHORITY, "db1", "127.0.0.1", now=NOW), 200),
        (issue_node(AUTHORITY, "w1", "127.0.0.1", now=NOW, uid="new"), 200),
        (issue_node(AUTHORITY, "w1", "127.0.0.1", now=NOW, uid="old"), 401),
        (issue_node(AUTHORITY, "w1", "127.0.0.1", now=NOW), 401),
        (issue_node(AUTHORITY, "db9", "127.0.0.1", now=NOW), 401),
    ],
    ids=["operator", "member", "added member", "earlier host", "host of before that", "removed member"],
)
async def test_who_may_ask(tmp_path: Path, pair: KeyPair, status: int) -> None:
    node = controller(tmp_path)
    node.started = True
    files = node.config.api
    client = tls.client_context(files.ca, *write(tmp_path, "caller", pair))
    server = TestServer(Api(node, ApiClient(client)).application(), scheme="https")
    await server.start_server(ssl=tls.server_context(files.cert, files.key, files.ca))
    async with ClientSession(connector=TCPConnector(ssl=client)) as session:
        url = server.make_url("/v1/history")
        async with session.get(url, server_hostname="db1") as answer:
            assert answer.status == status
            if status != 200:
                assert (await answer.json())["reason"] == "not-a-member"
    await server.close()
