"""Why something is not done. Every refusal has a value that status, history and the CLI show (rule R12)."""

from __future__ import annotations

import enum

import msgspec


class Reason(enum.StrEnum):
    NOT_INITIALIZED = "not-initialized"
    CHANGE_UNDER_WAY = "change-under-way"
    UNKNOWN_MEMBER = "unknown-member"
    NOT_A_DATA_MEMBER = "not-a-data-member"
    ALREADY_PRIMARY = "already-primary"
    NOT_IN_SYNC_SET = "not-in-sync-set"
    LOCKED_OUT = "locked-out"
    NOT_REPORTING = "not-reporting"
    MYSQLD_DOWN = "mysqld-down"
    NOT_REPLICATING = "not-replicating"
    APPLIER_STOPPED = "applier-stopped"
    LAGGING = "lagging"
    ERRANT_TRANSACTIONS = "errant-transactions"
    DAMAGED_DATA = "damaged-data"
    BELOW_FLOOR = "below-floor"
    MISSING_TRANSACTIONS = "missing-transactions"
    NOT_FENCED = "not-fenced"
    TOO_FEW_FENCED = "too-few-fenced"
    TOO_FEW_REPLICAS = "too-few-replicas"
    PRIMARY_ALONE = "primary-alone"
    LEASE_NOT_EXPIRED = "lease-not-expired"
    PRIMARY_UNHEALTHY = "primary-unhealthy"
    PRIMARY_HEALTHY = "primary-healthy"
    PAUSED = "paused"
    AUTOMATIC_OFF = "automatic-off"
    STILL_HEARD = "still-heard"
    COOLDOWN = "cooldown"
    NO_TARGET = "no-target"
    ALREADY_A_MEMBER = "already-a-member"
    ADDRESS_IN_USE = "address-in-use"
    LAST_MEMBER = "last-member"
    WOULD_LOSE_QUORUM = "would-lose-quorum"
    WOULD_LOSE_DURABILITY = "would-lose-durability"
    ALREADY_UNDER_WAY = "already-under-way"
    INVALID_ROLE = "invalid-role"
    INVALID_MEMBER = "invalid-member"
    RAFT_REFUSED = "raft-refused"


class Refusal(msgspec.Struct, frozen=True):
    """`member` is "" when it concerns the cluster; `text` is for people, and so is `hint`: what to do about it."""

    reason: Reason
    text: str
    member: str = ""
    hint: str = ""
