"""What a person with all privileges does on a replica by mistake."""

from __future__ import annotations

from raftctl.cluster.gtid import GTIDSet
from raftctl.errors import MySQLError
from raftctl.mysql.client import connect
from tests.support.stage import Stage
from tests.support.waiting import wait_until

_CREATE = "CREATE USER IF NOT EXISTS 'made_by_mistake'@'localhost' ACCOUNT LOCK"
_DROP = "DROP USER IF EXISTS 'made_by_mistake'@'localhost'"


def write_errant(stage: Stage, member: str) -> GTIDSet:
    """Returns what it was."""
    before = stage.executed(member)
    _insist(stage, member, _CREATE, log=True)
    with connect(stage.own_endpoint(member), timeout=10.0) as conn:
        uuid = conn.scalar("SELECT @@server_uuid")
    return (stage.executed(member) - before).restrict(uuid)


def undo_errant(stage: Stage, member: str) -> None:
    """Without another errant write."""
    _insist(stage, member, _DROP, log=False)


def _insist(stage: Stage, member: str, statement: str, *, log: bool) -> None:
    """Until the member's controller, which makes its server read-only again, was not quicker."""

    def attempt() -> bool:
        try:
            with connect(stage.own_endpoint(member), timeout=10.0) as conn:
                conn.execute("SET SESSION sql_log_bin = %s", (int(log),))
                conn.execute("SET GLOBAL super_read_only = OFF")
                conn.execute(statement)
                conn.execute("SET GLOBAL super_read_only = ON")
        except MySQLError:
            return False
        return True

    wait_until(attempt, what=f"{statement} on {member}")
