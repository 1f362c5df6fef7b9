"""An SSH channel as a socket: its end is the socket's end, however the library says so."""

from __future__ import annotations

import threading

from raftctl.hosts.bridge import as_socket


class LostStream:
    """A channel whose connection is gone, as paramiko's then behaves."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def recv(self, size: int, /) -> bytes:
        return b""

    def sendall(self, data: bytes, /) -> None:
        raise OSError("Socket is closed")

    def shutdown_write(self) -> None:
        raise EOFError

    def close(self) -> None:
        self.closed.set()
        raise EOFError


def test_a_lost_connection_ends_the_socket_without_an_exception_of_a_thread() -> None:
    raised: list[threading.ExceptHookArgs] = []
    before, threading.excepthook = threading.excepthook, raised.append
    try:
        stream = LostStream()
        with as_socket(stream) as socket:
            socket.settimeout(30.0)
            assert socket.recv(1) == b""
            assert stream.closed.wait(30.0)
            for thread in threading.enumerate():
                if thread.name == "ssh-bridge-in":
                    thread.join(30.0)
    finally:
        threading.excepthook = before
    assert raised == []
