"""The API client against servers that misbehave: every call ends, with one line that says what happened."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import threading
import time

import pytest

from raftctl import tls
from raftctl.api_client import ANSWER_BYTES_MAX, ApiClient, CallError, in_parallel, split_address
from raftctl.bootstrap.tls import create_authority, issue_node, issue_operator
from raftctl.cluster.state import Member
from raftctl.errors import NoQuorumError, RefusedError, UsageError
from tests.support.fake_controllers import FakeCluster
from tests.support.member_facts import member
from tests.support.waiting import wait_until


@pytest.fixture
def client(orders: FakeCluster) -> ApiClient:
    return ApiClient.from_directory(orders.directory / ".raftctl" / "orders")


def listening(orders: FakeCluster, name: str, **replies: object) -> Member:
    return member(name, api=orders.add(name, {"GET /v1/thing": (200, {"a": 1}), **replies}).address)


def test_answer_is_decoded(orders, client):
    assert client.get(listening(orders, "db1"), "/v1/thing", 30.0, dict[str, int]) == {"a": 1}


def test_answer_of_another_shape_is_an_error(orders, client):
    with pytest.raises(CallError, match="not understood"):
        client.get(listening(orders, "db1"), "/v1/thing", 30.0, dict[str, str])


def test_other_statuses_carry_their_text(orders, client):
    db1 = listening(orders, "db1")
    with pytest.raises(CallError, match="GET /v1/nothing is not known"):
        client.get(db1, "/v1/nothing", 30.0, dict)


def test_without_a_client_certificate_nothing_is_said(orders):
    bare = ApiClient(tls.client_context(orders.directory / ".raftctl" / "orders" / "ca.crt"))
    with pytest.raises(CallError, match="client certificate"):
        bare.get(listening(orders, "db1"), "/v1/thing", 30.0, dict)


def test_certificate_of_another_member_is_refused(orders, client):
    db1 = listening(orders, "db1")
    with pytest.raises(CallError, match="certificate is not accepted") as caught:
        client.get(member("db2", api=db1.api), "/v1/thing", 30.0, dict)
    assert not caught.value.sent
    assert orders.controllers["db1"].requests == [], "nothing was sent to the wrong member"


@pytest.mark.parametrize(
    ("days", "what"),
    [
        (-4000, "the certificate here, which has expired: `raftctl bootstrap` writes new ones"),
        (30, "does not accept the certificate here: the clock there or here is wrong"),
    ],
)
def test_a_client_certificate_out_of_its_time_is_told(orders, tmp_path, days, what):
    directory = orders.directory / ".raftctl" / "orders"
    now = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    pair = issue_operator(orders.authority, now=now)
    (tmp_path / "crt").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    client = ApiClient(tls.client_context(directory / "ca.crt", tmp_path / "crt", tmp_path / "key"))
    there = listening(orders, "db1")

    def refusal() -> CallError | None:
        with pytest.raises(CallError) as caught:
            client.call(there, "POST", "/v1/thing", timeout=30.0, body=b"{}")
        return caught.value if what in str(caught.value) else None

    told = wait_until(refusal, what="an alert that is not lost when the server hangs up")
    assert not told.sent
    assert orders.controllers["db1"].requests == []


@pytest.mark.parametrize(
    ("days", "what"), [(-4000, "has expired: `raftctl bootstrap` writes new ones"), (30, "not yet valid: the clock")]
)
def test_a_certificate_out_of_its_time_is_told(tmp_path, days, what):
    now = dt.datetime.now(dt.UTC)
    authority = create_authority("orders", now=now)
    pair = issue_node(authority, "db1", "192.0.2.1", now=now + dt.timedelta(days=days))
    for name, data in {"ca": authority.certificate, "crt": pair.certificate, "key": pair.key}.items():
        (tmp_path / name).write_bytes(data)
    server = tls.server_context(tmp_path / "crt", tmp_path / "key", tmp_path / "ca")
    with pytest.raises(UsageError, match=what):
        tls.try_out(server, tls.client_context(tmp_path / "ca"), "db1")


def test_plain_http_server_is_one_line(client):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(
            target=lambda: server.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), daemon=True
        ).start()
        with pytest.raises(CallError, match="TLS") as caught:
            client.get(member("db1", api=f"127.0.0.1:{server.getsockname()[1]}"), "/v1/thing", 30.0, dict)
    assert "\n" not in str(caught.value)


def test_unknown_host_is_one_line(client):
    with pytest.raises(CallError, match="unknown host"):
        client.get(member("db1", api="no-such-host.invalid:8008"), "/v1/thing", 30.0, dict)


def test_silence_ends_with_the_deadline(orders, client):
    silent = member("db1", api=orders.add_silent("db1"))
    with pytest.raises(CallError, match=r"no answer within 0\.2 s"):
        client.get(silent, "/v1/thing", 0.2, dict)


def test_dripping_answer_ends_with_the_deadline(orders, client):
    """Each read gets something, so a timeout per read would never end it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server, orders.server_context("db1")), daemon=True).start()
        db1 = member("db1", api=f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(CallError, match="no answer within") as caught:
            client.get(db1, "/v1/thing", 1.0, dict)
    assert caught.value.sent


def drip(server: socket.socket, context: ssl.SSLContext) -> None:
    """Send one answer, a byte at a time, until the client has had enough."""
    with contextlib.suppress(OSError), context.wrap_socket(server.accept()[0], server_side=True) as connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.01)


