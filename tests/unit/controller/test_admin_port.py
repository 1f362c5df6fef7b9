"""The controller remembers how to get in when all connections are used up."""

from __future__ import annotations

from pathlib import Path

from raftctl.controller import admin_port, gate_protocol
from raftctl.mysql.tail import ServerFiles


def test_what_the_running_server_said_is_remembered(tmp_path: Path) -> None:
    assert admin_port.remembered(tmp_path) == 0
    files = ServerFiles(datadir="/d", binlog_index="/d/i", system_tablespace="/d/t", admin_port=33062)
    gate_protocol.remember(tmp_path, files)
    assert admin_port.remembered(tmp_path) == 33062


def test_a_file_of_an_earlier_version_names_none(tmp_path: Path) -> None:
    (tmp_path / admin_port.FILES).write_text("{}")
    assert admin_port.remembered(tmp_path) == 0
