"""`GET /metrics` in Prometheus' text format, read from the node at each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from raftctl.cluster.facts import MySQLState
from raftctl.controller.node import Node

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _NodeCollector(Collector):
    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        node, status, state = self._node, self._node.raft.status(), self._node.state
        seen = node.keeper.seen if node.keeper else None
        yield _gauge("raftctl_current_term", "Raft term", status.term)
        yield _labelled("raftctl_state", "1 for the Raft role that this controller has", "state", status.role.value)
        yield _labelled("raftctl_leader", "1 for the Raft leader", "member", status.leader or "none")
        yield CounterMetricFamily("raftctl_election_count", "Elections this controller began", value=node.elections)
        yield _gauge("raftctl_log_index", "Last index of the Raft log", status.last_index)
        yield _gauge(
            "raftctl_active_nodes", "Controllers that this one hears, itself included", len(status.connected) + 1
        )
        yield _labelled("raftctl_primary", "1 for the MySQL primary", "member", state.primary or "none")
        yield _gauge("raftctl_replicas", "Data members beside the primary in the sync set", self._replicas())
        source = seen is not None and seen.semi_sync.source_enabled
        replica = seen is not None and seen.semi_sync.replica_enabled
        yield _gauge("raftctl_semi_sync_enabled", "1 when semi-sync is on here", int(source or replica))
        lag = seen.channel.apply_lag_seconds if seen and seen.channel else None
        if lag is not None:
            yield _gauge("raftctl_replication_lag_seconds", "How far the applier is behind", lag)
        yield _gauge("raftctl_epoch", "Epoch: grows with every change of primary", state.epoch)
        yield _gauge("raftctl_writable", "1 when this mysqld is the writable primary", int(self._writable()))

    def _replicas(self) -> int:
        state = self._node.state
        return len([m for m in state.sync_set if m != state.primary])

    def _writable(self) -> bool:
        mysql = self._node.report().mysql
        return mysql is not None and mysql.state is MySQLState.PRIMARY


def render(node: Node) -> bytes:
    registry = CollectorRegistry()
    registry.register(_NodeCollector(node))
    return generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, value: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    family.add_metric([value], 1)
    return family
