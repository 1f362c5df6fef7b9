"""How a cluster's status is drawn for a person: a summary line, the members, the issues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftctl.cli.render import Cell, Column, table
from raftctl.cluster.facts import MySQLState
from raftctl.cluster.status_model import ClusterStatus, Health, MemberRow, MySQLRow

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLUMNS = (
    Column("MEMBER"),
    Column("ROLE", rank=6),
    Column("STATE"),
    Column("RAFT", rank=4),
    Column("TERM", rank=8, right=True),
    Column("LAG", rank=1, right=True),
    Column("GTID GAP", rank=3, right=True),
    Column("SEMI-SYNC", rank=2),
    Column("LEASE", rank=5, right=True),
    Column("VIA", rank=7),
)

_STATE_STYLE = {
    MySQLState.PRIMARY: "bold green",
    MySQLState.REPLICA: "green",
    MySQLState.JOINING: "yellow",
    MySQLState.REBUILDING: "yellow",
    MySQLState.FENCED: "red",
    MySQLState.UNRESPONSIVE: "red",
    MySQLState.DOWN: "red",
}
_HEALTH_STYLE = {Health.OK: "bold green", Health.DEGRADED: "bold yellow", Health.CRITICAL: "bold red"}
_ABSENT = Cell("-", "dim")


def draw(status: ClusterStatus, width: int) -> RenderableType:
    """The whole status, for a terminal of `width` characters."""
    from rich.console import Group
    from rich.text import Text

    summary = Text.assemble(
        f"{status.cluster}: ", (status.health.value, _HEALTH_STYLE[status.health]), f"; {summary_text(status)}"
    )
    issues = [
        Text(
            f"{issue.member or status.cluster}: {issue.text} ({issue.code})", "red" if issue.code.critical else "yellow"
        )
        for issue in status.issues
    ]
    members = table(_COLUMNS, [_cells(row, status) for row in status.members], width)
    saved = [
        Text(f"{row.name}: removed transactions are saved in {row.mysql.saved}", "dim")
        for row in status.members
        if row.mysql is not None and row.mysql.saved
    ]
    blank = [Text("")] if issues or saved else []
    return Group(summary, Text(""), members, *blank, *issues, *saved)


def summary_text(status: ClusterStatus) -> str:
    """Quorum, primary, how many failures it can take, transactions at risk: one line."""
    quorum, risk = status.quorum, status.at_risk
    parts = [
        f"quorum {quorum.reachable}/{quorum.voters}" + ("" if quorum.ok else " (lost)"),
        f"primary {status.primary or 'none'}",
        f"can take {count(status.failures_tolerated, 'failure')}",
        "transactions at risk unknown"
        if risk.transactions is None
        else f"{count(risk.transactions, 'transaction')} at risk",
    ]
    if risk.waiting_commits:
        parts.append(f"{count(risk.waiting_commits, 'commit')} waiting")
    if status.pause is not None:
        parts.append("automatic failover paused")
    return ", ".join(parts)


def count(number: int, noun: str) -> str:
    """`1 failure`, `2 failures`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _cells(row: MemberRow, status: ClusterStatus) -> list[Cell]:
    mysql = row.mysql
    return [
        Cell(row.name),
        Cell(row.role),
        _state(row),
        Cell(row.raft.state or "-", "bold" if row.raft.state == "leader" else ""),
        _number(row.raft.term),
        _seconds(mysql.lag_seconds if mysql else None),
        _number(mysql.gtid_gap if mysql else None),
        _semi_sync(mysql, status) if mysql else _ABSENT,
        _seconds(row.lease_seconds),
        Cell(row.via) if row.via else _ABSENT,
    ]


def _state(row: MemberRow) -> Cell:
    if row.via is None:
        return Cell("unreachable", "red")
    if row.mysql is None or row.mysql.state is None:
        return _ABSENT
    state = MySQLState(row.mysql.state)
    return Cell(state, _STATE_STYLE.get(state, ""))


def _semi_sync(mysql: MySQLRow, status: ClusterStatus) -> Cell:
    """On the primary, how many replicas can acknowledge and how many must."""
    if mysql.semi_sync is None:
        return _ABSENT
    if not mysql.semi_sync:
        return Cell("off")
    if mysql.acknowledging_replicas is None:
        return Cell("acks")
    required = status.durability.required_acks  # not known when no controller was asked
    return Cell(f"{mysql.acknowledging_replicas}{'' if required is None else f' (needs {required})'}")


def _number(value: int | None) -> Cell:
    return _ABSENT if value is None else Cell(str(value))


def _seconds(value: float | None) -> Cell:
    return _ABSENT if value is None else Cell(f"{value:.1f}s")
