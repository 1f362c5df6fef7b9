"""Questions to the servers of a sandbox."""

from __future__ import annotations

from pathlib import Path

import pymysql

from raftctl.hosts.services import Unit
from raftctl.sandbox.cluster import Sandbox
from raftctl.sandbox.mysqld import greets
from tests.support.waiting import wait_until


def mysqld_socket(sandbox: Sandbox, name: str) -> Path:
    return sandbox.layout.place(sandbox.directory, sandbox.layout.member(name)).socket


def query(sandbox: Sandbox, name: str, statement: str) -> str:
    """The first value that the statement gives, asked as root through the member's unix socket."""
    path = str(mysqld_socket(sandbox, name))
    connection = pymysql.connect(unix_socket=path, user="root", connect_timeout=10, read_timeout=30)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
    return str(row[0]) if row else ""


def mysqld_pid(sandbox: Sandbox, name: str) -> int | None:
    return sandbox.host(name).services.main_pid(Unit.MYSQLD, timeout=10)


def wait_for_mysqld(sandbox: Sandbox, name: str, *, other_than: int | None = None) -> int:
    """Wait until a mysqld (with another pid than `other_than`) accepts connections; returns its pid."""

    def probe() -> int | None:
        pid = mysqld_pid(sandbox, name)
        return pid if pid != other_than and greets(mysqld_socket(sandbox, name)) else None

    return wait_until(probe, what=f"mysqld of {name} accepts connections", timeout=90)
