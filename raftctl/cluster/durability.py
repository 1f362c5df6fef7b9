"""The policy in numbers: how many replica acknowledgements the configured durability asks for (rules R2, R6). Pure."""

from __future__ import annotations

import math
from collections.abc import Collection

from raftctl.cluster.state import ClusterState, Settings
from raftctl.errors import UsageError


def required_acks(settings: Settings, data_members: Collection[str]) -> int:
    """The number k of replica acknowledgements that a commit waits for when all `data_members` are in S.

    `majority` is floor(n / 2) of the n data members: with the primary itself that is a majority of them.
    `all` is every replica, `async` none. Raises UsageError for a number that the replicas cannot meet, or an
    unknown word.
    """
    replicas_max = max(len(data_members) - 1, 0)
    acks = _configured(settings.durability, len(data_members))
    if acks > replicas_max:
        raise UsageError(
            f"durability ({acks}): {len(data_members)} data members have at most "
            f"{replicas_max} replicas to acknowledge",
            hint=f"use a number up to {replicas_max}, or majority, all or async",
        )
    return acks


def can_be_followed(settings: Settings, data_members: Collection[str]) -> bool:
    """Whether a leader can do what the settings say with these members. What is in the log stays there: a word that
    nobody knows would keep every leader from its work, for good."""
    if settings.durability_policy not in ("strict", "available"):
        return False
    times = (settings.failover_cooldown, settings.heartbeat_interval, settings.election_timeout)
    if not all(map(math.isfinite, times)) or settings.failover_cooldown < 0:
        return False
    if not 0 < settings.heartbeat_interval < settings.election_timeout:
        return False
    try:
        required_acks(settings, data_members)
    except UsageError:
        return False
    return True


def wanted_acks(state: ClusterState, sync_set: Collection[str]) -> int:
    """The k that a sync set of these members should have by the policy (rule R6).

    `strict`: what is configured, also when too few are left to acknowledge; writes wait then. `available`: what is
    configured as long as all of S together can give it; with the primary alone in S it is 0.
    """
    configured = _configured(state.settings.durability, len(state.lasting_data_members))
    if state.settings.durability_policy == "available":
        return min(configured, max(len(sync_set) - 1, 0))
    return configured


def _configured(durability: str, members: int) -> int:
    match durability:
        case "majority":
            return members // 2
        case "all":
            return max(members - 1, 0)
        case "async":
            return 0
        case word if word.isascii() and word.isdigit() and len(word) < 10 and int(word) > 0:  # int() has a limit, too
            return int(word)
        case word:
            raise UsageError(f"durability ({word}): must be majority, all, async or a number from 1")
