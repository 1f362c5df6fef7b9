"""The cluster's MySQL accounts: one that administers, and one for each member to replicate with.

Accounts are made on every member by itself and not through replication (`sql_log_bin = 0`): they must exist
before a member replicates, and locking a member out is a decision about the primary alone (rule R6). One
replication account per member lets the primary keep a single member from acknowledging.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping

from raftctl.errors import UsageError
from raftctl.mysql.client import Connection
from raftctl.mysql.sessions import end_sessions_of
from raftctl.secret import Secret

ADMIN_USER = "raftctl"
REPLICATION_USER_PREFIX = "raftctl_repl_"
REPLICATION_USERS_LIKE = REPLICATION_USER_PREFIX.replace("_", r"\_") + "%"
USER_NAME_LENGTH_MAX = 32  # https://dev.mysql.com/doc/refman/8.4/en/user-names.html

# Each with what stops working without it; tests/integration/mysql/test_accounts.py revokes them one by one.
ADMIN_PRIVILEGES = (
    "SYSTEM_VARIABLES_ADMIN",  # SET GLOBAL: read-only, offline mode, semi-sync; sql_log_bin
    "PERSIST_RO_VARIABLES_ADMIN",  # RESET PERSIST of what would not be safe at the next start
    "CONNECTION_ADMIN",  # KILL; offline_mode; logging in when that is on or max_connections is used up
    "SERVICE_CONNECTION_ADMIN",  # logging in at the administrative port, which max_connections does not close
    "SYSTEM_USER",  # KILL of sessions that have it, such as root's, which offline_mode spares
    "REPLICATION_SLAVE_ADMIN",  # START, STOP, CHANGE and RESET REPLICA
    "REPLICATION CLIENT",  # SHOW BINARY LOGS
    "RELOAD",  # RESET REPLICA ALL; FLUSH
    "PROCESS",  # other accounts' sessions
    "CREATE USER",  # creating and locking replication accounts
    "REPLICATION SLAVE",  # to be granted to replication accounts
    "BACKUP_ADMIN",  # likewise: they CLONE from a donor
    "CLONE_ADMIN",  # CLONE INSTANCE
)


def replication_user(member: str) -> str:
    """The account with which `member` replicates. Raises UsageError when the name gets too long for MySQL."""
    user = REPLICATION_USER_PREFIX + member
    if len(user) > USER_NAME_LENGTH_MAX:
        longest = USER_NAME_LENGTH_MAX - len(REPLICATION_USER_PREFIX)
        raise UsageError(f"member name {member!r} is too long: its MySQL account leaves it {longest} characters")
    return user


def create_admin(conn: Connection, password: Secret, *, user: str = ADMIN_USER) -> None:
    """Create the administrating account, or set its password and privileges. `conn` is a DBA's, such as root's.

    It may log in from anywhere; the client uses TLS or a unix socket. A new one is locked until it has everything:
    whoever is interrupted here finds that it cannot log in, and does it again."""
    with _unlogged_and_writable(conn):
        _create(conn, user, password, require="NONE", options="ACCOUNT LOCK")
        conn.execute(f"GRANT {', '.join(ADMIN_PRIVILEGES)} ON *.* TO %s@'%%' WITH GRANT OPTION", (user,))
        conn.execute("GRANT SELECT ON performance_schema.* TO %s@'%%'", (user,))
        conn.execute("GRANT SELECT (user, host, account_locked) ON mysql.user TO %s@'%%'", (user,))
        conn.execute("ALTER USER %s@'%%' ACCOUNT UNLOCK", (user,))


def create_replication_account(conn: Connection, member: str, password: Secret, *, locked: bool = False) -> None:
    """Create the account that `member` replicates and clones with, or set its password and privileges.

    It is usable over TLS only. `locked`: a new one stays so; whether an account of before is locked does not change."""
    user = replication_user(member)
    with _unlogged_and_writable(conn):
        _create(conn, user, password, require="SSL", options="ACCOUNT LOCK" if locked else "")
        conn.execute("GRANT REPLICATION SLAVE, BACKUP_ADMIN ON *.* TO %s@'%%'", (user,))


def drop_replication_account(conn: Connection, member: str) -> None:
    """Remove the account of a member that left the cluster; nothing happens when there is none."""
    with _unlogged_and_writable(conn):
        conn.execute("DROP USER IF EXISTS %s@'%%'", (replication_user(member),))


def lock_out(conn: Connection, member: str, *, timeout: float) -> None:
    """Keep `member` from receiving and so from acknowledging: lock its account, then end its dump threads.

    Returns when no session of the account is left; a locked account gets no new one (rule R6). Raises
    NotVerified when one is still there after `timeout` seconds. Works while commits wait."""
    user = replication_user(member)
    with _unlogged(conn):
        conn.execute("ALTER USER %s@'%%' ACCOUNT LOCK", (user,), timeout=timeout)
    end_sessions_of(conn, user, timeout=timeout)


def admit(conn: Connection, member: str) -> None:
    """Undo `lock_out`: the member may replicate again."""
    with _unlogged(conn):
        conn.execute("ALTER USER %s@'%%' ACCOUNT UNLOCK", (replication_user(member),))


def lock_exactly(conn: Connection, members: Collection[str], *, known: Collection[str], timeout: float) -> None:
    """Make `members` the only ones of the `known` members locked out here, on a primary or on a server that is about to
    become one. Who is not known stays locked out: it may be a former member that could still acknowledge.

    `timeout` bounds each member's. Raises NotVerified like `lock_out`."""
    rows = conn.query(
        "SELECT user AS user FROM mysql.user WHERE account_locked = 'Y' AND user LIKE %s", (REPLICATION_USERS_LIKE,)
    )
    locked = {row["user"].removeprefix(REPLICATION_USER_PREFIX) for row in rows}
    if not locked and not members:
        return
    with _unlogged_and_writable(conn):
        for member in sorted((locked & set(known)) - set(members)):
            admit(conn, member)
        for member in sorted(members):
            lock_out(conn, member, timeout=timeout)


