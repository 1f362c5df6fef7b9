"""Controllers that only talk: real HTTPS servers with the cluster's certificates, serving recorded answers.

They stand in for whole clusters, with members that are down, hang or talk nonsense, where starting real ones would say
nothing more about the program under test.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from raftctl import tls
from raftctl.bootstrap.tls import KeyPair, create_authority, issue_node, issue_operator
from raftctl.cluster.codec import to_json
from raftctl.cluster.state import ClusterState

Reply = tuple[int, object]  # status and body; bytes go out as they are


class Credentials(NamedTuple):
    """Certificates of a cluster with the members db1 to db5 and w1."""

    authority: KeyPair
    operator: KeyPair
    nodes: Mapping[str, KeyPair]


def make_credentials() -> Credentials:
    now = dt.datetime.now(dt.UTC)
    authority = create_authority("orders", now=now)
    names = ("db1", "db2", "db3", "db4", "db5", "w1")
    nodes = {name: issue_node(authority, name, "127.0.0.1", now=now) for name in names}
    return Credentials(authority, issue_operator(authority, now=now), nodes)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not like our certificate, or hangs up, is no news."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class FakeController:
    """One listening controller. `replies` maps "GET /v1/member" to what is answered, or to a function of the body;
    `requests` are the bodies that came, by the same key. A path it does not know is 404."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.replies: dict[str, Reply | Callable[[Any], Reply]] = {}
        self.requests: list[tuple[str, Any]] = []
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._reply(None)

            def do_POST(self) -> None:
                self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _reply(self, body: Any) -> None:
                key = f"{self.command} {self.path}"
                fake.requests.append((key, body))
                status, answer = fake._answer(key, body)
                if tls.peer_subject(self.connection) is None and self.path.startswith("/v1/"):
                    status, answer = 403, {"reason": "no-certificate", "text": "a client certificate is required"}
                data = answer if isinstance(answer, bytes) else to_json(answer)
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                """Nothing on the test's stderr."""

        return Handler

    def _answer(self, key: str, body: Any) -> Reply:
        reply = self.replies.get(key, (404, {"reason": "not-found", "text": f"{key} is not known"}))
        return reply(body) if callable(reply) else reply


class Silent:
    """Accepts connections in the kernel's queue and never says a word, as a frozen process does."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


class FakeCluster:
    """A directory with an inventory and the operator's credentials, and the controllers that it names."""

    def __init__(self, directory: Path, credentials: Credentials) -> None:
        self.directory = directory
        self.controllers: dict[str, FakeController] = {}
        self._credentials = credentials
        self._hosts: dict[str, dict[str, object]] = {}
        self._stack = contextlib.ExitStack()
        self._write_credentials()

    @property
    def authority(self) -> KeyPair:
        return self._credentials.authority

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.yaml"

    def add(self, name: str, replies: Mapping[str, Reply | Callable[[Any], Reply]]) -> FakeController:
        """A controller that listens."""
        controller = FakeController(self.server_context(name))
        controller.replies.update(replies)
        self._stack.callback(controller.close)
        self.controllers[name] = controller
        self.place(name, controller.address)
        return controller

    def server_context(self, name: str) -> ssl.SSLContext:
        """For a server that proves to be the member."""
        certificates = self.directory / name
        certificates.mkdir()
        pair = self._credentials.nodes[name]
        (certificates / "node.crt").write_bytes(pair.certificate)
        (certificates / "node.key").write_bytes(pair.key)
        (certificates / "ca.crt").write_bytes(self._credentials.authority.certificate)
        return tls.server_context(certificates / "node.crt", certificates / "node.key", certificates / "ca.crt")

    def add_silent(self, name: str) -> str:
        """A controller that hangs. Returns its address."""
        silent = Silent()
        self._stack.callback(silent.close)
        self.place(name, silent.address)
        return silent.address

    def add_down(self, name: str) -> str:
        """A controller whose port refuses. Returns its address."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.place(name, address)
        return address

    def place(self, name: str, api: str) -> None:
        """Write the member into the inventory with this API address. Nothing listens at its other ports."""
        host, port = api.rsplit(":", 1)
        number = len(self._hosts) + 1
        self._hosts[name] = {
            "ansible_host": host,
            "ansible_connection": "local",
            "raftctl_api_port": int(port),
            "raftctl_raft_port": number,
            "raftctl_mysql_port": 100 + number,
            "raftctl_mysql_socket": f"/nowhere/{name}.sock",
            "raftctl_dir": f"/nowhere/{name}",
            "raftctl_role": "witness" if name.startswith("w") else "data",
        }
        self._write_inventory()

    def hide(self, name: str) -> None:
        """Take the member out of the inventory; its controller goes on."""
        del self._hosts[name]
        self._write_inventory()

    def _write_inventory(self) -> None:
        group = {"vars": {"raftctl": {"engine": "semi-sync"}}, "hosts": self._hosts}
        self.inventory.write_text(yaml.safe_dump({"all": {"children": {"orders": group}}}))

    def everyone(self, key: str, reply: Reply | Callable[[Any], Reply]) -> None:
        """All controllers answer `key` so."""
        for controller in self.controllers.values():
            controller.replies[key] = reply

    def posts(self) -> list[tuple[str, Any]]:
        """The changes that were asked for, whoever got them."""
        requests = [request for controller in self.controllers.values() for request in controller.requests]
        return [(key, body) for key, body in requests if key.startswith("POST ")]

    def close(self) -> None:
        self._stack.close()

    def _write_credentials(self) -> None:
        directory = self.directory / ".raftctl" / "orders"
        directory.mkdir(parents=True)
        pair = self._credentials.operator
        files = {"ca.crt": self._credentials.authority.certificate, "client.crt": pair.certificate}
        files |= {"client.key": pair.key, "secrets.json": _secrets()}
        for name, data in files.items():
            (directory / name).touch(mode=0o600)
            (directory / name).write_bytes(data)


def _secrets() -> bytes:
    secrets = {"cluster_id": "test", "cluster_key": "k" * 32, "admin_password": "pw", "replication_passwords": {}}
    return json.dumps(secrets).encode()


def with_addresses(state: ClusterState, cluster: FakeCluster) -> ClusterState:
    """The state with the API addresses under which the fakes listen."""
    from tests.support.member_facts import replace

    members = {
        name: replace(found, api=cluster.controllers[name].address) if name in cluster.controllers else found
        for name, found in state.members.items()
    }
    return replace(state, members=members)


@contextlib.contextmanager
def fake_cluster(directory: Path, credentials: Credentials) -> Iterator[FakeCluster]:
    cluster = FakeCluster(directory, credentials)
    try:
        yield cluster
    finally:
        cluster.close()
