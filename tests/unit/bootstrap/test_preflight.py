"""The judgement on what was found on the hosts: which findings fail, and that each says how to mend it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftctl.bootstrap.finding import Finding, Severity
from raftctl.bootstrap.preflight import (
    ADVISED_SETTINGS,
    REQUIRED_PLUGINS,
    REQUIRED_SETTINGS,
    failures,
    judge,
)
from raftctl.bootstrap.survey import HostSurvey, MySQLSurvey, ReplicationChannel, UserTables
from raftctl.bootstrap.system import Platform
from raftctl.cluster.gtid import GTIDSet
from raftctl.controller.config import Secrets
from raftctl.inventory.load import parse_inventory
from raftctl.mysql.server_config import member_settings
from raftctl.secret import Secret
from tests.support.bootstrap_builders import configuration, mysql_survey

CLUSTER = parse_inventory(b"""
orders:
  vars: {raftctl: }
  hosts:
    db1: {ansible_host: 192.0.2.1}
    db2: {ansible_host: 192.0.2.2}
    w1: {ansible_host: 192.0.2.3, raftctl_role: witness}
""").cluster()

SOME = GTIDSet.parse("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5")
SECRETS = Secrets(cluster_id="this", cluster_key=Secret(""), admin_password=Secret(""), replication_passwords={})


def findings(**db2: Any) -> list[Finding]:
    """Of a cluster where all is well but `db2`, which is found so."""
    surveys = {
        "db1": HostSurvey(name="db1", mysql=mysql_survey(1)),
        "db2": HostSurvey(**{"name": "db2", "mysql": mysql_survey(2)} | db2),
        "w1": HostSurvey(name="w1"),
    }
    return judge(CLUSTER, surveys, SECRETS)


def only_complaint(**db2: Any) -> Finding:
    complaints = [finding for finding in findings(**db2) if finding.severity is not Severity.PASS]
    assert len(complaints) == 1, complaints
    assert complaints[0].host == "db2"
    assert complaints[0].mend
    return complaints[0]


def test_good_hosts_pass_every_check() -> None:
    found = findings()
    assert {finding.severity for finding in found} == {Severity.PASS}
    assert {(finding.host, finding.check) for finding in found} == {
        *(
            (host, check)
            for host in ("db1", "db2")
            for check in ("services", "ports", "mysql", "version", "settings", "privileges", "data", "identity")
        ),
        ("w1", "services"),
        ("w1", "ports"),
    }
    assert all(finding.what for finding in found)


@pytest.mark.parametrize(
    ("found", "check", "what"),
    [
        ({"error": "no way in", "hint": "open it"}, "host", "no way in"),
        ({"services_error": "no supervisor", "hint": "start it"}, "services", "no supervisor"),
        ({"ports_taken": ("raftctl_raft_port 8007",)}, "ports", "raftctl_raft_port 8007 is in use by something else"),
        ({"config_error": "line 1: no"}, "controller", "line 1: no"),
        ({"config": configuration()}, "controller", "configured for a cluster orders with other credentials"),
        ({"mysql": None, "mysql_error": "no mysqld listens there"}, "mysql", "no mysqld listens there"),
        ({"mysql": mysql_survey(2, version="10.11.6-MariaDB-0+deb12u1")}, "version", "is not MySQL's"),
        ({"mysql": mysql_survey(2, version="8.0.25")}, "version", "MySQL 8.0.25 is too old"),
        (
            {"mysql": mysql_survey(2, plugins=frozenset({"clone"}))},
            "plugins",
            "rpl_semi_sync_source, rpl_semi_sync_replica",
        ),
        (
            {"mysql": mysql_survey(2, plugins=frozenset({*REQUIRED_PLUGINS, "rpl_semi_sync_slave"}))},
            "plugins",
            "rpl_semi_sync_slave: the former semi-sync plugins",
        ),
        ({"mysql": mysql_survey(2, tls=False)}, "network", "mysqld offers no TLS"),
        (
            {"mysql": mysql_survey(2, channels=(ReplicationChannel("reports", "h", 1),))},
            "data",
            "replicates from h:1 on the channel 'reports'",
        ),
    ],
)
def test_failures(found: dict[str, Any], check: str, what: str) -> None:
    complaint = only_complaint(**found)
    assert (complaint.severity, complaint.check) == (Severity.FAIL, check)
    assert what in complaint.what


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ({"certificate_days_left": 89.0}, "the controller's certificate expires in 89 days"),
        ({"certificate_days_left": -1.0}, "the controller's certificate has expired"),
        ({"authority_days_left": 89.0}, "the authority that it trusts expires in 89 days"),
        ({"authority_days_left": -1.0}, "the authority that it trusts has expired"),
    ],
)
def test_a_certificate_that_expires_is_warned_of(found: dict[str, float], what: str) -> None:
    complaint = only_complaint(**found)
    assert (complaint.severity, complaint.check, complaint.what) == (Severity.WARN, "certificate", what)


@pytest.mark.parametrize(
    ("name", "value", "check", "what"),
    [
        ("gtid_mode", "OFF_PERMISSIVE", "settings", "gtid_mode is OFF_PERMISSIVE, must be ON: "),
        ("enforce_gtid_consistency", "WARN", "settings", "enforce_gtid_consistency is WARN, must be ON: "),
        ("log_bin", "OFF", "settings", "log_bin is OFF, must be ON: "),
        ("binlog_format", "MIXED", "settings", "binlog_format is MIXED, must be ROW: "),
        ("sync_binlog", "1000", "settings", "sync_binlog is 1000, must be 1: "),
        ("innodb_flush_log_at_trx_commit", "2", "settings", "innodb_flush_log_at_trx_commit is 2, must be 1: "),
        ("sync_relay_log", "10000", "settings", "sync_relay_log is 10000, must be 1: "),
        ("relay_log_recovery", "ON", "settings", "relay_log_recovery is ON, must be OFF: "),
        ("super_read_only", "OFF", "settings", "super_read_only is OFF, must be ON: "),
        ("skip_replica_start", "0", "settings", "skip_replica_start is 0, must be ON: "),
        ("port", "3307", "network", "listens on port 3307, the inventory says 3306"),
        ("bind_address", "127.0.0.1", "network", "listens on 127.0.0.1 only"),
        ("skip_networking", "ON", "network", "does not listen on the network"),
        ("server_id", "1", "identity", "server_id 1 is db1's, too"),
        ("server_uuid", "uuid-1", "identity", "server_uuid uuid-1 is db1's, too"),
    ],
)
def test_settings_that_fail(name: str, value: str, check: str, what: str) -> None:
    server = mysql_survey(2)
    server = msgspec.structs.replace(server, variables=server.variables | {name: value})
    complaint = only_complaint(mysql=server)
    assert (complaint.severity, complaint.check) == (Severity.FAIL, check)
    assert what in complaint.what


@pytest.mark.parametrize("value", ["ON", "1", "on"])
def test_a_switch_may_be_spelled_in_several_ways(value: str) -> None:
    server = mysql_survey(2)
    server = msgspec.structs.replace(server, variables=server.variables | {"gtid_mode": value})
    assert not failures(findings(mysql=server))


@pytest.mark.parametrize("switched", ["super_read_only", "read_only"])
def test_a_value_switched_at_run_time_says_nothing_about_the_next_start(switched: str) -> None:
    server = mysql_survey(2, dynamic=frozenset({switched}))
    server = msgspec.structs.replace(server, variables=server.variables | {"super_read_only": "OFF"})
    assert not failures(findings(mysql=server))


@pytest.mark.parametrize(
    ("server", "what"),
    [
        (mysql_survey(2, tables=UserTables(9, 3)), "3 tables are not InnoDB's"),
        (mysql_survey(2, missing_privileges=("CREATE USER",)), "the login cannot grant CREATE USER"),
        (mysql_survey(2, version="8.0.36"), "MySQL 8.0.36 is older than db1's 8.4.3"),
    ],
)
def test_warnings(server: MySQLSurvey, what: str) -> None:
    complaint = only_complaint(mysql=server)
    assert complaint.severity is Severity.WARN
    assert what in complaint.what


def test_privileges_do_not_matter_once_raftctls_account_works() -> None:
    found = findings(mysql=mysql_survey(2, missing_privileges=("X",), own_account=True))
    assert {finding.severity for finding in found} == {Severity.PASS}


def test_a_wrong_password_says_where_the_right_one_comes_from() -> None:
    complaint = only_complaint(mysql=None, mysql_error="Access denied", mysql_denied=True)
    assert "RAFTCTL_MYSQL_PASSWORD" in complaint.mend


def test_the_clusters_own_controller_is_recognized() -> None:
    own = msgspec.structs.replace(configuration(), cluster_id=SECRETS.cluster_id)
    assert not failures(findings(config=own))


def test_every_judged_setting_is_one_that_members_get() -> None:
    names = {
        s.name for s in member_settings(version=(9, 0, 0), server_id=1, report_host="", report_port=0, admin_port=0)
    }
    assert {*REQUIRED_SETTINGS, *ADVISED_SETTINGS} <= names


PLATFORM = Platform(
    python=(3, 13), machine="x86_64", release="", mysqld_unit="loaded", option_directory="/etc/mysql/conf.d"
)


def settings_of_a_new_host(**variables: str) -> Finding:
    """What is said of them where bootstrap is still to write them."""
    server = mysql_survey(2)
    server = msgspec.structs.replace(server, variables=server.variables | variables, gtid_executed=SOME)
    (found,) = [f for f in findings(mysql=server, platform=PLATFORM) if (f.host, f.check) == ("db2", "settings")]
    return found


def test_a_restart_for_settings_is_announced_to_the_clients_of_a_server_at_work() -> None:
    found = settings_of_a_new_host(read_only="OFF", super_read_only="OFF", binlog_format="MIXED", admin_address="")
    assert found.severity is Severity.WARN
    assert found.what == "bootstrap sets binlog_format, admin_address and restarts mysqld"
    assert "lose their connections" in found.mend


def test_a_restart_of_an_idle_server_is_nobodys_concern() -> None:
    found = settings_of_a_new_host(sync_binlog="0")
    assert (found.severity, found.what) == (Severity.PASS, "bootstrap sets sync_binlog and restarts mysqld")


def test_a_server_at_work_that_has_every_setting_is_not_restarted() -> None:
    found = settings_of_a_new_host(read_only="OFF", super_read_only="OFF", admin_address="127.0.0.1")
    assert (found.severity, found.what) == (Severity.PASS, "as a member's must be, no restart is needed")
