"""Carries out the local planner's actions on the own mysqld: one method per action, blocking, each with a deadline."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

from raftctl.api_client import split_address
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import Member
from raftctl.controller import gate_protocol
from raftctl.errors import MySQLError
from raftctl.hosts.services import ServiceManager, Unit
from raftctl.mysql import accounts, blockers, clone, fencing, kept_settings, replication, semisync
from raftctl.mysql.client import Connection, Endpoint, connect
from raftctl.mysql.clone import AfterClone
from raftctl.mysql.errors import LockWaitTimeout
from raftctl.mysql.observe import observe
from raftctl.mysql.replication import Source
from raftctl.mysql.saved import Saved, save_transactions
from raftctl.mysql.sessions import end_own_sessions
from raftctl.mysql.tail import server_files
from raftctl.planner import local as plan
from raftctl.secret import Secret

CONNECT_SECONDS: Final = 1.0
STATEMENT_SECONDS: Final = 5.0
APPLY_SLICE_SECONDS: Final = 0.5  # then the state is looked at again
NUDGE_SECONDS: Final = 1.0
ACCOUNTS_SECONDS: Final = 1.0
START_SECONDS: Final = 5.0
CLONE_SECONDS: Final = 24 * 3600.0


class Hands:
    """Works on one mysqld through a connection of its own. Not thread-safe: one worker thread uses it.

    `spare` are the sessions of the other threads, which the proofs of rule R3 leave alone; `directory` is the
    controller's own; `cloning` is told which CLONE the server knows of before another is sent. What the actions learned
    or proved stays in the attributes until `forget` (mysqld restarted)."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        me: str,
        members: Callable[[], Mapping[str, Member]],
        password_of: Callable[[str, str], Secret],
        services: ServiceManager,
        spare: Callable[[], Collection[int]],
        directory: Path,
        cloning: Callable[[str], None],
    ) -> None:
        self._endpoint = endpoint
        self._me = me
        self._members = members
        self._password_of = password_of
        self._services = services
        self._spare = spare
        self._directory = directory
        self._cloning = cloning
        self._conn: Connection | None = None
        self._source_password = SourcePassword(directory)
        self.forget()

    def forget(self) -> None:
        self.locked: tuple[str, ...] | None = None
        self.source_acks: int | None = None
        self.primary_executed: GTIDSet | None = None
        self.roster: int | None = None
        self.missing: list[str] = []  # whose accounts CheckAccounts did not find
        self.ended: list[str] = []  # whose FreeApplier, FreeAccounts, FreeWriters or EndQueries ended last

    def forget_accounts(self) -> None:
        """Those that are made from the cluster key have another password now."""
        self.roster = None

    def carry_out(self, action: plan.Action) -> None:
        """Returns when the action's effect is verified. Raises MySQLError."""
        _ACTIONS[type(action)](self, action)

    def _open(self) -> Connection:
        if self._conn is None or self._conn.has_hung_up():
            self._conn = connect(self._endpoint, connect_timeout=CONNECT_SECONDS, timeout=STATEMENT_SECONDS)
        return self._conn

    def _address(self, member: str) -> tuple[str, int]:
        address = self._members()[member].mysql
        assert address is not None, f"{member} runs no MySQL"
        return split_address(address)

    # --- closing ---------------------------------------------------------------------------------------

    def _stop_receiver(self, _: plan.StopReceiver) -> None:
        replication.stop_receiver(self._open(), spare=self._spare(), timeout=STATEMENT_SECONDS)

    def _stop_writing(self, _: plan.StopWriting) -> None:
        if not fencing.set_super_read_only(self._open(), timeout=2.0):
            raise LockWaitTimeout("a statement or a commit has not ended within a second")

    def _prove_quiet(self, _: plan.ProveQuiet) -> None:
        conn = self._open()
        # An opening statement that an abandoned session of ours sent could still be on its way.
        end_own_sessions(conn, spare=self._spare(), timeout=STATEMENT_SECONDS)
        fencing.prove_quiet(conn, timeout=2.0)

    def _source_off(self, _: plan.SourceOff) -> None:
        semisync.source_off_if_idle(self._open(), timeout=STATEMENT_SECONDS)

    def _keep_settings(self, action: plan.KeepSettings) -> None:
        kept_settings.restore(self._open(), action.changed, action.persisted, timeout=STATEMENT_SECONDS)

    # --- replication -----------------------------------------------------------------------------------

    def _start_receiver(self, _: plan.StartReceiver) -> None:
        replication.start_receiver(self._open(), timeout=STATEMENT_SECONDS)

    def _start_applier(self, _: plan.StartApplier) -> None:
        replication.start_applier(self._open(), timeout=STATEMENT_SECONDS)

    def _wait_applied(self, _: plan.WaitApplied) -> None:
        conn = self._open()
        received = observe(conn).gtid_received
        replication.wait_applied(conn, received, timeout=APPLY_SLICE_SECONDS)

    def _free_applier(self, _: plan.FreeApplier) -> None:
        self.ended = blockers.free_applier(self._open(), timeout=STATEMENT_SECONDS)

    def _free_accounts(self, _: plan.FreeAccounts) -> None:
        self.ended = blockers.free_accounts(self._open(), timeout=STATEMENT_SECONDS)

    def _free_writers(self, _: plan.FreeWriters) -> None:
        self.ended = blockers.free_writers(self._open(), timeout=STATEMENT_SECONDS)

    def _end_queries(self, _: plan.EndQueries) -> None:
        self.ended = blockers.end_queries(self._open(), timeout=STATEMENT_SECONDS)

    def _forget_source(self, _: plan.ForgetSource) -> None:
        replication.forget_source(self._open(), timeout=STATEMENT_SECONDS)

    def _ask_primary(self, action: plan.AskPrimary) -> None:
        self.primary_executed = self.held_by(action.primary)

    def held_by(self, member: str) -> GTIDSet:
        """What a member's mysqld has executed, received, or written to its binary log before the commit ended. Safe to
        call from any thread. Raises MySQLError.

        What it owns under another server's UUID does not count: its applier may be at work on a transaction of which
        only the beginning was received, and which will never be complete."""
        host, port = self._address(member)
        there = Endpoint(user=self._endpoint.user, password=self._endpoint.password, host=host, port=port)
        with connect(there, connect_timeout=CONNECT_SECONDS, timeout=STATEMENT_SECONDS) as conn:
            seen = observe(conn)
            # A replica may have applied what still waits for an acknowledgement at the primary (AFTER_SYNC).
            return seen.gtid_owned.restrict(seen.server_uuid) | seen.holds

    def _point_to(self, action: plan.PointTo) -> None:
        source = self._source(action.primary)
        replication.point_to(self._open(), source, timeout=STATEMENT_SECONDS)
        self._source_password.remember(source.password)

    @property
    def password_in_use(self) -> bool:
        """Whether mysqld was last told to replicate with the present password. Safe to call from any thread."""
        member = self._members().get(self._me)
        return member is None or self._source_password.is_known(self._password_of(self._me, member.uid))

    def save_lost(self, donor: str) -> Saved | None:
        """Before a rebuild: copy what this server executed and the donor does not have, None when there is nothing.
        Raises MySQLError, OSError, BinlogError."""
        conn = self._open()
        lost = observe(conn).gtid_executed - self.held_by(donor)
        if not lost:
            return None
        files = server_files(conn, timeout=STATEMENT_SECONDS)
        return save_transactions(files, lost, self._directory / gate_protocol.TAILS)

    def _rebuild(self, action: plan.Rebuild) -> None:
        """The gate, which mysqld passes on its way up, sees the mark and has a new server UUID chosen."""
        conn = self._open()
        self._cloning(clone.last_clone(conn))
        mark = self._directory / gate_protocol.NEW_UUID
        mark.touch()
        try:
            after = clone.clone_from(conn, self._source(action.donor), timeout=CLONE_SECONDS)
        except MySQLError:  # refused: the data are still the old ones
            mark.unlink(missing_ok=True)
            raise
        if after is AfterClone.MUST_BE_STARTED:
            self._services.start(Unit.MYSQLD, timeout=START_SECONDS)

    def _source(self, member: str) -> Source:
        host, port = self._address(member)
        return Source(
            host=host,
            port=port,
            user=accounts.replication_user(self._me),
            password=self._password_of(self._me, self._members()[self._me].uid),
        )

    # --- acknowledging and opening ---------------------------------------------------------------------

    def _set_acknowledging(self, action: plan.SetAcknowledging) -> None:
        semisync.become_replica(self._open(), acknowledging=action.on, timeout=STATEMENT_SECONDS)

    def _become_source(self, action: plan.BecomeSource) -> None:
        conn = self._open()
        self.source_acks = None
        if action.acks == 0:
            semisync.stop_waiting(conn, timeout=STATEMENT_SECONDS)
        else:
            if action.acks > semisync.waits_for(conn, timeout=STATEMENT_SECONDS):
                # An abandoned session of ours may still lower it: not after this is reported as done.
                end_own_sessions(conn, spare=self._spare(), timeout=STATEMENT_SECONDS)
            semisync.become_source(conn, action.acks, timeout=STATEMENT_SECONDS)
        self.source_acks = action.acks

    def _lock_accounts(self, action: plan.LockAccounts) -> None:
        known = self._members().keys()
        accounts.lock_exactly(self._open(), action.members, known=known, timeout=STATEMENT_SECONDS)
        self.locked = action.members

    def _keep_accounts(self, action: plan.KeepAccounts) -> None:
        passwords = {name: self._password_of(name, uid) for name, uid in action.members if uid}
        of_bootstrap = {name: self._password_of_bootstrap(name) for name, uid in action.members if not uid}
        self.locked = None  # for accounts that are made anew it is to be proven again
        accounts.keep_accounts(
            self._open(), passwords, of_bootstrap=of_bootstrap, locked=action.locked, timeout=STATEMENT_SECONDS
        )
        self.roster = action.roster

    def _check_accounts(self, action: plan.CheckAccounts) -> None:
        # Of one whose password is not known here, somebody else has to make it again.
        known = [name for name, uid in action.members if uid or self._password_of_bootstrap(name) is not None]
        self.missing = accounts.missing_accounts(self._open(), known, timeout=ACCOUNTS_SECONDS)
        if self.missing:
            self.forget_accounts()

    def _password_of_bootstrap(self, member: str) -> Secret | None:
        try:
            return self._password_of(member, "")
        except KeyError:
            return None

    def _nudge(self, _: plan.Nudge) -> None:
        try:
            semisync.nudge(self._open(), timeout=NUDGE_SECONDS)
        except MySQLError:
            # It waits with the others, or a server that is being closed refuses it: the next one comes with a new
            # session, and what is to be done beside it goes on.
            self._conn = None

    def _go_online(self, _: plan.GoOnline) -> None:
        self._open().execute("SET GLOBAL offline_mode = OFF")

    def _become_writable(self, action: plan.Open) -> None:
        conn = self._open()
        semisync.require_acks(conn, action.acks, timeout=STATEMENT_SECONDS)
        conn.execute("SET GLOBAL read_only = OFF")  # turns super_read_only off as well


