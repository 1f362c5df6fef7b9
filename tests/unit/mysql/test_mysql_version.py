"""Which servers are supported, and the statements that were renamed."""

from __future__ import annotations

import pytest

from raftctl.errors import MySQLError
from raftctl.mysql.version import ServerVersion


@pytest.mark.parametrize(
    ("text", "reset"),
    [
        ("8.0.26", "RESET MASTER"),
        ("8.0.36-28 Percona Server", "RESET MASTER"),
        ("8.1.0", "RESET MASTER"),
        ("8.2.0", "RESET BINARY LOGS AND GTIDS"),
        ("8.4.10-ubuntu", "RESET BINARY LOGS AND GTIDS"),
        ("9.7.4-2", "RESET BINARY LOGS AND GTIDS"),
    ],
)
def test_statements_by_version(text: str, reset: str) -> None:
    version = ServerVersion.parse(text)
    assert text.startswith(str(version))
    assert version.reset_binary_logs == reset


@pytest.mark.parametrize("text", ["8.0.25", "5.7.44-log", "5.5.5-10.11.6-MariaDB", "11.4.2-MariaDB-log", "", "nine"])
def test_others_are_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(MySQLError) as error:
        ServerVersion.parse(text)
    assert error.value.hint
    assert text in str(error.value)
