"""Connections to MySQL: a deadline on every call, and PyMySQL's errors translated (`raftctl.mysql.errors`).

PyMySQL is used only here. After ConnectionLost and StatementTimeout a connection is closed for good: a late
answer must never be taken for the answer to the next question.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raftctl.errors import HostError, MySQLError
from raftctl.mysql.driver import pymysql
from raftctl.mysql.errors import (
    KIND_BY_CODE,
    AccessDenied,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    ServerGone,
    StatementTimeout,
    TooManyConnections,
)
from raftctl.secret import Secret

Row = dict[str, Any]
Password = Secret | Callable[[], Secret]
Argument = str | int | float | Secret | None

# One round trip on connecting. wait_timeout (8 hours by default) must not end an idle connection whose end is
# watched as a sign of death of mysqld; our statements expect the default SQL mode and timestamps in UTC.
_SESSION_SETTINGS = "SET SESSION wait_timeout = 31536000, sql_mode = DEFAULT, time_zone = '+00:00'"
_SERVER_LOST = 2013  # CR_SERVER_LOST
_CREDENTIALS = struct.Struct("3i")  # ucred: process, user, group


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a mysqld is and who we are there. A `unix_socket` wins over `host` and `port`; a `password` that can change
    is asked for at each login.

    TCP connections always use TLS; without a `tls` context the server's certificate is not verified. `dial` makes the
    connection to `unix_socket` in so many seconds when that is on another host; it may raise HostError. `admin_port`
    tells the server's administrative port on this host's loopback, 0 when it is not known: the way in when
    `max_connections` is used up, of which a server keeps one connection in reserve, for whoever comes first."""

    user: str
    password: Password
    host: str = ""
    port: int = 3306
    unix_socket: str = ""
    tls: ssl.SSLContext | None = None
    dial: Callable[[float], socket.socket] | None = None
    admin_port: Callable[[], int] | None = None

    def __str__(self) -> str:
        return self.unix_socket or f"{self.host}:{self.port}"


class _Session(pymysql.connections.Connection):
    """PyMySQL's timeouts are per read; `allow` bounds a whole call to at most twice its timeout."""

    deadline = float("inf")

    def allow(self, timeout: float) -> None:
        self.deadline = time.monotonic() + timeout
        self._read_timeout = self._write_timeout = timeout

    def _read_packet(self, *args: Any) -> Any:
        if time.monotonic() > self.deadline:
            raise pymysql.err.OperationalError(_SERVER_LOST, "timed out") from TimeoutError()
        return super()._read_packet(*args)  # type: ignore[no-untyped-call]


class Connection:
    """One session in autocommit mode, for one thread at a time.

    `timeout` is the deadline of each call in seconds unless the call names another; `thread_id` is the server's
    id of this session, as KILL takes it in another one.
    """

    def __init__(self, session: Any, endpoint: Endpoint, timeout: float) -> None:
        self._session = session
        self.endpoint = endpoint
        self.timeout = timeout
        self.server_version: str = session.get_server_info()
        self.thread_id: int = session.thread_id()

    def execute(self, sql: str, args: Sequence[Argument] = (), *, timeout: float | None = None) -> int:
        """Run a statement and return the number of affected rows. Each `%s` in `sql` is an escaped argument.

        Raises MySQLError, see raftctl.mysql.errors. A Secret among `args` never shows in an error."""
        with self._call(args, timeout), self._session.cursor() as cursor:
            return int(cursor.execute(sql, _plain(args)))

    def query(self, sql: str, args: Sequence[Argument] = (), *, timeout: float | None = None) -> list[Row]:
        """Run a statement and return its rows by column name. Otherwise as `execute`."""
        with self._call(args, timeout), self._session.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute(sql, _plain(args))
            return list(cursor.fetchall())

    def scalar(self, sql: str, args: Sequence[Argument] = (), *, timeout: float | None = None) -> Any:
        """The first column of the first row, None when there is no row. Otherwise as `execute`."""
        with self._call(args, timeout), self._session.cursor() as cursor:
            cursor.execute(sql, _plain(args))
            row = cursor.fetchone()
            return row[0] if row else None

    @property
    def is_open(self) -> bool:
        return bool(self._session.open)

    def fileno(self) -> int:
        """The socket, for an event loop that watches for the server's death; -1 when closed.

        When it is readable between calls, ask `has_hung_up()`."""
        return int(self._session._sock.fileno()) if self.is_open else -1

    def has_hung_up(self) -> bool:
        """Whether the server's end is closed. No round trip; to be called between calls only."""
        if not self.is_open:
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def server_pid(self) -> int | None:
        """The process that listens on the unix socket which this connection was made to (unix(7), SO_PEERCRED).

        None for TCP, and for one that cannot be seen from here."""
        if not self.is_open or self._session._sock.family != socket.AF_UNIX:
            return None
        credentials = self._session._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(credentials)[0]) or None

    def close(self) -> None:
        """Close the socket without a word to the server: never blocks."""
        self._session._force_close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection {self.endpoint.user} at {self.endpoint}>"

    @contextlib.contextmanager
    def _call(self, args: Sequence[Argument], timeout: float | None) -> Iterator[None]:
        if self.is_open:
            self._session.allow(self.timeout if timeout is None else timeout)
        try:
            yield
        except pymysql.MySQLError as error:
            translated = _translate(error, str(self.endpoint), args)
            if isinstance(translated, ConnectionLost | StatementTimeout):
                self.close()
            raise translated from None  # PyMySQL's error may quote the statement and so a secret
        except BaseException:
            self.close()  # interrupted in the middle of an answer
            raise