class SourcePassword:
    """Remembers, in a file, with which password replication was configured: mysqld does not tell. A digest is enough;
    the password is random and long."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "source-password"
        self._digest = self._path.read_text() if self._path.exists() else ""

    def is_known(self, password: Secret) -> bool:
        return self._digest == _digest(password)

    def remember(self, password: Secret) -> None:
        if not self.is_known(password):
            self._path.write_text(_digest(password))
            self._digest = _digest(password)


def _digest(password: Secret) -> str:
    return hashlib.sha256(password.reveal().encode()).hexdigest()


_ACTIONS: dict[type[plan.Action], Callable[[Hands, Any], None]] = {
    plan.KeepSettings: Hands._keep_settings,
    plan.StopReceiver: Hands._stop_receiver,
    plan.StopWriting: Hands._stop_writing,
    plan.ProveQuiet: Hands._prove_quiet,
    plan.SourceOff: Hands._source_off,
    plan.StartReceiver: Hands._start_receiver,
    plan.StartApplier: Hands._start_applier,
    plan.WaitApplied: Hands._wait_applied,
    plan.FreeApplier: Hands._free_applier,
    plan.FreeAccounts: Hands._free_accounts,
    plan.FreeWriters: Hands._free_writers,
    plan.EndQueries: Hands._end_queries,
    plan.ForgetSource: Hands._forget_source,
    plan.AskPrimary: Hands._ask_primary,
    plan.PointTo: Hands._point_to,
    plan.Rebuild: Hands._rebuild,
    plan.SetAcknowledging: Hands._set_acknowledging,
    plan.BecomeSource: Hands._become_source,
    plan.LockAccounts: Hands._lock_accounts,
    plan.KeepAccounts: Hands._keep_accounts,
    plan.CheckAccounts: Hands._check_accounts,
    plan.Nudge: Hands._nudge,
    plan.GoOnline: Hands._go_online,
    plan.Open: Hands._become_writable,
}
