"""An application's database and account, for sandboxes and tests."""

from __future__ import annotations

from raftctl.bootstrap.api import api_of
from raftctl.bootstrap.survey import CALL_SECONDS, admin_endpoint, admin_secret
from raftctl.cluster.status_model import ClusterStatus
from raftctl.errors import NoQuorumError, UsageError
from raftctl.inventory.model import ClusterInventory
from raftctl.mysql.client import connect
from raftctl.secret import Secret

_STATEMENT_SECONDS = 30.0  # a commit may wait for its acknowledgement


def create_application(cluster: ClusterInventory, *, database: str, user: str, password: Secret) -> None:
    """On the primary, create a database and an account from anywhere with all rights on it and no others, or set its
    password. The statements replicate. Raises MySQLError, and NoQuorumError when there is no primary."""
    if "`" in database:
        raise UsageError(f"{database!r} is not a name for a database")
    api = api_of(cluster)
    primary = api.fetch(cluster.members(), "/v1/status", CALL_SECONDS, ClusterStatus).primary
    if not primary:
        raise NoQuorumError(f"{cluster.name} has no primary now", hint="see `raftctl status`")
    endpoint = admin_endpoint(cluster.host(primary), cluster.admin, admin_secret(cluster.admin))
    account = "%s@'%%' IDENTIFIED WITH caching_sha2_password BY %s REQUIRE NONE"
    with connect(endpoint, connect_timeout=CALL_SECONDS, timeout=_STATEMENT_SECONDS) as conn:
        conn.execute(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        conn.execute(f"CREATE USER IF NOT EXISTS {account}", (user, password))
        conn.execute(f"ALTER USER {account}", (user, password))
        conn.execute(f"GRANT ALL ON `{database}`.* TO %s@'%%'", (user,))
