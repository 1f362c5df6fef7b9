"""`raftctl controller run`: reads the configuration, runs one node and its API until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from raftctl.api_client import ApiClient, split_address
from raftctl.controller.api import Api
from raftctl.controller.certificates import Contexts
from raftctl.controller.config import ControllerConfig, Secrets, load, load_secrets
from raftctl.controller.log_lines import log_to_stderr
from raftctl.controller.node import Node
from raftctl.controller.sd_notify import keep_alive, notify
from raftctl.errors import RaftctlError

logger = logging.getLogger(__name__)


def run(config_path: Path) -> None:
    """Run until SIGTERM or SIGINT. Raises RaftctlError (configuration, secrets, a damaged log, an address in use)."""
    config = load(config_path)
    secrets = load_secrets(config.secrets_file)
    log_to_stderr(config.node)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    asyncio.run(_serve(config, secrets))


async def _serve(config: ControllerConfig, secrets: Secrets) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(config, secrets)
    async with _api(node, config):
        running = asyncio.create_task(node.run())
        stopping = asyncio.create_task(stop.wait())
        superseded = asyncio.create_task(node.superseded.wait())
        watchdog = asyncio.create_task(keep_alive())
        notify("READY=1")
        await asyncio.wait({running, stopping, superseded}, return_when=asyncio.FIRST_COMPLETED)
        if superseded.done():
            logger.warning("ends, to begin anew as a member of the cluster's present incarnation")
            running.cancel()
        elif not running.done():
            logger.info("stopping")
            node.leave()
            running.cancel()
        stopping.cancel()
        superseded.cancel()
        watchdog.cancel()
        notify("STOPPING=1")
        with contextlib.suppress(asyncio.CancelledError):
            await _result(running, config)


async def _result(running: asyncio.Task[None], config: ControllerConfig) -> None:
    try:
        await running
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise RaftctlError(
                f"cannot write below {config.directory}: {why}", hint="check the disk and its free space"
            ) from None
        raise RaftctlError(f"cannot listen on {config.raft.listen}: {why}") from None


@contextlib.asynccontextmanager
async def _api(node: Node, config: ControllerConfig) -> AsyncIterator[None]:
    """Serve the API. With other certificates a second server takes over the listening socket: no caller is refused."""
    client = ApiClient(node.certificates.contexts.peers.client)
    host, port = split_address(config.api.listen)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise RaftctlError(
            f"cannot listen on {config.api.listen}: {error.strerror or error}",
            hint="another process uses the port: see `ss -ltnp`",
        ) from None

    async def serve(contexts: Contexts) -> web.AppRunner:
        runner = web.AppRunner(Api(node, client).application(), access_log=None)
        await runner.setup()
        await web.SockSite(runner, listener.dup(), ssl_context=contexts.api, shutdown_timeout=1.0).start()
        return runner

    serving = await serve(node.certificates.contexts)

    async def changed(contexts: Contexts) -> None:
        nonlocal serving
        node.raft.set_tls(contexts.peers)
        client.use(contexts.peers.client)
        before, serving = serving, await serve(contexts)
        await before.cleanup()
        await node.raft.connections_renewed()

    watching = asyncio.create_task(node.certificates.watch(changed))
    try:
        yield
    finally:
        watching.cancel()
        await serving.cleanup()
        listener.close()
