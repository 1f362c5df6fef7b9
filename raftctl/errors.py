"""Every error that raftctl raises on purpose.

    RaftctlError                 what and why in one line; `hint` says what to do; `exit_code` for the CLI
    +-- UsageError               bad flags or a bad inventory                                  exit 2
    +-- NoQuorumError            no quorum, or nothing could be reached                        exit 3
    +-- RefusedError             a decision was refused; carries the reason value              exit 1
    +-- HostError                a host could not be reached or changed                        exit 1
    +-- MySQLError               a MySQL call failed (see raftctl.mysql.client)                exit 1
    +-- CorruptLogError          the write-ahead log is damaged in the middle                  exit 1

Each package derives its own from these, beside what raises them: `mysql.errors`, `consensus.types` (NotLeader,
ChangeRefused), `raftnode.waiting` (ProposalLost), `raftnode.wal` (WalWriteError, LogInUseError, LogIdentityError).
Errors of libraries are translated where the library is called, and nowhere else.
"""

from __future__ import annotations


class RaftctlError(Exception):
    """An error for a person: `str(error)` says what and why, `hint` what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(RaftctlError):
    """A flag, a name or the inventory is wrong. Nothing was done."""

    exit_code = 2


class NoQuorumError(RaftctlError):
    """The controllers have no quorum, or no member could be reached."""

    exit_code = 3


class RefusedError(RaftctlError):
    """A change was refused for a reason that `reason` names (the value of a refusal enum)."""

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class HostError(RaftctlError):
    """A host could not be reached, or a command or file operation on it failed."""


class MySQLError(RaftctlError):
    """A MySQL call failed. `code` is the server's or client's error number, 0 when there is none."""

    def __init__(self, message: str, *, code: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class CorruptLogError(RaftctlError):
    """The write-ahead log is damaged before its last record: not a torn tail, so nothing is guessed."""
