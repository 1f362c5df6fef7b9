"""Calls to the controllers' API, with the standard library only: the CLI must start fast.

Every call has one deadline for everything: name lookup, connection, TLS, request and answer. A controller proves with
its certificate that it is the member that was meant; errors are one line and never carry a secret.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from raftctl import tls
from raftctl.cluster.codec import from_json, to_json
from raftctl.cluster.state import Member
from raftctl.errors import HostError, NoQuorumError, RaftctlError, RefusedError, UsageError

T = TypeVar("T")
M = TypeVar("M")

Dial = Callable[[Member, float], socket.socket]
"""Connects to a member's API in so many seconds. Raises OSError or HostError."""

CONNECT_SECONDS_MAX = 2.0  # a lost host must not use up the time in which another one could answer
ONE_ANSWER_SECONDS = 2.0  # when several members are asked one after the other
ANSWER_BYTES_MAX = 16 << 20
UNKNOWN_MEMBER = "unknown-member"  # a value of planner.refusal.Reason

_EXPIRED_ALERT = "ALERT_CERTIFICATE_EXPIRED"
_BAD_CERTIFICATE_ALERT = "ALERT_BAD_CERTIFICATE"  # what OpenSSL says of one that is not yet valid


class Answer(NamedTuple):
    status: int
    body: bytes


class CallError(Exception):
    """A call got no usable answer; `sent` tells whether the request may have been carried out all the same."""

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class Refusal(msgspec.Struct, frozen=True):
    """Body of any answer but 200."""

    reason: str = ""
    text: str = ""
    hint: str = ""


