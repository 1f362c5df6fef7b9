"""`GET /metrics` in Prometheus' text format, read from the node at each scrape."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from raftctl.cluster.facts import MySQLState
from raftctl.controller.node import Node

CONTENT_TYPE = CONTENT_TYPE_LATEST


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """What one scrape tells. `lag_seconds` is None where nobody knows it, and where there is no MySQL."""

    term: int
    role: str
    leader: str
    elections: int
    log_index: int
    controllers: int
    epoch: int
    primary: str
    replicas: int
    writable: bool = False
    semi_sync: bool = False
    lag_seconds: float | None = None


def read(node: Node) -> Sample:
    status, state = node.raft.status(), node.state
    seen, mysql = node.keeper.seen if node.keeper else None, node.report().mysql
    writable = mysql is not None and mysql.state is MySQLState.PRIMARY
    return Sample(
        term=status.term,
        role=status.role.value,
        leader=status.leader or "",
        elections=node.elections,
        log_index=status.last_index,
        controllers=len(status.connected) + 1,
        epoch=state.epoch,
        primary=state.primary or "",
        replicas=len([m for m in state.sync_set if m != state.primary]),
        writable=writable,
        semi_sync=seen is not None and (seen.semi_sync.source_enabled or seen.semi_sync.replica_enabled),
        lag_seconds=0.0 if writable else seen.channel.apply_lag_seconds if seen and seen.channel else None,
    )


def render(sample: Sample) -> bytes:
    registry = CollectorRegistry()
    registry.register(_SampleCollector(sample))
    return generate_latest(registry)


class _SampleCollector(Collector):
    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def collect(self) -> Iterator[Metric]:
        now = self._sample
        lag = math.nan if now.lag_seconds is None else now.lag_seconds
        yield _gauge("raftctl_current_term", "Raft term", now.term)
        yield _labelled("raftctl_state", "1 for the Raft role that this controller has", "state", now.role)
        yield _labelled("raftctl_leader", "1 for the Raft leader", "member", now.leader or "none")
        # It only grows, but a counter's name would have to end in _total.
        yield _gauge("raftctl_election_count", "Elections this controller began since it started", now.elections)
        yield _gauge("raftctl_log_index", "Last index of the Raft log", now.log_index)
        yield _gauge("raftctl_active_nodes", "Controllers that this one hears, itself included", now.controllers)
        yield _labelled("raftctl_primary", "1 for the MySQL primary", "member", now.primary or "none")
        yield _gauge("raftctl_replicas", "Data members beside the primary in the sync set", now.replicas)
        yield _gauge("raftctl_semi_sync_enabled", "1 when semi-sync is on here", now.semi_sync)
        text = "How far the applier is behind; 0 on the primary, NaN when not known"
        yield _gauge("raftctl_replication_lag_seconds", text, lag)
        yield _gauge("raftctl_epoch", "Epoch: grows with every change of primary", now.epoch)
        yield _gauge("raftctl_writable", "1 when this mysqld is the writable primary", now.writable)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, value: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    family.add_metric([value], 1)
    return family
