"""One client per system, all on the same base: one TCP connection, many requests in flight, requests of one iteration
of the loop in one write.

etcd is spoken to in its own protocol, gRPC (`KV.Put` over HTTP/2, RFC 9113), as far as that needs: fixed header blocks
without HPACK state, and an answer counts as success when it carries a message (errors come without one).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

VALUE = b"x" * 256


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost = False
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, Callable[[bool], None]] = {}
        self._number = 1
        self._out: list[bytes] = []
        self._rest = b""
        self._transport: asyncio.Transport

    # --- use --------------------------------------------------------------------------------------

    def put(self, done: Callable[[bool], None]) -> None:
        """Have VALUE committed; `done` says whether it was."""
        if self.lost:
            done(False)
            return
        self._send(self._next(done), VALUE)

    async def measure(self, count: int, outstanding: int) -> list[float]:
        """Seconds that each of `count` puts took, `outstanding` of them at a time."""
        latencies: list[float] = []
        ended: asyncio.Future[None] = self._loop.create_future()
        left = count

        def issue() -> None:
            nonlocal left
            left -= 1
            began = time.perf_counter()

            def done(ok: bool) -> None:
                latencies.append(time.perf_counter() - began)
                if ended.done():
                    return
                if not ok:
                    ended.set_exception(RuntimeError("a put failed"))
                elif left > 0:
                    issue()
                elif len(latencies) == count:
                    ended.set_result(None)

            self.put(done)

        for _ in range(outstanding):
            issue()
        async with asyncio.timeout(120):
            await ended
        return latencies

    def close(self) -> None:
        self._transport.abort()

    # --- inside -----------------------------------------------------------------------------------

    def _next(self, done: Callable[[bool], None]) -> int:
        number = self._number
        self._number += 2  # odd numbers: HTTP/2 wants that of a client's streams
        self._waiting[number] = done
        return number

    def _send(self, number: int, value: bytes) -> None:
        self._write(b"%d %s\n" % (number, value))

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()

    def _answered(self, number: int, ok: bool) -> None:
        done = self._waiting.pop(number, None)
        if done is not None:
            done(ok)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        for number in list(self._waiting):
            self._answered(number, False)


class LineClient(Client):
    """Of `tests.bench.front_end`."""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            number, _, answer = line.partition(b" ")
            self._answered(int(number), answer == b"ok")

    async def is_leader(self) -> bool:
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._send(self._next(answer.set_result), b"leader?")
        async with asyncio.timeout(5):
            return await answer


_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _text(text: bytes) -> bytes:
    return bytes((len(text),)) + text


_POST_HTTP = b"\x83\x86"  # :method POST, :scheme http of HPACK's static table; the rest are literals, never indexed
_REQUEST_HEADERS = (
    _POST_HTTP
    + (b"\x04" + _text(b"/etcdserverpb.KV/Put"))  # :path
    + (b"\x01" + _text(b"localhost"))  # :authority
    + (b"\x0f\x10" + _text(b"application/grpc"))  # content-type
    + (b"\x00" + _text(b"te") + _text(b"trailers"))
)


def _put_request(value: bytes) -> bytes:
    """etcdserverpb.PutRequest{key: "k", value} behind gRPC's five bytes (not compressed, length)."""
    message = b"\x0a\x01k" + b"\x12" + bytes((len(value) & 0x7F | 0x80, len(value) >> 7)) + value
    return b"\x00" + len(message).to_bytes(4, "big") + message


class EtcdClient(Client):
    def __init__(self) -> None:
        super().__init__()
        self._has_message: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Any amount may be sent to us; what we have in flight stays below the server's own window of 64 KB.
        window = _frame(_WINDOW_UPDATE, 0, 0, (0x7FFFFFFF - 0xFFFF).to_bytes(4, "big"))
        self._write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0) + window)

    def _send(self, number: int, value: bytes) -> None:
        headers = _frame(_HEADERS, _END_HEADERS, number, _REQUEST_HEADERS)
        self._write(headers + _frame(_DATA, _END_STREAM, number, _put_request(value)))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while len(data) - at >= 9:
            end = at + 9 + int.from_bytes(data[at : at + 3], "big")
            if end > len(data):
                break
            self._frame(data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), data[at + 9 : end])
            at = end
        self._rest = data[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA and payload:
            self._has_message.add(stream)
        if (kind in (_DATA, _HEADERS) and flags & _END_STREAM) or kind == _RST_STREAM:
            ok = stream in self._has_message
            self._has_message.discard(stream)
            self._answered(stream, ok)
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
