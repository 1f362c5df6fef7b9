"""The cluster's accounts: created locally, locked out while commits wait, and with no privilege too many."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftctl.errors import MySQLError
from raftctl.mysql import accounts
from raftctl.mysql.accounts import ADMIN_PRIVILEGES, ADMIN_USER
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.errors import AccessDenied
from raftctl.mysql.kept_settings import restore
from raftctl.mysql.observe import observe
from raftctl.mysql.replication import stop_replica
from raftctl.mysql.semisync import nudge, waiting_sessions
from raftctl.mysql.sessions import kill
from raftctl.mysql.tail import server_files
from raftctl.secret import Secret
from tests.support.mysql_members import DEADLINE_S, PASSWORD, MySQLMember, Writers, start_members
from tests.support.mysqld import MySQLFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mysql


def test_creating_accounts_is_idempotent_and_local(mysqld_factory: MySQLFactory) -> None:
    member = MySQLMember("db1", mysqld_factory("db1"))
    with member.root() as root:
        for password in (Secret("first"), PASSWORD):
            accounts.create_admin(root, password)
            accounts.create_replication_account(root, "db2", password)
        assert root.scalar("SELECT @@GLOBAL.gtid_executed") == "", "nothing that a replica would be sent"
        assert root.scalar("SELECT @@GLOBAL.super_read_only") == 1
        assert root.scalar("SELECT @@SESSION.sql_log_bin") == 1
        with member.admin() as admin:
            assert observe(admin).super_read_only
            accounts.create_replication_account(admin, "db3", PASSWORD)
            accounts.drop_replication_account(admin, "db3")
            accounts.drop_replication_account(admin, "db3")
        users = root.query("SELECT user AS name FROM mysql.user WHERE user LIKE 'raftctl%'")
        assert {row["name"] for row in users} == {"raftctl", "raftctl_repl_db2"}


def test_a_lockout_works_while_commits_wait_for_the_replica_that_is_locked_out(
    mysqld_factory: MySQLFactory, writers: Writers
) -> None:
    """Rule R6: the replica is frozen in the middle, so its session does not end by itself."""
    db1, db2 = start_members(mysqld_factory, "db1", "db2", required_acks=1)
    with db1.admin() as primary, db2.admin() as replica:
        db2.server.freeze()
        commit = writers.write(db1, 1)
        wait_until(lambda: waiting_sessions(primary) == 1, what="the commit to wait")
        assert accounts.locked_out(primary) == frozenset()

        accounts.lock_out(primary, "db2", timeout=DEADLINE_S)

        assert accounts.locked_out(primary) == {"db2"}
        assert observe(primary).receivers == ()
        db2.server.thaw()
        wait_until(lambda: receiver_error(replica) == 3118, what="db2 to be refused")
        assert waiting_sessions(primary) == 1
        assert not commit.done(), "what it received it could not acknowledge"

        accounts.admit(primary, "db2")
        assert accounts.locked_out(primary) == frozenset()
        wait_until(lambda: observe(primary).semi_sync.clients == 1, what="db2 to be back")
        nudge(primary, timeout=DEADLINE_S)
        assert commit.result(timeout=DEADLINE_S) == 1


def receiver_error(replica: Connection) -> int:
    channel = observe(replica).channel
    assert channel is not None
    return channel.receiver_error_code


def test_lock_exactly_locks_and_admits_on_a_server_about_to_become_primary(mysqld_factory: MySQLFactory) -> None:
    db1, _ = start_members(mysqld_factory, "db1", "db2")
    with db1.admin() as primary:
        for members in (("db2",), (), ("db1", "db2"), ("db1",)):
            accounts.lock_exactly(primary, members, known=("db1", "db2", "db3"), timeout=DEADLINE_S)
            assert accounts.locked_out(primary) == frozenset(members)
        before = observe(primary)
        primary.execute("SET GLOBAL super_read_only = ON")
        accounts.lock_exactly(primary, ("db2",), known=("db1", "db2", "db3"), timeout=DEADLINE_S)
        assert accounts.locked_out(primary) == {"db2"}
        after = observe(primary)
        assert after.super_read_only
        assert after.gtid_executed == before.gtid_executed, "nothing that a replica would be sent"


def test_accounts_follow_the_members(mysqld_factory: MySQLFactory) -> None:
    db1, _ = start_members(mysqld_factory, "db1", "db2")
    with db1.admin() as admin:
        accounts.lock_out(admin, "db2", timeout=DEADLINE_S)
        accounts.lock_exactly(admin, (), known=("db1",), timeout=DEADLINE_S)
        assert accounts.locked_out(admin) == {"db2"}, "a former member is not let in again"
        before = observe(admin)
        since_bootstrap = {"db1": None, "db3": PASSWORD, "db5": None}
        accounts.keep_accounts(admin, {"db4": PASSWORD}, of_bootstrap=since_bootstrap, timeout=DEADLINE_S)
        users = {row["user"] for row in admin.query("SELECT user AS user FROM mysql.user")}
        assert {accounts.replication_user(member) for member in ("db1", "db3", "db4")} <= users
        assert accounts.replication_user("db5") not in users, "nobody knows its password here"
        assert accounts.replication_user("db2") not in users
        assert observe(admin).gtid_executed == before.gtid_executed, "nothing that a replica would be sent"


def test_an_account_that_somebody_dropped_is_missed_and_made_again_as_locked_as_it_was(
    mysqld_factory: MySQLFactory,
) -> None:
    db1, *_ = start_members(mysqld_factory, "db1", "db2", "db3")
    members = ("db1", "db2", "db3")
    with db1.root() as root, db1.admin() as admin:
        assert accounts.missing_accounts(admin, members, timeout=DEADLINE_S) == []
        for member in ("db2", "db3"):
            root.execute(f"DROP USER {accounts.replication_user(member)}")
        assert accounts.missing_accounts(admin, members, timeout=DEADLINE_S) == ["db2", "db3"]
        of_bootstrap = dict.fromkeys(members, PASSWORD)
        accounts.keep_accounts(admin, {}, of_bootstrap=of_bootstrap, locked=("db3",), timeout=DEADLINE_S)
        assert accounts.missing_accounts(admin, members, timeout=DEADLINE_S) == []
        locked = root.query("SELECT user AS user FROM mysql.user WHERE account_locked = 'Y' AND user LIKE 'raftctl%'")
        assert [row["user"] for row in locked] == [accounts.replication_user("db3")]


def test_the_rules_for_peoples_passwords_are_not_those_of_the_clusters_accounts(standing: MySQLMember) -> None:
    """`password_history`, as hardening guides ask for it, refuses the same password a second time."""
    rules = ("password_history = 5", "password_reuse_interval = 90", "default_password_lifetime = 1")
    with standing.root() as root:
        for rule in rules:
            root.execute(f"SET GLOBAL {rule}")
        try:
            for _ in range(3):
                accounts.create_admin(root, PASSWORD)
                accounts.create_replication_account(root, "db2", PASSWORD)
            lifetimes = root.query("SELECT password_lifetime AS days FROM mysql.user WHERE user LIKE 'raftctl%'")
            assert {row["days"] for row in lifetimes} == {0}, "never"
            accounts.drop_replication_account(root, "db2")
        finally:
            for rule in rules:
                root.execute(f"SET GLOBAL {rule.partition(' ')[0]} = DEFAULT")


def test_an_account_stays_locked_when_its_password_is_set_again(standing: MySQLMember) -> None:
    with standing.admin() as admin:
        accounts.create_replication_account(admin, "db2", PASSWORD)
        accounts.lock_out(admin, "db2", timeout=DEADLINE_S)
        accounts.create_replication_account(admin, "db2", PASSWORD)
        assert accounts.locked_out(admin) == {"db2"}
        accounts.drop_replication_account(admin, "db2")


@pytest.mark.parametrize("privilege", ADMIN_PRIVILEGES)
def test_the_admin_has_no_privilege_that_it_does_not_need(standing: MySQLMember, privilege: str) -> None:
    with standing.root() as root:
        accounts.create_admin(root, PASSWORD)
        with standing.admin() as admin:
            NEEDS[privilege](admin)
        root.execute(f"REVOKE {privilege} ON *.* FROM {ADMIN_USER}")
        with standing.admin() as admin, pytest.raises(AccessDenied):
            NEEDS[privilege](admin)
        accounts.create_admin(root, PASSWORD)


def forget_what_was_persisted(admin: Connection) -> None:
    admin.execute("SET PERSIST_ONLY relay_log_recovery = OFF")
    restore(admin, [], ["relay_log_recovery"], timeout=DEADLINE_S)


def grant_replication_account(admin: Connection) -> None:
    accounts.create_replication_account(admin, "db9", PASSWORD)
    accounts.drop_replication_account(admin, "db9")


def kill_root(admin: Connection) -> None:
    endpoint = Endpoint(user="root", password=Secret(""), unix_socket=admin.endpoint.unix_socket)
    with connect(endpoint, connect_timeout=DEADLINE_S) as root:
        kill(admin, root.thread_id)


def log_in_aside(admin: Connection) -> None:
    port = server_files(admin, timeout=DEADLINE_S).admin_port
    endpoint = Endpoint(user=ADMIN_USER, password=PASSWORD, host="127.0.0.1", port=port)
    connect(endpoint, connect_timeout=DEADLINE_S).close()


def see_other_accounts(admin: Connection) -> None:
    if not admin.query("SELECT USER FROM performance_schema.processlist WHERE USER <> %s", (ADMIN_USER,)):
        raise AccessDenied("other accounts' sessions are not shown")


def start_clone(admin: Connection) -> None:
    try:
        admin.execute("CLONE INSTANCE FROM x@nowhere:1 IDENTIFIED BY 'x'")
    except MySQLError as error:
        if (
            error.code != 3869
        ):  # ER_CLONE_SYS_CONFIG: the privilege was there, the donor is not in clone_valid_donor_list
            raise


NEEDS: dict[str, Callable[[Connection], object]] = {
    "SYSTEM_VARIABLES_ADMIN": lambda admin: admin.execute("SET GLOBAL super_read_only = OFF"),
    "PERSIST_RO_VARIABLES_ADMIN": forget_what_was_persisted,
    "SERVICE_CONNECTION_ADMIN": log_in_aside,
    "CONNECTION_ADMIN": lambda admin: admin.execute("SET GLOBAL offline_mode = OFF"),
    "SYSTEM_USER": kill_root,
    "REPLICATION_SLAVE_ADMIN": lambda admin: stop_replica(admin, timeout=DEADLINE_S),
    "REPLICATION CLIENT": lambda admin: admin.query("SHOW BINARY LOGS"),
    "RELOAD": lambda admin: nudge(admin, timeout=DEADLINE_S),
    "PROCESS": see_other_accounts,
    "CREATE USER": grant_replication_account,
    "REPLICATION SLAVE": grant_replication_account,
    "BACKUP_ADMIN": grant_replication_account,
    "CLONE_ADMIN": start_clone,
}
