"""What Raft's shell (log, transport, driver) reports beside the core's own events."""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class NodeEventKind(enum.StrEnum):
    """Stable names; the daemon logs them."""

    TORN_TAIL_CUT = "torn-tail-cut"  # the log ended in a write that had not been synced; nothing depended on it
    LOG_COMPACTED = "log-compacted"
    SNAPSHOT_TOO_LARGE = "snapshot-too-large"  # so the log is not compacted
    PEER_CONNECTED = "peer-connected"
    PEER_DISCONNECTED = "peer-disconnected"
    CONNECTION_REFUSED = "connection-refused"  # by this node, for a reason of `wire.Refusal`
    REFUSED_BY_PEER = "refused-by-peer"
    ACCEPT_FAILED = "accept-failed"


class NodeEvent(msgspec.Struct, frozen=True):
    """Something that happened and a person may want to know. `detail` holds plain values."""

    kind: NodeEventKind
    detail: dict[str, Any]
