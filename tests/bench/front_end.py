"""What a benchmarked node of a Python library shows its clients: lines `ID VALUE` over TCP, answered by `ID ok` when
the value is committed. Only the standard library: it also runs in the virtual environment of a peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Answer = Callable[[bool], None]
Propose = Callable[[bytes, Answer], None]
"""Have a value committed; the answer says whether that is so. Called and answered on the event loop."""


class FrontEnd(asyncio.Protocol):
    """One client. Answers of one iteration of the loop leave in one write."""

    def __init__(self, propose: Propose, is_leader: Callable[[], bool]) -> None:
        self._propose = propose
        self._is_leader = is_leader
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._out: list[bytes] = []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            number, _, value = line.partition(b" ")
            if value == b"leader?":
                self._answer(number, self._is_leader())
            else:
                self._propose(value, lambda ok, number=number: self._answer(number, ok))

    def _answer(self, number: bytes, ok: bool) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(number + (b" ok\n" if ok else b" no\n"))

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()


async def serve(port: int, propose: Propose, is_leader: Callable[[], bool]) -> None:
    """Until the process is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FrontEnd(propose, is_leader), "127.0.0.1", port)
    await server.serve_forever()
