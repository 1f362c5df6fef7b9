"""Names of the members' replication accounts."""

from __future__ import annotations

import pytest

from raftctl.errors import UsageError
from raftctl.mysql.accounts import USER_NAME_LENGTH_MAX, replication_user


def test_each_member_has_an_account_of_its_own() -> None:
    assert replication_user("db1") == "raftctl_repl_db1"
    assert len(replication_user("x" * 19)) == USER_NAME_LENGTH_MAX


def test_a_name_that_mysql_would_refuse_is_refused_here() -> None:
    with pytest.raises(UsageError, match="19 characters"):
        replication_user("x" * 20)
