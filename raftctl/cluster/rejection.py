"""Why a committed command had no effect: every rejection has a value (rule R12)."""

from __future__ import annotations

import enum


class Rejection(enum.StrEnum):
    """Why a committed command had no effect."""

    STALE = "stale"  # another decision was committed since the proposer looked
    ALREADY_INITIALIZED = "already-initialized"
    NOT_INITIALIZED = "not-initialized"
    WRONG_PHASE = "wrong-phase"
    UNKNOWN_MEMBER = "unknown-member"
    NOT_ELIGIBLE = "not-eligible"  # the promotion target is not a member of S
    BELOW_FLOOR = "below-floor"  # the certificate lacks transactions that the floor holds
    NO_PROOF = "no-proof"  # too few fence reports for rule R3
    INVALID_ACKS = "invalid-acks"  # a number of acknowledgements that rule R6 does not allow now
    INVALID_SET = "invalid-set"  # the sync set or the locked set does not fit the members
    NOT_LOCKED = "not-locked"
    NOTHING_TO_DO = "nothing-to-do"
    INVALID_MEMBER = "invalid-member"  # a name, an address or a place that no member can have
    INVALID_SETTINGS = "invalid-settings"  # the members cannot do what they ask for, or they cannot change so
    ALREADY_A_MEMBER = "already-a-member"
    ADDRESS_IN_USE = "address-in-use"  # another member has it
    CHANGE_UNDER_WAY = "change-under-way"  # another member is on its way out
    STILL_NEEDED = "still-needed"  # the primary, or a member of S
    INVALID_ROLE = "invalid-role"
