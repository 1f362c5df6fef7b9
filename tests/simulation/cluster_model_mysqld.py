"""A mysqld as the decision core sees it: binary log, relay log, semi-sync, read-only, crash and recovery.

It does what FACTS of real servers say, including the unpleasant ones: turning semi-sync off acknowledges what waits,
`super_read_only` reads 1 while running statements still commit (read_only tells when it is in force), a crash commits
the unacknowledged tail, a number that was removed with its transaction is given again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.cluster.observation import Channel, MySQLObservation, ReceiverState, SemiSync

REFUSED = 1236  # ER_SOURCE_FATAL_ERROR_READING_BINLOG


class Violation(AssertionError):
    """A safety rule was broken; `check` names the checker that saw it."""

    def __init__(self, check: str, text: str) -> None:
        super().__init__(f"{check}: {text}")
        self.check = check


@dataclasses.dataclass(frozen=True, slots=True)
class Transaction:
    """`content` is unique: two transactions with the same GTID and different content are a divergence."""

    uuid: str
    number: int
    content: int

    @property
    def gtid(self) -> tuple[str, int]:
        return self.uuid, self.number

    @property
    def gtids(self) -> GTIDSet:
        return GTIDSet([Interval(self.uuid, "", self.number, self.number)])


@dataclasses.dataclass(slots=True)
class Commit:
    """In the binary log, waiting for acknowledgements. `client` is whether somebody still waits for the answer."""

    transaction: Transaction
    position: int
    client: bool
    ackers: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass(slots=True)
class Dump:
    """A connection of a replica. `acknowledging` was settled when it connected."""

    source: Mysqld
    source_starts: int
    acknowledging: bool
    position: int


class Mysqld:
    def __init__(self, name: str, address: str, acknowledged: Callable[[Mysqld, Transaction], None]) -> None:
        self.name = name
        self.address = address
        self._acknowledged = acknowledged
        self._uuids = 0
        self.starts = 0
        self.alive = False
        self.frozen = False
        self.renew_uuid()
        # On disk.
        self.binlog: list[Transaction] = []
        self.executed: dict[tuple[str, int], int] = {}
        self.executed_set = GTIDSet()
        self.purged = GTIDSet()
        self.relay: list[Transaction] = []
        self.unsynced: list[Transaction] = []  # received, and lost when the host loses power
        self.received_set = GTIDSet()
        self.channel: Mysqld | None = None
        self.locked: set[str] = set()
        self.dropped: set[str] = set()  # hosts without an account here: they are no members
        self.waiting: list[Commit] = []
        self.start()

    def renew_uuid(self) -> None:
        self._uuids += 1
        host = int(self.name.removeprefix("db"))
        self.uuid = f"{host:08x}-0000-0000-0000-{self._uuids:012x}"

    # --- process --------------------------------------------------------------------------------------

    def start(self) -> None:
        """As configured: read-only, following nobody, neither waiting for nor giving acknowledgements."""
        if self.alive:
            return
        self.alive, self.frozen = True, False
        self.starts += 1
        self.read_only = self.super_read_only = True
        self.closing = self.offline = False
        self.running = 0  # statements past the read-only check, not in the binary log yet
        self.killed_running = 0  # of those, whose client is gone
        self.source_enabled, self.wait_for = False, 0
        self.acknowledging = False
        self.receiver = ReceiverState.OFF
        self.receiver_error = 0
        self.applier_running = False
        self.dump: Dump | None = None
        self.gone: frozenset[str] = frozenset()

    def kill(self) -> None:
        """SIGKILL. What is in the binary log is committed by crash recovery, acknowledged or not."""
        if not self.alive:
            return
        self.alive = False
        for commit in self.waiting:
            self._execute(commit.transaction)
        self.waiting = []

    def lose_power(self, keep: int) -> None:
        """As `kill`; of what was received and never synced, only the first `keep` transactions are still there."""
        self.kill()
        for transaction in self.unsynced[keep:]:
            if transaction in self.relay:
                self.relay.remove(transaction)
            self.received_set -= transaction.gtids
        self.unsynced = []

    @property
    def answers(self) -> bool:
        return self.alive and not self.frozen

    @property
    def writable(self) -> bool:
        return self.answers and not (self.read_only or self.super_read_only or self.offline)

    def has(self, transaction: Transaction) -> bool:
        """Executed, waiting or in the relay log: on disk."""
        return (
            self.executed.get(transaction.gtid) == transaction.content
            or any(t == transaction and t not in self.unsynced for t in self.relay)
            or any(c.transaction == transaction for c in self.waiting)
        )

    # --- writing --------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A client's statement passes the read-only check."""
        if self.writable:
            self.running += 1

    def progress(self, content: int) -> Transaction | None:
        """One running statement reaches the binary log."""
        if not self.answers or not self.running:
            return None
        self.running -= 1
        client = self.killed_running <= self.running
        self.killed_running = min(self.killed_running, self.running)
        transaction = Transaction(self.uuid, self._next_number(), content)
        self.log(transaction, client=client)
        return transaction

    def nudge(self, content: int) -> None:
        if self.writable:
            self.log(Transaction(self.uuid, self._next_number(), content), client=False)

    def _next_number(self) -> int:
        taken = {c.transaction.number for c in self.waiting if c.transaction.uuid == self.uuid}
        number = 1
        own = list(self.executed_set.restrict(self.uuid).intervals())
        if own and own[0].first == 1:
            number = own[0].last + 1
        while number in taken or (self.uuid, number) in self.executed:
            number += 1
        return number

    def log(self, transaction: Transaction, *, client: bool) -> None:
        self.binlog.append(transaction)
        self.waiting.append(Commit(transaction, len(self.binlog), client))
        self._release()

    def acknowledge(self, member: str, position: int) -> None:
        for commit in self.waiting:
            if commit.position <= position:
                commit.ackers.add(member)
        self._release()

    def _release(self) -> None:
        """Engine commits, in the order of the binary log, of what has its acknowledgements (AFTER_SYNC)."""
        while self.waiting:
            commit = self.waiting[0]
            if self.source_enabled and len(commit.ackers) < self.wait_for:
                return
            self.waiting.pop(0)
            self._execute(commit.transaction)
            if commit.client:
                self._acknowledged(self, commit.transaction)

    def _execute(self, transaction: Transaction) -> None:
        self.executed[transaction.gtid] = transaction.content
        self.executed_set |= transaction.gtids

    def settle(self) -> None:
        """`SET GLOBAL super_read_only = ON` returns once nothing is in flight."""
        if self.answers and self.closing and not self.running and not self.waiting:
            self.closing = False
            self.read_only = True

    # --- replicating ----------------------------------------------------------------------------------

    def connect(self, reachable: Callable[[str, str], bool]) -> None:
        """The receiver's connection is made, or lost."""
        source = self.channel
        if not self.answers or self.receiver is ReceiverState.OFF or source is None:
            return
        ok = source.answers and reachable(self.name, source.name)
        if self.dump is not None:
            if not ok or self.dump.source_starts != source.starts or self.name in source.gone:
                self.dump, self.receiver = None, ReceiverState.CONNECTING
            return
        if not ok or self.name in source.locked | source.dropped:
            return
        mine = self.executed_set | self.received_set
        served = source.executed_set.restrict(source.uuid) | _gtids(c.transaction for c in source.waiting)
        if not source.purged <= mine or not mine.restrict(source.uuid) <= served:
            self.receiver, self.receiver_error = ReceiverState.OFF, REFUSED
            return
        source.gone -= {self.name}
        self.dump = Dump(source, source.starts, self.acknowledging, 0)
        self.receiver = ReceiverState.ON

    def receive(self, reachable: Callable[[str, str], bool], count: int) -> Dump | None:
        """Up to `count` transactions reach the relay log. Returns the connection when an acknowledgement is due."""
        self.connect(reachable)
        dump = self.dump
        if dump is None or not self.answers or not dump.source.answers:
            return None
        got = False
        while dump.position < len(dump.source.binlog) and count:
            transaction = dump.source.binlog[dump.position]
            dump.position += 1
            if transaction.gtid in self.executed or self.received_set.has(*transaction.gtid):
                continue
            self.relay.append(transaction)
            if not self.acknowledging:
                self.unsynced.append(transaction)
            self.received_set |= transaction.gtids
            got = True
            count -= 1
        return dump if got and dump.acknowledging else None

    def apply(self) -> None:
        """The applier executes the next received transaction; as a semi-sync source it waits for acknowledgements."""
        if not self.answers or not self.applier_running or not self.relay:
            return
        transaction = self.relay[0]
        if any(c.transaction.gtid == transaction.gtid for c in self.waiting):
            return
        self.relay.pop(0)
        if transaction.gtid not in self.executed:
            self.log(transaction, client=False)

    # --- what controllers do --------------------------------------------------------------------------

    def stop_receiver(self) -> None:
        self.receiver, self.dump = ReceiverState.OFF, None
        self.unsynced = []

    def start_receiver(self) -> None:
        if self.channel is not None and self.receiver is ReceiverState.OFF:
            self.receiver, self.receiver_error = ReceiverState.CONNECTING, 0

    def point_to(self, source: Mysqld) -> None:
        self._lose_relay_log("repointed")
        self.channel = source
        self.receiver_error = 0

    def forget_source(self) -> None:
        self._lose_relay_log("its source forgotten")
        self.channel = None

    def _lose_relay_log(self, how: str) -> None:
        if self.relay:
            raise Violation("R5", f"{self.name} {how} with {len(self.relay)} unapplied transactions")
        self.stop_receiver()
        self.received_set = GTIDSet()

    def set_acknowledging(self, on: bool) -> None:
        """The flag is only read when the receiver connects, so a running one is restarted."""
        running = self.receiver is not ReceiverState.OFF
        self.stop_receiver()
        self.acknowledging = on
        if running:
            self.start_receiver()

    def become_source(self, acks: int) -> None:
        self.source_enabled, self.wait_for = acks > 0, acks
        self._release()

    def lock_accounts(self, members: Iterable[str]) -> None:
        self.locked = set(members)
        self.gone |= self.locked

    def open(self) -> None:
        self.read_only = self.super_read_only = self.closing = False

    def stop_writing(self) -> None:
        self.super_read_only = self.closing = True
        self.settle()

    def stop_writing_timed_out(self) -> None:
        if self.closing:
            self.closing = self.super_read_only = False

    def go_offline(self) -> None:
        """First rung of the fencing ladder: clients get an error, their commits go on waiting."""
        self.offline = True
        self.killed_running = self.running
        for commit in self.waiting:
            commit.client = False

    def fence(self) -> None:
        """The whole ladder: read-only when that is possible at once, else SIGKILL."""
        self.go_offline()
        if self.running or self.waiting:
            self.kill()
        else:
            self.read_only = self.super_read_only = True
            self.closing = False

    def wipe(self, *, renew_uuid: bool) -> None:
        """CLONE begins: the data is gone; the server is not there until it ends."""
        self.kill()
        self.binlog, self.executed, self.executed_set = [], {}, GTIDSet()
        self.purged, self.received_set, self.relay, self.channel = GTIDSet(), GTIDSet(), [], None
        self.unsynced = []
        if renew_uuid:
            self.renew_uuid()

    def cloned_from(self, donor: Mysqld) -> None:
        """The donor's data without its binary log, and its replication channel as it is stored in tables."""
        self.executed, self.executed_set = dict(donor.executed), donor.executed_set
        self.purged = donor.executed_set
        self.channel = donor.channel

    # --- observing ------------------------------------------------------------------------------------

    def observe(self, *, clients: int, donates: bool = False) -> MySQLObservation:
        return MySQLObservation(
            server_uuid=self.uuid,
            server_id=1,
            version="8.4.0",
            uptime_seconds=1,
            read_only=self.read_only,
            super_read_only=self.super_read_only,
            offline_mode=self.offline,
            gtid_owned=_gtids(c.transaction for c in self.waiting),
            gtid_executed=self.executed_set,
            gtid_purged=self.purged,
            gtid_received=self.received_set,
            channel=self._channel(),
            semi_sync=SemiSync(
                source_enabled=self.source_enabled,
                source_status=self.source_enabled,
                required_acks=self.wait_for,
                wait_sessions=len(self.waiting) if self.source_enabled else 0,
                clients=clients,
                replica_enabled=self.acknowledging,
                replica_status=bool(self.dump and self.dump.acknowledging),
            ),
            donates=donates,
            relay_log_synced=self.acknowledging,
        )

    def _channel(self) -> Channel | None:
        if self.channel is None:
            return None
        host, port = self.channel.address.rsplit(":", 1)
        return Channel(
            source_host=host,
            source_port=int(port),
            source_user="",
            source_uuid="",
            receiver=self.receiver,
            applier_running=self.applier_running,
            receiver_error_code=self.receiver_error,
            receiver_error="the source purged required binary logs" if self.receiver_error else "",
            apply_lag_seconds=0.0 if not self.relay else None,
            heard_seconds=0.5 if self.dump and self.dump.source.answers else 10.0,
        )


def _gtids(transactions: Iterable[Transaction]) -> GTIDSet:
    return GTIDSet(Interval(t.uuid, "", t.number, t.number) for t in transactions)
