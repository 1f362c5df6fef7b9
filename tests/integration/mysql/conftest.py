"""Fixtures for tests of raftctl.mysql against real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mysql_members import MySQLMember, Writers, start_members
from tests.support.mysqld import MySQLFactory


@pytest.fixture
def writers(mysqld_factory: MySQLFactory) -> Iterator[Writers]:
    """Closed before the servers are killed, which ends the clients that still wait."""
    writers = Writers()
    yield writers
    writers.close()


@pytest.fixture(scope="module")
def standing(module_mysqld_factory: MySQLFactory) -> MySQLMember:
    """One writable server for tests that leave it as they found it."""
    return start_members(module_mysqld_factory, "db1")[0]
