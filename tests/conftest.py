"""Fixtures for every test: real MySQL servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftctl.sandbox.distribution import MySQLDistribution
from tests.support.mysqld import MySQLFactory, mysql_distribution, mysqld_maker


@pytest.fixture(scope="session")
def distribution() -> MySQLDistribution:
    """The MySQL server under test."""
    return mysql_distribution()


@pytest.fixture
def mysqld_factory(distribution: MySQLDistribution) -> Iterator[MySQLFactory]:
    """`mysqld_factory(name, **settings)` starts a mysqld that lives as long as the test."""
    with mysqld_maker(distribution) as make:
        yield make


@pytest.fixture(scope="module")
def module_mysqld_factory(distribution: MySQLDistribution) -> Iterator[MySQLFactory]:
    """As `mysqld_factory`, but the servers live as long as the test module: for tests that leave no trace."""
    with mysqld_maker(distribution) as make:
        yield make
