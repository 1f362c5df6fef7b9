"""What a controller makes of its mysqld's answers."""

from __future__ import annotations

import pytest

from raftctl.cluster.facts import MySQLState
from raftctl.controller.observer import Observer
from raftctl.mysql.accounts import ADMIN_USER
from raftctl.mysql.client import Endpoint
from raftctl.secret import Secret
from tests.support.mysql_members import PASSWORD, MySQLMember
from tests.support.mysqld import MySQLFactory

pytestmark = pytest.mark.mysql


def endpoint(socket: object, password: Secret = PASSWORD, user: str = ADMIN_USER) -> Endpoint:
    return Endpoint(user=user, password=password, unix_socket=str(socket))


def test_a_refused_login_is_told_with_what_mends_it(standing: MySQLMember) -> None:
    observer = Observer(endpoint=endpoint(standing.server.socket, Secret("another")), patience=lambda: 2.0)
    look = observer.look()
    assert (look.state, look.observation) == (MySQLState.UNKNOWN, None)
    assert "Access denied" in look.error
    assert "`raftctl bootstrap` mends" in look.error


@pytest.mark.parametrize(("patience", "counts"), [(4.0, 4.0), (0.5, 2.0)])
def test_a_server_that_hangs_is_unresponsive_when_patience_is_over(
    mysqld_factory: MySQLFactory, patience: float, counts: float
) -> None:
    now = 100.0
    server = mysqld_factory("db1")
    observer = Observer(
        endpoint=endpoint(server.socket, Secret(""), "root"), patience=lambda: patience, clock=lambda: now
    )
    assert observer.look().observation
    server.freeze()
    assert observer.look().state is None, "slow is not dead"
    now += counts - 1.1  # a look that timed out has waited for a second
    assert observer.look().state is None
    now += 0.2
    assert observer.look().state is MySQLState.UNRESPONSIVE
