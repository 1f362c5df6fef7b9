"""Connections: deadlines, translated errors, and noticing the server's death."""

from __future__ import annotations

import contextlib
import dataclasses
import ssl

import pytest

from raftctl.errors import MySQLError
from raftctl.mysql.accounts import ADMIN_USER
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.errors import (
    AccessDenied,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    LockWaitTimeout,
    OfflineMode,
    ReadOnly,
    ServerGone,
    StatementTimeout,
    TooManyConnections,
)
from raftctl.mysql.tail import server_files
from raftctl.secret import Secret
from tests.support.mysql_members import DEADLINE_S, PASSWORD, MySQLMember, start_members
from tests.support.mysqld import MySQLFactory, free_port

pytestmark = pytest.mark.mysql


def over_tcp(member: MySQLMember, *, user: str = "app", password: Secret = PASSWORD, **options: object) -> Connection:
    server = member.server
    endpoint = Endpoint(user=user, password=password, host=server.address, port=server.port, **options)  # type: ignore[arg-type]
    return connect(endpoint, connect_timeout=DEADLINE_S, timeout=DEADLINE_S)


def test_tcp_uses_tls_and_a_socket_needs_none(standing: MySQLMember) -> None:
    cipher = "SELECT VARIABLE_VALUE FROM performance_schema.session_status WHERE VARIABLE_NAME = 'Ssl_cipher'"
    with over_tcp(standing, user="raftctl") as tcp, standing.admin() as local:
        assert tcp.scalar(cipher) != ""
        assert local.scalar(cipher) == ""
        assert tcp.server_version == local.scalar("SELECT @@version")
        assert tcp.thread_id == tcp.scalar("SELECT CONNECTION_ID()")
        assert (tcp.server_pid(), local.server_pid()) == (None, standing.server.pid)


def test_a_certificate_that_the_context_does_not_trust_is_refused(standing: MySQLMember) -> None:
    with pytest.raises(ConnectFailed):
        over_tcp(standing, tls=ssl.create_default_context())


def test_arguments_are_escaped_and_percent_signs_are_left_alone(standing: MySQLMember) -> None:
    with standing.app() as conn:
        assert conn.scalar("SELECT %s", (PASSWORD,)) == PASSWORD.reveal()
        assert conn.scalar("SELECT '100%'") == "100%"
        assert conn.query("SELECT %s AS a, %s AS b", (1, None)) == [{"a": 1, "b": None}]
        assert conn.scalar("SELECT 1 WHERE FALSE") is None
        assert conn.execute("INSERT INTO t.t (v) VALUES (%s), (%s)", (1, 2)) == 2
        assert conn.execute("DELETE FROM t.t") == 2


def test_a_late_answer_ends_the_connection(standing: MySQLMember) -> None:
    with standing.app() as conn:
        with pytest.raises(StatementTimeout):
            conn.query("SELECT SLEEP(600)", timeout=0.1)
        assert not conn.is_open
        assert conn.has_hung_up()
        with pytest.raises(ConnectionLost):
            conn.query("SELECT 1")


def test_a_refused_statement_leaves_the_connection_usable(standing: MySQLMember) -> None:
    with standing.app() as conn:
        with pytest.raises(AccessDenied):
            conn.execute("SET GLOBAL read_only = ON")
        with pytest.raises(MySQLError) as error:
            conn.execute("SELEC 1")
        assert error.value.code == 1064
        assert str(standing.server.socket) in str(error.value)
        assert conn.scalar("SELECT 1") == 1


def test_errors_have_kinds(standing: MySQLMember) -> None:
    with standing.root() as root, standing.app() as app, standing.app() as other:
        app.execute("LOCK TABLES t.t WRITE")
        other.execute("SET SESSION lock_wait_timeout = 1")
        with pytest.raises(LockWaitTimeout):
            other.execute("ALTER TABLE t.t COMMENT 'x'")
        app.execute("UNLOCK TABLES")
        root.execute("SET GLOBAL super_read_only = ON")
        with pytest.raises(ReadOnly):
            app.execute("INSERT INTO t.t (v) VALUES (1)")
        root.execute("SET GLOBAL read_only = OFF")
        root.execute("KILL %s", (app.thread_id,))
        with pytest.raises(ConnectionLost):
            app.query("SELECT 1")


