"""A controller's configuration and a surveyed server in good order, to be spoiled by tests."""

from __future__ import annotations

from typing import Any

import msgspec

from raftctl.bootstrap.survey import MySQLSurvey, UserTables
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import Member, MemberRole
from raftctl.controller import config as c
from raftctl.mysql.server_config import member_settings


def configuration(*, node: str = "db1", mysql: bool = True) -> c.ControllerConfig:
    members = [
        Member("db1", MemberRole.DATA, "192.0.2.1:8007", "192.0.2.1:8008", "192.0.2.1:3306", "a", 5),
        Member("w1", MemberRole.WITNESS, "192.0.2.2:8007", "192.0.2.2:8008"),
    ]
    return c.ControllerConfig(
        cluster="orders",
        cluster_id="abc",
        node=node,
        directory="/var/lib/raftctl/state",
        secrets_file="/var/lib/raftctl/secrets.json",
        raft=c.RaftConfig(listen="192.0.2.1:8007", election_timeout=2.0),
        api=c.ApiConfig(listen="192.0.2.1:8008", cert="/c", key="/k", ca="/ca"),
        peers={member.name: member for member in members},
        mysql=c.MySQLConfig(socket="/s", host="192.0.2.1", port=3306) if mysql else None,
        services=c.ServicesConfig(kind="supervisor", socket="/x"),
        hooks={"after_promote": "/h"},
    )


def variables(**changes: str) -> dict[str, str]:
    """As a member's mysqld says them, after `member_settings` went into its option file."""
    settings = member_settings(version=(9, 0, 0), server_id=1, report_host="h", report_port=1, admin_port=2)
    good = {setting.name: setting.value for setting in settings}
    good |= {"log_bin": "ON", "port": "3306", "bind_address": "*", "skip_networking": "OFF"}
    return good | changes


def mysql_survey(number: int = 1, **changes: Any) -> MySQLSurvey:
    good = MySQLSurvey(
        version="8.4.3",
        server_uuid=f"uuid-{number}",
        variables=variables(server_uuid=f"uuid-{number}", server_id=str(number)),
        dynamic=frozenset(),
        plugins=frozenset({"rpl_semi_sync_source", "rpl_semi_sync_replica", "clone"}),
        gtid_executed=GTIDSet(),
        gtid_purged=GTIDSet(),
        tables=UserTables(0, 0),
        tls=True,
    )
    return msgspec.structs.replace(good, **changes)
