"""One TCP connection between two controllers: handshake, frames, batching of writes, and noticing that it
died.

Every way a connection can be bad ends in the same place, `on_closed(connection, reason)`, exactly once:

- the peer's process ended: the kernel says so at once (EOF or reset);
- the peer's host or the path vanished, or the peer's process is stopped and its buffers are full: the kernel
  gives up after `dead_after` (TCP_USER_TIMEOUT for data in flight, keep-alive for an idle connection), so
  this costs the process nothing while all is well;
- the peer is too slow: more than `MAX_QUEUED_BYTES` wait. The connection is dropped rather than single
  messages: Raft sends again what matters, so the queue need not be kept;
- whoever it is breaks the protocol, or does not finish the handshake in `HANDSHAKE_TIMEOUT` seconds.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from raftctl.raftnode.wire import (
    MAX_FRAME_BYTES,
    MAX_HANDSHAKE_BYTES,
    AcceptorHandshake,
    DiallerHandshake,
    FrameReader,
    PeerMessage,
    ProtocolViolation,
    Refusal,
    Refused,
    Session,
    pack,
    unpack,
)
from raftctl.tls import Subject, peer_subject

HANDSHAKE_TIMEOUT: Final = 5.0
MAX_QUEUED_BYTES: Final = 32 << 20
# A frame is sent when it holds this much; a message may be bigger than that, up to MAX_MESSAGE_BYTES.
_FRAME_FULL_BYTES: Final = 1 << 20
_READ_BYTES: Final = 64 << 10
MAX_MESSAGE_BYTES: Final = MAX_FRAME_BYTES - _FRAME_FULL_BYTES - 64

# Why a connection ended, when the peer's own process or kernel ended it.
EOF: Final = "eof"
RESET: Final = "reset"

OnOpened = Callable[["Connection"], None]
OnMessages = Callable[["Connection", list[PeerMessage]], None]
OnClosed = Callable[["Connection", str], None]


class Connection(asyncio.BufferedProtocol):
    """`session` is None until the handshake is done; `failure` says why it was not, when it was not."""

    def __init__(
        self,
        handshake: DiallerHandshake | AcceptorHandshake,
        *,
        dead_after: float,
        on_opened: OnOpened,
        on_messages: OnMessages,
        on_closed: OnClosed,
    ) -> None:
        self.session: Session | None = None
        self.failure: ProtocolViolation | None = None
        self._handshake = handshake
        self._dead_after = dead_after
        self._on_opened = on_opened
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(MAX_HANDSHAKE_BYTES)
        self._received = memoryview(bytearray(_READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._deadline = self._loop.call_later(HANDSHAKE_TIMEOUT, self._handshake_timed_out)
        self._close_reason = ""
        self._closed = False
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._flush_handle: asyncio.Handle | None = None

    @property
    def certified(self) -> Subject | None:
        """Who the peer's certificate is for; None without TLS."""
        return peer_subject(self._transport.get_extra_info("ssl_object")) if self._transport is not None else None

    # --- use ------------------------------------------------------------------------------------------

    def send(self, message: bytes) -> bool:
        """As `queue`; the message leaves at the end of this iteration of the loop."""
        if not self.queue(message):
            return False
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self.flush)
        return True

    def queue(self, message: bytes) -> bool:
        """Have one encoded message leave with the next `flush`. False when the connection is closing, or had to be
        dropped because the peer does not keep up."""
        assert self.session is not None
        if self._closed or self._close_reason or self._transport is None:
            return False
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(message)} bytes is larger than {MAX_MESSAGE_BYTES}")
        self._outbox.append(message)
        self._outbox_bytes += len(message)
        if self._outbox_bytes + self._transport.get_write_buffer_size() > MAX_QUEUED_BYTES:
            self.abort("queue-full")
            return False
        return True

    def flush(self) -> None:
        """Write now what waits."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if not self._outbox or self._transport is None or self._transport.is_closing():
            return
        assert self.session is not None
        data = b"".join(self.session.seal(pack(batch)) for batch in _batches(self._outbox))
        self._outbox = []
        self._outbox_bytes = 0
        self._transport.write(data)

    def close(self, reason: str) -> None:
        """Close after everything written has left."""
        self.flush()
        self._close_reason = self._close_reason or reason
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close now."""
        self._close_reason = self._close_reason or reason
        if self._transport is not None:
            self._transport.abort()
        else:
            self._finish()

    # --- asyncio.BufferedProtocol (it reads into one buffer; `Protocol` allocates 256 KB for each read)
    # -----------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._close_reason:
            transport.abort()
            return
        _set_options(transport.get_extra_info("socket"), self._dead_after)
        if isinstance(self._handshake, DiallerHandshake):
            transport.write(self._handshake.hello)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for body in self._reader.feed(self._received[:nbytes]):
                if self._close_reason:
                    return
                if self.session is None:
                    self._step_handshake(body)
                else:
                    self._on_messages(self, unpack(self.session.open(body)))
        except Refused as refused:
            self.failure = refused
            assert self._transport is not None
            self._transport.write(refused.reply)
            self.close(refused.reason)
        except ProtocolViolation as violation:
            self.failure = violation
            self.abort(violation.reason)

    def eof_received(self) -> None:
        self._close_reason = self._close_reason or EOF

    def connection_lost(self, exc: Exception | None) -> None:
        reset = isinstance(exc, (ConnectionResetError, BrokenPipeError))
        self._close_reason = self._close_reason or (RESET if reset else str(exc) if exc else EOF)
        self._finish()

    # --- inside ---------------------------------------------------------------------------------------

    def _step_handshake(self, body: bytes) -> None:
        assert self._transport is not None
        if isinstance(self._handshake, DiallerHandshake):
            proof, session = self._handshake.on_reply(body)
            self._transport.write(proof)
        elif not self._handshake.greeted:
            self._transport.write(self._handshake.on_hello(body))
            return
        else:
            session = self._handshake.on_proof(body)
        self.session = session
        self._deadline.cancel()
        self._reader.limit = MAX_FRAME_BYTES
        self._on_opened(self)

    def _handshake_timed_out(self) -> None:
        self.failure = ProtocolViolation(Refusal.SLOW)
        self.abort(Refusal.SLOW)

    def _finish(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._deadline.cancel()
        if self._flush_handle is not None:
            self._flush_handle.cancel()
        self._on_closed(self, self._close_reason)


def _batches(messages: list[bytes]) -> list[list[bytes]]:
    """Split into lists that each make one frame."""
    batches: list[list[bytes]] = [[]]
    size = 0
    for message in messages:
        if size > _FRAME_FULL_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(message)
        size += len(message)
    return batches


def _set_options(sock: socket.socket, dead_after: float) -> None:
    """See tcp(7). asyncio sets TCP_NODELAY itself, but not on every socket that was accepted elsewhere."""
    seconds = max(1, round(dead_after / 2))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(dead_after * 1000))
