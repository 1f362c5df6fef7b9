"""A controller's API on a real TLS port, with a node that runs nothing."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
from aiohttp import ClientSession, TCPConnector
from aiohttp.client import _RequestContextManager
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
OPERATOR = issue_operator(AUTHORITY, now=NOW)

Ask = Callable[..., _RequestContextManager]
"""`ask("GET", "/v1/status")`, with aiohttp's keyword arguments."""


@contextlib.asynccontextmanager
async def api(directory: Path, caller: KeyPair = OPERATOR, *, started: bool = True) -> AsyncIterator[Ask]:
    """The API of db1, in a cluster whose other member, w1, was added later and so has a uid, asked by `caller`."""
    node = _node(directory)
    node.started = started
    files = node.config.api
    client = tls.client_context(files.ca, *_write(directory, "caller", caller))
    server = TestServer(Api(node, ApiClient(client)).application(), scheme="https")
    await server.start_server(ssl=tls.server_context(files.cert, files.key, files.ca))
    try:
        async with ClientSession(connector=TCPConnector(ssl=client)) as session:
            yield lambda method, path, **more: session.request(
                method, server.make_url(path), server_hostname="db1", **more
            )
    finally:
        await server.close()


def _node(directory: Path) -> Node:
    config = configuration()
    ca, _ = _write(directory, "ca", AUTHORITY)
    cert, key = _write(directory, "node", issue_node(AUTHORITY, config.node, "127.0.0.1", now=NOW))
    files = msgspec.structs.replace(config.api, ca=ca, cert=cert, key=key)
    peers = config.peers | {"w1": msgspec.structs.replace(config.peers["w1"], uid="new")}
    secrets = Secrets(
        cluster_id="abc", cluster_key=Secret("k" * 32), admin_password=Secret("pw"), replication_passwords={}
    )
    return Node(msgspec.structs.replace(config, directory=str(directory), api=files, peers=peers), secrets)


def _write(directory: Path, name: str, pair: KeyPair) -> tuple[str, str]:
    paths = str(directory / f"{name}.crt"), str(directory / f"{name}.key")
    for path, data in zip(paths, pair, strict=True):
        Path(path).write_bytes(data)
    return paths
