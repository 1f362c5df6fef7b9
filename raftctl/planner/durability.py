"""How many replica acknowledgements the configured durability asks for (rule R2). Pure."""

from __future__ import annotations

from collections.abc import Collection

from raftctl.cluster.state import Settings
from raftctl.errors import UsageError


def required_acks(settings: Settings, data_members: Collection[str]) -> int:
    """The number k of replica acknowledgements that a commit waits for when all `data_members` are in S.

    `majority` is floor(n / 2) of the n data members: with the primary itself that is a majority of them.
    `all` is every replica, `async` none. Raises UsageError for a number that the replicas cannot meet, or an
    unknown word.
    """
    replicas_max = max(len(data_members) - 1, 0)
    match settings.durability:
        case "majority":
            return len(data_members) // 2
        case "all":
            return replicas_max
        case "async":
            return 0
        case word if word.isascii() and word.isdigit() and int(word) > 0:
            if int(word) > replicas_max:
                raise UsageError(
                    f"durability ({word}): {len(data_members)} data members have at most "
                    f"{replicas_max} replicas to acknowledge",
                    hint=f"use a number up to {replicas_max}, or majority, all or async",
                )
            return int(word)
        case word:
            raise UsageError(f"durability ({word}): must be majority, all, async or a number from 1")
