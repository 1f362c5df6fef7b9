"""Members of a cluster without controllers: real servers with the cluster's accounts, replicating."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from raftctl.mysql.accounts import ADMIN_USER, create_admin, create_replication_account, replication_user
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.errors import StatementTimeout
from raftctl.mysql.fencing import allow_writes
from raftctl.mysql.replication import Source, point_to, start_applier, start_receiver, wait_receiving
from raftctl.mysql.semisync import become_replica, become_source
from raftctl.secret import Secret
from tests.support.mysqld import MySQLFactory, RunningMySQL
from tests.support.waiting import wait_until

PASSWORD = Secret('it\'s a \\ 100% "secret"')
DEADLINE_S = 60.0


class MySQLMember:
    """One server with the accounts of a cluster; `admin()` is what a controller has, `app()` what a client has."""

    def __init__(self, name: str, server: RunningMySQL) -> None:
        self.name = name
        self.server = server

    def root(self) -> Connection:
        return self._connect("root", Secret(""))

    def admin(self) -> Connection:
        return self._connect(ADMIN_USER, PASSWORD)

    def app(self) -> Connection:
        return self._connect("app", PASSWORD)

    def as_source_of(self, member: MySQLMember) -> Source:
        return Source(
            host=self.server.address,
            port=self.server.port,
            user=replication_user(member.name),
            password=PASSWORD,
        )

    def _connect(self, user: str, password: Secret) -> Connection:
        endpoint = Endpoint(user=user, password=password, unix_socket=str(self.server.socket))
        return connect(endpoint, connect_timeout=DEADLINE_S, timeout=DEADLINE_S)


def start_members(make: MySQLFactory, *names: str, required_acks: int = 0) -> list[MySQLMember]:
    """Servers that replicate from the first, which is writable and has an empty table `t.t (id, v)`."""
    members = [MySQLMember(name, make(name)) for name in names]
    for member in members:
        with member.root() as root:
            create_admin(root, PASSWORD)
            for other in names:
                create_replication_account(root, other, PASSWORD)
    primary, *replicas = members
    with primary.admin() as admin:
        allow_writes(admin, timeout=DEADLINE_S)
    with primary.root() as root:
        root.execute("CREATE DATABASE t")
        root.execute("CREATE TABLE t.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)")
        root.execute("CREATE USER app IDENTIFIED BY %s", (PASSWORD,))
        root.execute("GRANT ALL ON t.* TO app")
    for replica in replicas:
        follow(replica, primary)
    if required_acks:
        with primary.admin() as admin:
            become_source(admin, required_acks, timeout=DEADLINE_S)
    return members


def follow(replica: MySQLMember, source: MySQLMember) -> None:
    with replica.admin() as admin:
        point_to(admin, source.as_source_of(replica), timeout=DEADLINE_S)
        become_replica(admin, acknowledging=True, timeout=DEADLINE_S)
        start_receiver(admin, timeout=DEADLINE_S)
        start_applier(admin, timeout=DEADLINE_S)
        assert wait_receiving(admin, timeout=DEADLINE_S)


def executed(member: MySQLMember) -> str:
    with member.admin() as admin:
        return str(admin.scalar("SELECT @@GLOBAL.gtid_executed"))


def values(member: MySQLMember) -> list[int]:
    """The values in table t, in the order of writing."""
    with member.root() as root:
        return [row["v"] for row in root.query("SELECT v FROM t.t ORDER BY id")]


def wait_for_stuck_account_statement(conn: Connection) -> None:
    """Until an account statement waits for its acknowledgement. It owns a GTID before that; when it waits, what reads
    the privilege tables hangs. `conn` is of no use then."""
    wait_until(lambda: conn.scalar("SELECT @@GLOBAL.gtid_owned"), what="the statement to own a GTID")
    wait_until(lambda: _hangs(conn), what="the statement to wait")


def _hangs(conn: Connection) -> bool:
    try:
        conn.scalar("SELECT COUNT(*) FROM performance_schema.global_status", timeout=0.3)
    except StatementTimeout:
        return True
    return False


class Writers:
    """Clients that write in the background, each with a session of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=8)
        self._connections: list[Connection] = []

    def write(self, member: MySQLMember, value: int) -> Future[int]:
        return self.execute(member.app(), f"INSERT INTO t.t (v) VALUES ({value:d})")

    def execute(self, conn: Connection, sql: str) -> Future[int]:
        """The future's exception is what the client got instead of an OK."""
        self._connections.append(conn)
        return self._threads.submit(conn.execute, sql, timeout=10 * DEADLINE_S)

    def close(self) -> None:
        """The servers must be gone or about to answer: a thread ends when its client is answered."""
        self._threads.shutdown(wait=False, cancel_futures=True)