def test_why_there_is_no_session(standing: MySQLMember) -> None:
    with pytest.raises(AccessDenied) as error:
        over_tcp(standing, password=Secret("wrong-password"))
    assert "wrong-password" not in str(error.value)
    with standing.root() as root:
        root.execute("ALTER USER app ACCOUNT LOCK")
        with pytest.raises(AccessDenied):
            standing.app()
        root.execute("ALTER USER app ACCOUNT UNLOCK")
        root.execute("CREATE USER narrow IDENTIFIED BY %s WITH MAX_USER_CONNECTIONS 1", (PASSWORD,))
        with over_tcp(standing, user="narrow"), pytest.raises(TooManyConnections):
            over_tcp(standing, user="narrow")
        root.execute("DROP USER narrow")
        root.execute("SET GLOBAL offline_mode = ON")
        with pytest.raises(OfflineMode):
            standing.app()
        root.execute("SET GLOBAL offline_mode = OFF")


def test_nobody_listens() -> None:
    nowhere = [
        Endpoint(user="app", password=PASSWORD, host="127.0.0.1", port=free_port()),
        Endpoint(user="app", password=PASSWORD, unix_socket="/nonexistent/mysqld.sock"),
    ]
    for endpoint in nowhere:
        with pytest.raises(ServerGone):
            connect(endpoint, connect_timeout=DEADLINE_S)


def test_a_frozen_server_and_its_death(mysqld_factory: MySQLFactory) -> None:
    member = start_members(mysqld_factory, "db1")[0]
    endpoint = Endpoint(user="app", password=PASSWORD, unix_socket=str(member.server.socket))
    with member.app() as idle, member.app() as busy:
        member.server.freeze()
        with pytest.raises(ConnectTimeout):
            connect(endpoint, connect_timeout=0.2)
        with pytest.raises(StatementTimeout):
            busy.query("SELECT 1", timeout=0.2)
        member.server.thaw()
        assert idle.scalar("SELECT 1") == 1
        assert not idle.has_hung_up()
        member.server.kill()
        assert idle.has_hung_up()
        with pytest.raises(ConnectionLost):
            idle.query("SELECT 1")
    with pytest.raises(ServerGone):
        connect(endpoint, connect_timeout=DEADLINE_S)


def test_a_password_never_shows(standing: MySQLMember) -> None:
    with standing.admin() as conn:
        with pytest.raises(MySQLError) as error:
            conn.execute("CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = %s NONSENSE", (Secret("hunter2"),))
        assert "hunter2" not in str(error.value)
        assert error.value.__suppress_context__
        assert PASSWORD.reveal() not in repr(conn) + repr(conn.endpoint) + str(conn.endpoint)


def test_the_administrative_port_is_open_when_all_connections_are_used_up(mysqld_factory: MySQLFactory) -> None:
    """A server keeps one connection in reserve; a controller has several, and its guard one more."""
    (db1,) = start_members(mysqld_factory, "db1")
    endpoint = Endpoint(user=ADMIN_USER, password=PASSWORD, unix_socket=str(db1.server.socket))
    with db1.root() as root, contextlib.ExitStack() as clients:
        root.execute("SET GLOBAL max_connections = 10")
        for _ in range(10):  # root's is one of ten, and there is the one in reserve
            clients.enter_context(connect(endpoint, connect_timeout=DEADLINE_S))
        with pytest.raises(TooManyConnections):
            connect(endpoint, connect_timeout=DEADLINE_S)
        files = server_files(root, timeout=DEADLINE_S)
        assert files.admin_port == db1.server.admin_port
        way_in = dataclasses.replace(endpoint, admin_port=lambda: files.admin_port)
        for _ in range(5):
            conn = clients.enter_context(connect(way_in, connect_timeout=DEADLINE_S))
            assert conn.scalar("SELECT 1") == 1
