"""A way to a server that ends in the middle of what it sends, at the very byte that a test chose."""

from __future__ import annotations

import contextlib
import math
import socket
import threading

_LOOPBACK = "127.0.0.1"


class CutConnection:
    """A TCP port of the loopback address that passes connections on to `port`. After `cut_after(n)` the server's next
    `n` bytes still come through; then every connection ends and no new one is accepted."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server((_LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._left: float = math.inf
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, size_bytes: int) -> None:
        self._left = size_bytes

    def close(self) -> None:
        """Accept no more; end what is there at the next byte."""
        self._left = 0
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((_LOOPBACK, self._server_port))
                threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
                threading.Thread(target=self._to_client, args=(server, client), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError), server, client:
            while self._left > 0 and (data := server.recv(65536)):
                passed = data[: int(min(self._left, len(data)))]
                self._left -= len(passed)
                client.sendall(passed)
            client.shutdown(socket.SHUT_RDWR)  # also for the thread that reads from it
        if self._left <= 0:
            self.close()
