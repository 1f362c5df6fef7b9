"""The judgement of `raftctl check`, in the words of the Nagios plugin guidelines. Pure.

Without a quorum nothing that is said can be trusted, so every topic is critical then.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

from raftctl.cluster.facts import MySQLState
from raftctl.cluster.status_model import ClusterStatus, IssueCode, MemberRow

LAG_WARNING_SECONDS = 10.0
LAG_CRITICAL_SECONDS = 60.0
TEXTS_MAX = 3  # a pager shows one line


class Level(enum.IntEnum):
    """The values are the exit codes."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Topic(enum.StrEnum):
    ALL = "all"
    QUORUM = "quorum"
    PRIMARY = "primary"
    REPLICATION = "replication"
    LAG = "lag"
    CONTROLLERS = "controllers"


_CODES = {
    Topic.ALL: frozenset(IssueCode) - {IssueCode.REPLICA_LAGGING},
    Topic.QUORUM: frozenset({IssueCode.NO_QUORUM}),
    Topic.PRIMARY: frozenset(
        {
            IssueCode.NOT_INITIALIZED,
            IssueCode.CHANGE_UNDER_WAY,
            IssueCode.NO_PRIMARY,
            IssueCode.PRIMARY_NOT_WRITABLE,
            IssueCode.PRIMARY_UNREACHABLE,
            IssueCode.TWO_WRITABLE,
            IssueCode.TWO_BRANCHES,
            IssueCode.CONNECTIONS_USED_UP,
            IssueCode.DATA_DAMAGED,
        }
    ),
    Topic.REPLICATION: frozenset(
        {
            IssueCode.ACKS_SHORT,
            IssueCode.SEMI_SYNC_OFF,
            IssueCode.MYSQLD_DOWN,
            IssueCode.MYSQLD_UNRESPONSIVE,
            IssueCode.DISK_STALLED,
            IssueCode.DISK_FULL,
            IssueCode.DATA_DAMAGED,
            IssueCode.MYSQLD_UNKNOWN,
            IssueCode.FENCED,
            IssueCode.JOINING,
            IssueCode.REBUILDING,
            IssueCode.REPLICA_NOT_REPLICATING,
            IssueCode.NOT_IN_SYNC_SET,
            IssueCode.NOT_ACKNOWLEDGING,
            IssueCode.ERRANT_TRANSACTIONS,
        }
    ),
    Topic.LAG: frozenset[IssueCode](),
    Topic.CONTROLLERS: frozenset(
        {
            IssueCode.MEMBER_UNREACHABLE,
            IssueCode.NO_LEADER_CONTACT,
            IssueCode.NOT_A_MEMBER,
            IssueCode.CERTIFICATE_EXPIRES,
        }
    ),
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One line of output and the exit code."""

    level: Level
    text: str
    perfdata: tuple[str, ...] = ()

    def line(self) -> str:
        """`RAFTCTL OK - text|perfdata`; a `|` in the text would begin the perfdata."""
        text = " ".join(self.text.replace("|", "/").split())
        return f"RAFTCTL {self.level.name} - {text}" + (f"|{' '.join(self.perfdata)}" if self.perfdata else "")


def judge(
    status: ClusterStatus,
    topic: Topic,
    *,
    warning: float = LAG_WARNING_SECONDS,
    critical: float = LAG_CRITICAL_SECONDS,
) -> Verdict:
    """What monitoring should be told about `topic`; `warning` and `critical` are seconds of replication lag."""
    problems = list(_issues(status, _CODES[topic] | {IssueCode.NO_QUORUM}))
    if topic in (Topic.ALL, Topic.QUORUM):
        problems += _thin_quorum(status)
    if topic in (Topic.ALL, Topic.LAG):
        problems += _lagging(status, warning, critical, unknown_is_problem=topic is Topic.LAG)
    problems.sort(key=lambda problem: -problem[0])
    level = max((found for found, _ in problems), default=Level.OK)
    texts = [text for _, text in problems[:TEXTS_MAX]]
    if len(problems) > TEXTS_MAX:
        texts.append(f"and {len(problems) - TEXTS_MAX} more")
    text = "; ".join(texts) or _healthy_text(status, topic)
    return Verdict(level, f"{status.cluster}: {text}", tuple(_perfdata(status, topic, warning, critical)))


def _issues(status: ClusterStatus, codes: Iterable[IssueCode]) -> Iterable[tuple[Level, str]]:
    for issue in status.issues:
        if issue.code in codes:
            level = Level.CRITICAL if issue.code.critical else Level.WARNING
            yield level, f"{issue.member}: {issue.text}" if issue.member else issue.text


def _thin_quorum(status: ClusterStatus) -> list[tuple[Level, str]]:
    quorum = status.quorum
    if quorum.ok and quorum.reachable == quorum.required < quorum.voters:
        return [(Level.WARNING, f"quorum {quorum.reachable}/{quorum.voters}: no further voter may be lost")]
    return []


def _replicas(status: ClusterStatus) -> list[MemberRow]:
    return [row for row in status.members if row.mysql is not None and row.name != status.primary]


def _lagging(
    status: ClusterStatus, warning: float, critical: float, *, unknown_is_problem: bool
) -> Iterable[tuple[Level, str]]:
    for row in _replicas(status):
        lag = row.mysql.lag_seconds if row.mysql else None
        if lag is None:
            if unknown_is_problem:
                yield Level.WARNING, f"{row.name}: its lag is not known"
        elif lag >= warning:
            level = Level.CRITICAL if lag >= critical else Level.WARNING
            yield level, f"{row.name}: {lag:.1f} s behind"


def _healthy_text(status: ClusterStatus, topic: Topic) -> str:
    quorum = status.quorum
    match topic:
        case Topic.QUORUM:
            return f"quorum {quorum.reachable}/{quorum.voters}, leader {status.leader}, term {status.term}"
        case Topic.PRIMARY:
            return f"primary {status.primary} is writable, epoch {status.epoch}"
        case Topic.REPLICATION:
            return f"{len(_working(status))} of {len(_replicas(status))} replicas replicate"
        case Topic.LAG:
            return f"largest lag {max(_lags(status), default=0.0):.1f} s"
        case Topic.CONTROLLERS:
            return f"{_controllers(status)} of {len(status.members)} controllers answer"
        case _:
            return (
                f"primary {status.primary}, quorum {quorum.reachable}/{quorum.voters}, "
                f"can lose {status.failures_tolerated}"
            )


def _working(status: ClusterStatus) -> list[MemberRow]:
    return [row for row in _replicas(status) if row.mysql and row.mysql.state == MySQLState.REPLICA]


def _lags(status: ClusterStatus) -> list[float]:
    found = (row.mysql.lag_seconds for row in _replicas(status) if row.mysql is not None)
    return [lag for lag in found if lag is not None]


def _controllers(status: ClusterStatus) -> int:
    return sum(1 for row in status.members if row.via is not None and row.raft.state is not None)


def _perfdata(status: ClusterStatus, topic: Topic, warning: float, critical: float) -> Iterable[str]:
    """label=value[unit];warning;critical;min;max"""
    quorum = status.quorum
    every = topic is Topic.ALL
    if every or topic is Topic.QUORUM:
        yield f"voters={quorum.reachable};;{quorum.required}:;0;{quorum.voters}"
        yield f"failures_tolerated={status.failures_tolerated};;;0"
    if every or topic is Topic.PRIMARY:
        yield f"waiting_commits={_or_unknown(status.at_risk.waiting_commits)};;;0"
        yield f"epoch={_or_unknown(status.epoch)};;;0"
    if every or topic is Topic.REPLICATION:
        yield f"replicas={len(_working(status))};;;0;{len(_replicas(status))}"
        yield f"transactions_at_risk={_or_unknown(status.at_risk.transactions)};;;0"
    if every or topic is Topic.LAG:
        for row in _replicas(status):
            if row.mysql is not None and row.mysql.lag_seconds is not None:
                yield f"{row.name}_lag={row.mysql.lag_seconds:.3f}s;{warning:g};{critical:g};0"
    if every or topic is Topic.CONTROLLERS:
        yield f"controllers={_controllers(status)};;;0;{len(status.members)}"


def _or_unknown(value: int | None) -> str:
    return "U" if value is None else str(value)
