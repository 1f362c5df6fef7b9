"""What of a member listens on the network, and what it says to somebody without a certificate or a login."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl

import pymysql
import pytest

from tests.support.container_hosts import ContainerHosts
from tests.support.stage import Stage

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 10.0


def test_a_host_listens_where_the_documentation_says_and_nowhere_else(hosts: ContainerHosts, orders: Stage) -> None:
    listening = [line.split()[3].rpartition(":") for line in hosts.sh("db1", "ss -ltnH").splitlines()]
    reachable = {int(port) for address, _, port in listening if not address.startswith("127.")}
    assert reachable == {22, 3306, 8007, 8008}


def stranger() -> ssl.SSLContext:
    """Somebody who takes any server and has no certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def ask(hosts: ContainerHosts, method: str, path: str, member: str = "db1") -> int:
    connection = http.client.HTTPSConnection(hosts.address(member), 8008, timeout=SECONDS, context=stranger())
    connection.request(method, path, body=b"{}" if method == "POST" else None)
    with connection.getresponse() as response:
        return response.status


def test_the_api_tells_a_stranger_about_health_and_nothing_else(hosts: ContainerHosts, orders: Stage) -> None:
    primary = orders.status().primary
    replica = "db1" if primary != "db1" else "db2"
    for member in (primary, replica):
        answers = {path: ask(hosts, "GET", path, member) for path in ("/health", "/metrics", "/primary", "/replica")}
        role = {"/primary": 200, "/replica": 503} if member == primary else {"/primary": 503, "/replica": 200}
        assert answers == {"/health": 200, "/metrics": 200} | role
    asked = [("GET", path) for path in ("/v1/status", "/v1/history", "/v1/member", "/v1/explain")]
    changes = ("switchover", "failover", "pause", "resume", "settings", "members/remove", "commands/init")
    asked += [("POST", f"/v1/{path}") for path in changes]
    assert {request: ask(hosts, *request) for request in asked} == dict.fromkeys(asked, 401)


def test_the_raft_port_tells_a_stranger_nothing(hosts: ContainerHosts, orders: Stage) -> None:
    place = (hosts.address("db1"), 8007)
    with socket.create_connection(place, timeout=SECONDS) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"raftctl" not in received(plain)
    said = b""
    with (
        # TLS 1.3 lets a client finish its part before the server has seen that there is no certificate
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(place, timeout=SECONDS) as raw,
        stranger().wrap_socket(raw) as wrapped,
    ):
        wrapped.sendall(b"hello")
        said = wrapped.recv(4096)
    assert said == b""


def received(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(4096):
        data += chunk
    return data


@pytest.mark.parametrize("user", ["root", "", "raftctl", "raftctl_repl_db2", "mysql.session"])
def test_mysqld_lets_no_stranger_in(hosts: ContainerHosts, orders: Stage, user: str) -> None:
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        pymysql.connect(host=hosts.address("db1"), user=user, password="", connect_timeout=int(SECONDS))
