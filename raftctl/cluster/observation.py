"""What one look at a mysqld saw. Plain data; `raftctl.mysql.observe` fills it in."""

from __future__ import annotations

import enum

import msgspec

from raftctl.cluster.gtid import GTIDSet


class ReceiverState(enum.StrEnum):
    """The replication receiver (IO thread): SERVICE_STATE of performance_schema.replication_connection_status."""

    ON = "ON"
    CONNECTING = "CONNECTING"
    OFF = "OFF"


class Channel(msgspec.Struct, frozen=True):
    """The default replication channel. `apply_lag_seconds` is 0 when all received is applied, None when unknown.
    `heard_seconds` is the age of the last heartbeat or transaction from the source, by the replica's own clock."""

    source_host: str
    source_port: int
    source_user: str
    source_uuid: str
    receiver: ReceiverState
    applier_running: bool
    receiver_error_code: int = 0
    receiver_error: str = ""
    applier_error_code: int = 0
    applier_error: str = ""
    apply_lag_seconds: float | None = None
    heard_seconds: float | None = None


class SemiSync(msgspec.Struct, frozen=True):
    """`source_*`: this server as source; `replica_*`: this server as acknowledging replica. `source_status`: semi-sync
    is in force now (Rpl_semi_sync_source_status); `wait_sessions`: commits that wait for an acknowledgement."""

    source_enabled: bool
    source_status: bool
    required_acks: int
    wait_sessions: int
    clients: int
    replica_enabled: bool
    replica_status: bool

    @property
    def waits_for(self) -> int:
        """How many acknowledgements a commit waits for now. A source whose timeout ended once waits for none until a
        replica has caught up, though all its settings say otherwise."""
        return self.required_acks if self.source_enabled and self.source_status else 0


class MySQLObservation(msgspec.Struct, frozen=True):
    """`gtid_owned` are transactions in the middle of their commit, read *before* `gtid_executed`: a transaction in the
    binary log is in one of the two at any moment, also while it waits for an acknowledgement (rule R6 needs that)."""

    server_uuid: str
    server_id: int
    version: str
    uptime_seconds: int
    read_only: bool
    super_read_only: bool
    offline_mode: bool
    gtid_owned: GTIDSet
    gtid_executed: GTIDSet
    gtid_purged: GTIDSet
    gtid_received: GTIDSet  # RECEIVED_TRANSACTION_SET of the channel
    channel: Channel | None  # None when no source is configured
    semi_sync: SemiSync
    receivers: tuple[str, ...] = ()  # account names of the replicas whose dump threads run here
    donates: bool = False  # a CLONE from here is under way
    relay_log_synced: bool = True  # what is received is on disk before it is acknowledged (sync_relay_log = 1)
    connections: int = 0  # of whomever; a client is refused when there are `connections_max`
    connections_max: int = 0  # 0: unknown
    changed_settings: tuple[str, ...] = ()  # what rule R2 rests on and somebody changed, as `name = value`
    persisted_settings: tuple[str, ...] = ()  # names of what would be otherwise than it should be at the next start

    @property
    def holds(self) -> GTIDSet:
        """Executed or received: what this server has on disk."""
        return self.gtid_executed | self.gtid_received

    @property
    def writable(self) -> bool:
        return not (self.read_only or self.super_read_only or self.offline_mode)
