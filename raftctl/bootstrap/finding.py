"""What a check of a host comes to."""

from __future__ import annotations

import enum

import msgspec


class Severity(enum.StrEnum):
    PASS = "pass"  # noqa: S105  (a result, not a password)
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """One result of one check: `what` was found, and how to `mend` it ("" when it passes)."""

    host: str
    check: str
    severity: Severity
    what: str = ""
    mend: str = ""