def connect(endpoint: Endpoint, *, connect_timeout: float = 1.0, timeout: float = 5.0) -> Connection:
    """Open a session. `timeout` becomes the connection's default deadline for a call; both are seconds.

    Raises ConnectFailed (or one of its kinds) or AccessDenied."""
    try:
        return _connect(endpoint, connect_timeout=connect_timeout, timeout=timeout)
    except TooManyConnections:
        port = endpoint.admin_port() if endpoint.admin_port is not None else 0
        if not port:
            raise
    aside = replace(endpoint, unix_socket="", host="127.0.0.1", port=port, admin_port=None)
    return _connect(aside, connect_timeout=connect_timeout, timeout=timeout)


def _connect(endpoint: Endpoint, *, connect_timeout: float, timeout: float) -> Connection:
    password = endpoint.password() if callable(endpoint.password) else endpoint.password
    session: Any = _Session(
        user=endpoint.user,
        password=password.reveal(),
        host=endpoint.host or "localhost",
        port=endpoint.port,
        unix_socket=endpoint.unix_socket or None,
        ssl=None if endpoint.unix_socket else (endpoint.tls or _unverified_tls()),
        ssl_disabled=bool(endpoint.unix_socket),
        connect_timeout=max(connect_timeout, 0.001),
        init_command=_SESSION_SETTINGS,
        autocommit=True,
        charset="utf8mb4",
        defer_connect=True,
    )
    session.allow(connect_timeout)
    try:
        session.connect(_dialled(endpoint, session, connect_timeout))
    except pymysql.MySQLError as error:
        raise _translate_connect(error, str(endpoint)) from None
    return Connection(session, endpoint, timeout)


def _dialled(endpoint: Endpoint, session: Any, timeout: float) -> socket.socket | None:
    """A connection that somebody else makes, None when PyMySQL is to make it."""
    if endpoint.dial is None:
        return None
    try:
        connection = endpoint.dial(timeout)
    except HostError as error:
        raise ConnectFailed(str(error), hint=error.hint) from None
    session._secure = True  # a unix socket behind SSH: passwords may be sent as they are
    return connection


def _unverified_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _plain(args: Sequence[Argument]) -> tuple[object, ...] | None:
    """PyMySQL leaves `%` in the statement alone only when there are no arguments at all."""
    return tuple(arg.reveal() if isinstance(arg, Secret) else arg for arg in args) or None


# --- translation of PyMySQL's errors ------------------------------------------------------------------


def _translate(error: pymysql.MySQLError, where: str, args: Sequence[Argument]) -> MySQLError:
    code, text = _code_and_text(error)
    if isinstance(error.__cause__ or error.__context__, TimeoutError):
        return StatementTimeout(f"{where}: no answer before the deadline", code=code)
    if any(isinstance(arg, Secret) for arg in args):
        # The server quotes the statement from the fault on: escaped, and cut anywhere, so it cannot be masked.
        text = "the server's message is withheld because it may quote a password"
    return KIND_BY_CODE.get(code, MySQLError)(f"{where}: {text} (MySQL error {code})", code=code)


def _translate_connect(error: pymysql.MySQLError, where: str) -> MySQLError:
    code, text = _code_and_text(error)
    cause = getattr(error, "original_exception", None) or error.__cause__ or error.__context__
    if isinstance(cause, TimeoutError):
        return ConnectTimeout(f"{where}: no session before the deadline", code=code)
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return ServerGone(f"{where}: no mysqld listens there", code=code)
    kind = KIND_BY_CODE.get(code, ConnectFailed)
    if not issubclass(kind, ConnectFailed | AccessDenied):
        kind = ConnectFailed  # for example an EOF in the handshake
    return kind(f"{where}: {text} (MySQL error {code})", code=code)


def _code_and_text(error: pymysql.MySQLError) -> tuple[int, str]:
    code, *rest = error.args or (0,)
    if not isinstance(code, int):
        return 0, str(error)
    return code, str(rest[0]) if rest and rest[0] else "the connection is closed"