def keep_accounts(
    conn: Connection,
    passwords: Mapping[str, Secret],
    *,
    of_bootstrap: Mapping[str, Secret | None],
    locked: Collection[str] = (),
    timeout: float,
) -> None:
    """Make the replication accounts here those of the members in `passwords`, each with its password, and those of the
    members `of_bootstrap`: these are there and left alone, unless a person dropped them, or a removal that was taken
    back by a forced membership (None: the password is not known here). New accounts of the members in `locked` are
    locked. Everybody else's is dropped and its sessions are ended.

    `timeout` bounds each. Raises NotVerified when a session does not end."""
    rows = conn.query("SELECT user AS user FROM mysql.user WHERE user LIKE %s", (REPLICATION_USERS_LIKE,))
    present = {row["user"].removeprefix(REPLICATION_USER_PREFIX) for row in rows}
    for member in sorted(present - {*passwords, *of_bootstrap}):
        drop_replication_account(conn, member)
        end_sessions_of(conn, replication_user(member), timeout=timeout)
    missing = {member: password for member, password in of_bootstrap.items() if member not in present}
    for member, password in {**passwords, **missing}.items():
        if password is not None:
            create_replication_account(conn, member, password, locked=member in locked)


def missing_accounts(conn: Connection, members: Collection[str], *, timeout: float) -> list[str]:
    """Those of the members that have no replication account here, sorted. Hangs, as every login does, while a statement
    about accounts waits for its acknowledgement."""
    users = "SELECT user AS user FROM mysql.user WHERE user LIKE %s"
    rows = conn.query(users, (REPLICATION_USERS_LIKE,), timeout=timeout)
    return sorted(set(members) - {row["user"].removeprefix(REPLICATION_USER_PREFIX) for row in rows})


def add_passwords(conn: Connection, admin: Secret, members: Mapping[str, Secret]) -> None:
    """Let the administrating account (this connection's), and the members' replication accounts, log in with these
    passwords as well as with their present ones: all of them, or none. Not to be repeated: the second time would end
    the present ones. Manual: https://dev.mysql.com/doc/refman/8.4/en/password-management.html#dual-passwords"""
    pairs = [(ADMIN_USER, admin), *((replication_user(member), password) for member, password in members.items())]
    specification = "%s@'%%' IDENTIFIED WITH caching_sha2_password BY %s RETAIN CURRENT PASSWORD"
    with _unlogged_and_writable(conn):
        conn.execute(
            f"ALTER USER {', '.join([specification] * len(pairs))}", tuple(part for pair in pairs for part in pair)
        )


def drop_earlier_passwords(conn: Connection, members: Collection[str]) -> None:
    """Undo the half of `add_passwords` that let the earlier ones live on; can be repeated."""
    users = [ADMIN_USER, *map(replication_user, members)]
    specification = "%s@'%%' DISCARD OLD PASSWORD"
    with _unlogged_and_writable(conn):
        conn.execute(f"ALTER USER {', '.join([specification] * len(users))}", tuple(users))


def locked_out(conn: Connection) -> frozenset[str]:
    """Members whose replication account is locked here *and* has no session."""
    rows = conn.query(
        "SELECT user AS user FROM mysql.user WHERE account_locked = 'Y' AND user LIKE %s"
        " AND user NOT IN (SELECT USER FROM performance_schema.processlist WHERE USER IS NOT NULL)",
        (REPLICATION_USERS_LIKE,),
    )
    return frozenset(row["user"].removeprefix(REPLICATION_USER_PREFIX) for row in rows)


def _create(conn: Connection, user: str, password: Secret, *, require: str, options: str = "") -> None:
    """`options` are for a new account only. A server's rules for people's passwords, that one must be changed now and
    then, and to another one, would end replication some day; `raftctl rotate` changes these."""
    identified = (
        f"%s@'%%' IDENTIFIED WITH caching_sha2_password BY %s REQUIRE {require}"
        " PASSWORD EXPIRE NEVER PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY"
    )
    conn.execute(f"CREATE USER IF NOT EXISTS {identified} {options}", (user, password))
    conn.execute(f"ALTER USER {identified}", (user, password))


@contextlib.contextmanager
def _unlogged(conn: Connection) -> Iterator[None]:
    """Gives a statement up before its deadline while a backup makes it wait: an abandoned one would be carried out
    later, when something else may have been decided."""
    lock_wait_s = max(int(conn.timeout) - 1, 1)
    conn.execute("SET SESSION sql_log_bin = 0, SESSION lock_wait_timeout = %s", (lock_wait_s,))
    try:
        yield
    finally:
        if conn.is_open:
            conn.execute("SET SESSION sql_log_bin = 1, SESSION lock_wait_timeout = DEFAULT")


@contextlib.contextmanager
def _unlogged_and_writable(conn: Connection) -> Iterator[None]:
    """Lifts super_read_only only: read_only, when it is on, goes on to stop applications."""
    was_super_read_only = bool(conn.scalar("SELECT @@GLOBAL.super_read_only"))
    if was_super_read_only:
        conn.execute("SET GLOBAL super_read_only = OFF")
    try:
        with _unlogged(conn):
            yield
    finally:
        if was_super_read_only and conn.is_open:
            conn.execute("SET GLOBAL super_read_only = ON")
