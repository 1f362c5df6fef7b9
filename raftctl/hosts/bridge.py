"""A stream that a library carries (an SSH channel) as an ordinary socket: TLS and PyMySQL need a file descriptor."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Protocol

_CHUNK = 1 << 16


class Stream(Protocol):
    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def shutdown_write(self) -> None: ...


def as_socket(stream: Stream) -> socket.socket:
    """One end of a socket pair; what is written to it goes into `stream` and the other way round.

    It lives until either side ends. Nobody else on this machine can connect to it, unlike to a forwarded port."""
    ours, theirs = socket.socketpair()

    def outwards() -> None:
        _copy(ours.recv, stream.sendall)
        with contextlib.suppress(OSError, EOFError):
            stream.shutdown_write()

    def inwards() -> None:
        _copy(stream.recv, ours.sendall)
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)  # ends `outwards`, which waits in recv
        with contextlib.suppress(OSError, EOFError):  # of a connection that is gone
            stream.close()
        outward.join()
        ours.close()

    outward = threading.Thread(target=outwards, daemon=True, name="ssh-bridge-out")
    outward.start()
    threading.Thread(target=inwards, daemon=True, name="ssh-bridge-in").start()
    return theirs


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := read(_CHUNK):
            write(data)
