"""The controllers' API, as the commands reach it that log in on the hosts."""

from __future__ import annotations

from raftctl.api_client import ApiClient
from raftctl.hosts.api_dial import dial_either_way
from raftctl.inventory.model import ClusterInventory


def api_of(cluster: ClusterInventory) -> ApiClient:
    """With the operator's certificates as they are now. Raises UsageError."""
    return ApiClient.from_directory(cluster.credentials, dial=dial_either_way(cluster))