def test_answer_without_end_is_cut(orders, client):
    db1 = listening(orders, "db1", **{"GET /v1/big": (200, b"x" * (ANSWER_BYTES_MAX + 1))})
    with pytest.raises(CallError, match="too long"):
        client.get(db1, "/v1/big", 60.0, dict)


def test_fetch_all_lists_everybody(orders, client):
    members = {"db1": listening(orders, "db1"), "db2": listening(orders, "db2")}
    members["db3"] = member("db3", api=orders.add_down("db3"))
    found = client.fetch_all(members, "/v1/thing", 30.0, dict[str, int])
    assert found == {"db1": {"a": 1}, "db2": {"a": 1}, "db3": "connection refused"}


def test_in_parallel_does_not_wait_for_the_late():
    """One thread hangs for good, as in a name lookup; the others' answers come, and so does the end."""
    never = threading.Event()
    members = {name: member(name) for name in ("db1", "db2")}

    def ask(asked: Member) -> str:
        if asked.name == "db2":
            never.wait(60.0)
        return "here"

    began = time.monotonic()
    found = in_parallel(members, ask, 0.5)
    assert time.monotonic() - began < 30.0
    never.set()
    assert found == {"db1": "here", "db2": "no answer within 0.5 s"}


def test_fetch_asks_one_after_the_other(orders, client):
    members = {"db1": member("db1", api=orders.add_down("db1")), "db2": listening(orders, "db2")}
    assert client.fetch(members, "/v1/thing", 30.0, dict[str, int]) == {"a": 1}
    with pytest.raises(NoQuorumError, match="db1: connection refused"):
        client.fetch({"db1": members["db1"]}, "/v1/thing", 30.0, dict)


def test_post_goes_on_to_the_next_member_only_when_nothing_was_done(orders, client):
    undecided = (503, {"reason": "no-quorum", "text": "no leader"})
    members = {
        "db1": listening(orders, "db1", **{"POST /v1/do": undecided}),
        "db2": listening(orders, "db2", **{"POST /v1/do": lambda body: (200, {"got": body})}),
    }
    assert client.post(members, "/v1/do", {"by": "eve"}, 30.0) == {"got": {"by": "eve"}}


def test_post_that_is_refused(orders, client):
    refusal = (409, {"reason": "lagging", "text": "too far behind", "hint": "wait"})
    members = {"db1": listening(orders, "db1", **{"POST /v1/do": refusal})}
    with pytest.raises(RefusedError, match="too far behind") as caught:
        client.post(members, "/v1/do", {}, 30.0)
    assert (caught.value.reason, caught.value.hint) == ("lagging", "wait")


def test_fetch_that_is_refused_asks_nobody_else(orders, client):
    refusal = (409, {"reason": "wrong-phase", "text": "a failover is under way"})
    members = {"db1": listening(orders, "db1", **{"GET /v1/ask": refusal}), "db2": listening(orders, "db2")}
    with pytest.raises(RefusedError, match="a failover is under way"):
        client.fetch(members, "/v1/ask", 30.0, dict)
    assert orders.controllers["db2"].requests == []


def test_a_name_that_nobody_knows_is_bad_usage(orders, client):
    refusal = (409, {"reason": "unknown-member", "text": "db9 is not a member"})
    members = {"db1": listening(orders, "db1", **{"GET /v1/ask": refusal, "POST /v1/ask": refusal})}
    with pytest.raises(UsageError, match="db9 is not a member"):
        client.fetch(members, "/v1/ask", 30.0, dict)
    with pytest.raises(UsageError, match="db9 is not a member"):
        client.post(members, "/v1/ask", {}, 30.0)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("192.0.2.1:8008", ("192.0.2.1", 8008)), ("[2001:db8::1]:8008", ("2001:db8::1", 8008)), ("db1:1", ("db1", 1))],
)
def test_split_address(address, parts):
    assert split_address(address) == parts