class ApiClient:
    """Speaks to the controllers of one cluster. Safe to use from several threads."""

    def __init__(self, context: ssl.SSLContext, *, dial: Dial | None = None) -> None:
        """`context`: from `raftctl.tls.client_context`; `dial` makes the connections when they are not direct."""
        self._context = context
        self._dial = dial or dial_directly

    def use(self, context: ssl.SSLContext) -> None:
        """Other certificates, for calls from now on."""
        self._context = context

    @classmethod
    def from_directory(cls, directory: Path, *, dial: Dial | None = None) -> ApiClient:
        """With the operator's certificates as `raftctl bootstrap` left them. Raises UsageError."""
        key = directory / "client.key"
        try:
            if not (directory / "ca.crt").exists():
                raise UsageError(
                    f"no certificates of the cluster in {directory}",
                    hint="run `raftctl bootstrap`, or copy the directory from the machine that did",
                )
            if key.exists() and key.stat().st_mode & 0o077:
                raise UsageError(f"{key}: others can read it, and with it command the cluster", hint=f"chmod 600 {key}")
        except OSError as error:
            hint = "run this as the user who bootstrapped the cluster, or copy the directory"
            raise UsageError(f"cannot read {directory}: {error.strerror}", hint=hint) from None
        try:
            context = tls.client_context(directory / "ca.crt", directory / "client.crt", key)
        except UsageError as error:
            raise UsageError(str(error), hint="copy the directory again from the machine that bootstrapped") from None
        return cls(context, dial=dial)

    def fetch_all(self, members: Mapping[str, Member], path: str, timeout: float, kind: type[T]) -> dict[str, T | str]:
        """GET `path` from all members at once and decode each answer as `kind`; an error is a line of text.

        Returns after `timeout` seconds at the latest, whatever name servers and hosts do.
        """

        def fetch(member: Member) -> T | str:
            try:
                return self.get(member, path, timeout, kind)
            except CallError as error:
                return str(error)

        return in_parallel(members, fetch, timeout)

    def fetch(self, members: Mapping[str, Member], path: str, timeout: float, kind: type[T]) -> T:
        """GET `path` from the first member, in their order, that answers. Raises RefusedError, or UsageError for a
        member that does not exist, when the cluster said no, and NoQuorumError when nobody answers."""
        deadline = time.monotonic() + timeout
        errors = []
        for name, member in members.items():
            try:
                left = max(0.1, deadline - time.monotonic())
                answer = self.call(member, "GET", path, timeout=min(ONE_ANSWER_SECONDS, left))
                if answer.status == http.HTTPStatus.OK:
                    return decode(answer.body, kind)
            except CallError as error:
                errors.append(f"{name}: {error}")
                continue
            if answer.status == http.HTTPStatus.CONFLICT:
                raise _refused(answer)
            errors.append(f"{name}: {_refusal(answer).text}")
        raise NoQuorumError(f"no controller answered: {'; '.join(errors)}", hint="see `raftctl status`")

    def get(self, member: Member, path: str, timeout: float, kind: type[T]) -> T:
        """GET `path` from one member and decode the answer as `kind`. Raises CallError."""
        answer = self.call(member, "GET", path, timeout=timeout)
        if answer.status != http.HTTPStatus.OK:
            raise CallError(_refusal(answer).text)
        return decode(answer.body, kind)

    def post(self, members: Mapping[str, Member], path: str, body: object, timeout: float) -> dict[str, Any]:
        """POST `body` to the first member, in their order, that answers definitively; any one forwards to the leader.

        Returns the decoded body of a 200. Raises RefusedError when the cluster said no, UsageError for a member that
        does not exist, NoQuorumError when nobody could decide, and RaftctlError when a request was sent and its outcome
        is not known: it is not repeated then, as it may have been carried out.
        """
        deadline = time.monotonic() + timeout
        data, errors = to_json(body), []
        for name, member in members.items():
            try:
                left = max(0.1, deadline - time.monotonic())
                connect_timeout = min(CONNECT_SECONDS_MAX, left)
                answer = self.call(member, "POST", path, body=data, timeout=left, connect_timeout=connect_timeout)
                if answer.status == http.HTTPStatus.OK:
                    return decode(answer.body, dict)
            except CallError as error:
                if error.sent:
                    raise RaftctlError(
                        f"{name} did not say what became of the request: {error}",
                        hint="see `raftctl status` and `raftctl history` before trying again",
                    ) from None
                errors.append(f"{name}: {error}")
                continue
            if answer.status != http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise _refused(answer)
            errors.append(f"{name}: {_refusal(answer).text}")
        raise NoQuorumError(
            f"no controller could decide: {'; '.join(errors)}", hint="see `raftctl status` for who is missing"
        )

    def call(
        self,
        member: Member,
        method: str,
        path: str,
        *,
        timeout: float,
        connect_timeout: float | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request to one member in `timeout` seconds, `connect_timeout` of them to connect. Raises CallError."""
        deadline = time.monotonic() + timeout
        with contextlib.closing(self._connect(member, connect_timeout or timeout)) as connection:
            sock = connection.sock  # http.client forgets it when the server announces that it will close
            try:
                sock.settimeout(_left(deadline))
                connection.request(method, path, body=body, headers={"Content-Type": "application/json"})
                sock.settimeout(_left(deadline))
                response = connection.getresponse()
                return Answer(response.status, _read(sock, response, deadline))
            except ssl.SSLError as error:
                # TLS 1.3: a server refuses our certificate after our side of the handshake, and reads no request
                refused = (error.reason or "").endswith((_EXPIRED_ALERT, _BAD_CERTIFICATE_ALERT))
                raise CallError(_reason(error, timeout), sent=not refused) from None
            except (OSError, http.client.HTTPException) as error:
                raise CallError(_reason(error, timeout), sent=True) from None

    def _connect(self, member: Member, timeout: float) -> http.client.HTTPSConnection:
        host, port = split_address(member.api)
        context = self._context
        connection = http.client.HTTPSConnection(host, port, context=context)
        with contextlib.ExitStack() as undo:
            try:
                plain = undo.enter_context(self._dial(member, timeout))
                plain.settimeout(timeout)
                secure = undo.enter_context(context.wrap_socket(plain, server_hostname=member.name))
            except (OSError, HostError) as error:
                raise CallError(_reason(error, timeout)) from None
            undo.pop_all()
        connection.sock = secure
        return connection


def dial_directly(member: Member, timeout: float) -> socket.socket:
    """Connects from here. Raises OSError."""
    connection = socket.create_connection(split_address(member.api), timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def in_parallel(members: Mapping[str, M], ask: Callable[[M], T | str], timeout: float) -> dict[str, T | str]:
    """What `ask` returns for each member or host, at most `timeout` seconds from now; a line of text for who is late.

    Daemon threads and not an executor: a thread that hangs in a name lookup must not keep the program from ending.
    """
    answers: queue.SimpleQueue[tuple[str, T | str]] = queue.SimpleQueue()
    for name, member in members.items():
        threading.Thread(target=lambda n, m: answers.put((n, ask(m))), args=(name, member), daemon=True).start()
    deadline = time.monotonic() + timeout
    found: dict[str, T | str] = {}
    with contextlib.suppress(queue.Empty):
        while len(found) < len(members):
            name, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            found[name] = answer
    return {name: found.get(name, f"no answer within {timeout:g} s") for name in members}


def decode(body: bytes, kind: type[T]) -> T:
    """The answer to a request that was carried out. Raises CallError when this version of raftctl cannot read it."""
    try:
        return from_json(body, kind)
    except msgspec.MsgspecError as error:
        raise CallError(f"the answer is not understood: {error}", sent=True) from None


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _read(sock: socket.socket, response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The body, bounded in size and by the deadline as a whole, not by each read."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise http.client.HTTPException("the answer is too long")
        sock.settimeout(_left(deadline))
    return b"".join(parts)


def _refusal(answer: Answer) -> Refusal:
    try:
        refusal: Refusal = from_json(answer.body, Refusal)
    except msgspec.MsgspecError:
        refusal = Refusal()
    text = refusal.text or refusal.reason or f"HTTP status {answer.status}"
    return Refusal(reason=refusal.reason or f"http-{answer.status}", text=text, hint=refusal.hint)


def _refused(answer: Answer) -> RaftctlError:
    """A wrong name is bad usage, whoever noticed it."""
    refusal = _refusal(answer)
    if refusal.reason == UNKNOWN_MEMBER:
        return UsageError(refusal.text, hint=refusal.hint or "see `raftctl status` for the members")
    return RefusedError(refusal.text, reason=refusal.reason, hint=refusal.hint)


def _reason(error: Exception, timeout: float) -> str:
    """One line for a person."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:.3g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {tls.why_not_accepted(error)}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if reason.endswith(_EXPIRED_ALERT):
            return "it does not accept the certificate here, which has expired: `raftctl bootstrap` writes new ones"
        if reason.endswith(_BAD_CERTIFICATE_ALERT):
            return "it does not accept the certificate here: the clock there or here is wrong"
        if isinstance(error, ssl.SSLEOFError):  # its alert may be lost when it hangs up
            return "it hung up: does it accept the certificate here, and do the clocks agree?"
        return f"TLS: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"unknown host: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
