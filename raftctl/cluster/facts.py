"""What one controller knows about itself and its mysqld: a report to the leader, and an answer at the API."""

from __future__ import annotations

import enum

import msgspec

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import ClusterState

STALLED_SECONDS = 5.0


class MySQLState(enum.StrEnum):
    """What a member's mysqld is, as its own controller sees it."""

    PRIMARY = "primary"  # writable, in the current epoch
    REPLICA = "replica"  # read-only, replicating from the current primary
    JOINING = "joining"  # read-only, on its way to become a replica or the primary
    REBUILDING = "rebuilding"  # CLONE is replacing its data
    FENCED = "fenced"  # kept from serving: offline, or read-only because of a change of primary
    UNRESPONSIVE = "unresponsive"  # the process lives and does not answer in time
    DOWN = "down"  # no process, or nothing listens
    UNKNOWN = "unknown"  # not observed yet


class MySQLFacts(msgspec.Struct, frozen=True):
    """`observation` is the last one; while `state` is DOWN or UNRESPONSIVE it is what was seen before.
    `disk_waits_seconds`: for how long the disk of mysqld's files has been full, or has completed no write although one
    is due; `disk_full`: which directory has no space, "" for none.
    `damage`: what InnoDB said about damaged data, "" when it said nothing. `saved`: the latest file
    of transactions that were removed here, "" without any. `stranded`: why only a CLONE can make a replica
    of the sync set useful again, "" when it is not so. `incomplete`: a CLONE began here and did not come to its end, so
    that nothing is held, whatever was seen."""

    state: MySQLState
    observation: MySQLObservation | None = None
    error: str = ""
    errant: GTIDSet = GTIDSet()  # what it executed and the primary did not
    disk_waits_seconds: float = 0.0
    disk_full: str = ""
    damage: str = ""
    saved: str = ""
    stranded: str = ""
    incomplete: bool = False

    @property
    def disk_stalled(self) -> bool:
        return self.disk_waits_seconds >= STALLED_SECONDS


class RaftFacts(msgspec.Struct, frozen=True):
    state: str  # leader, follower, ...
    term: int
    leader: str
    commit_index: int
    applied_index: int
    log_index: int
    voters: tuple[str, ...] = ()  # of the configuration in force here
    learners: tuple[str, ...] = ()


class CertificateFacts(msgspec.Struct, frozen=True):
    """The certificate that a controller uses. Serial numbers are hexadecimal; `authorities` are those it trusts, and
    `authority_days_left` is the time until the last of them expires."""

    serial: str
    days_left: float
    authorities: tuple[str, ...]
    authority_days_left: float | None = None


class MemberReport(msgspec.Struct, frozen=True):
    """A controller's word about its own host.

    `version` is the state version that it acts on. `fenced_epoch` is the epoch for which it keeps the promise of
    rule R3: 0, or the epoch of a begun change of primary for which this member, a replica, receives nothing from the
    previous primary any more, or, the previous primary, is read-only with nothing in flight (or its process is gone
    and came back read-only). `holds` is then the set executed or received *after* that promise took effect.
    `locked` are the members that this primary verifiably keeps from acknowledging, `source_acks` the number of
    acknowledgements that it verifiably waited for since before `mysql.observation` was made (None: not proven).
    """

    member: str
    seq: int
    version: int
    epoch: int
    fenced_epoch: int = 0
    holds: GTIDSet = GTIDSet()
    locked: tuple[str, ...] = ()
    source_acks: int | None = None
    lease_seconds: float | None = None  # the primary's: how long it still holds
    mysql: MySQLFacts | None = None  # None on a witness
    note: str = ""  # what it is doing or what stops it, one line, for people


class MemberFacts(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/member`. `state` is the cluster state applied here; `connected` are the peers whose
    controllers this one hears; `quorum_contact_seconds` is the age of the leader's last contact with a majority (leader
    only). `primary_held` is what the primary had on disk when its controller was last heard here."""

    node: str
    version: str  # of raftctl
    raft: RaftFacts
    report: MemberReport
    state: ClusterState
    connected: tuple[str, ...] = ()
    quorum_contact_seconds: float | None = None
    primary_held: GTIDSet = GTIDSet()
    password_in_use: bool = True  # replication is configured with the member's present password
    secrets: str = ""  # fingerprint of those in use; "": its version does not say
    guard_secrets: str = ""  # likewise, of those that its guard would log in with; "" also without a guard
    certificate: CertificateFacts | None = None  # None: its own authorities do not accept it
    held_back: tuple[str, ...] = ()  # leader only: what it would do or waits for, and why it does not yet
