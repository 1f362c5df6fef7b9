"""What a controller does with its own mysqld, and that an interrupted plan is taken up where it stopped."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest

from raftctl.cluster.facts import MySQLState
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner import local
from raftctl.planner.local import (
    Action,
    LocalContext,
    LocalPlan,
    decide_local,
    describe,
    has_no_client_waiting,
    is_quiet,
    promised_epoch,
)
from tests.support.planner_builders import (
    UUIDS,
    a_change,
    a_channel,
    a_context,
    a_purged_channel,
    a_replica,
    a_semi_sync,
    a_source,
    a_state,
    gtids,
)

STEADY = a_state()
FAILOVER = a_change(Phase.FAILOVER)
SWITCHOVER = a_change(Phase.SWITCHOVER, target="db2")
NEW_REIGN = a_state(primary="db2", epoch=2, previous_primary="db1", phase=Phase.PROMOTING)
OUT = a_state(sync_set=("db1", "db2"), locked=("db3",))
OLD_PRIMARY = a_source(read_only=True, super_read_only=True)
CHOSEN = a_replica(received="A:1-100", channel=a_channel(receiver="OFF"))
ADMITTED = a_state(sync_set=("db1", "db2"))
SILENT = a_semi_sync(replica_enabled=False)
JOINER = a_state(sync_set=("db1", "db2"), joining=("db3",))
REBUILT = a_state(sync_set=("db1", "db2"), rebuilds={"db3": UUIDS["B"]})
UNCONFIRMED = a_context(confirmed=False)
HANGING = {"read_only": False, "super_read_only": True}  # `SET GLOBAL super_read_only = ON` still waits
FENCE = local.Fence


def plan(state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext | None = None) -> LocalPlan:
    return decide_local(state, me, seen, context or a_context())


class Case(NamedTuple):
    state: ClusterState
    me: str
    seen: MySQLObservation
    actions: tuple[Action, ...]
    context: LocalContext = a_context()


LOOK_FOR_ACCOUNTS = local.CheckAccounts((("db1", ""), ("db2", ""), ("db3", "")))

CASES = {
    # The primary.
    "a healthy primary": Case(STEADY, "db1", a_source(), ()),
    "after a restart it waits for acknowledgements before it opens": Case(
        STEADY,
        "db1",
        a_replica(channel=None, semi_sync=a_semi_sync(replica_enabled=False, clients=1)),
        (local.BecomeSource(1), local.LockAccounts(()), local.Open(1)),
        a_context(locked=None),
    ),
    "half copied data are not opened, whoever chose them": Case(
        STEADY, "db1", a_replica(channel=None), (), a_context(incomplete=True)
    ),
    "nor a copy that is not known to be sound": Case(
        STEADY, "db1", a_replica(channel=None), (), a_context(unverified=True)
    ),
    "without replicas that acknowledge it stays closed": Case(
        STEADY, "db1", a_replica(channel=None, semi_sync=SILENT), (local.BecomeSource(1),)
    ),
    "a CLONE that waits for commits that wait for its end": Case(
        STEADY,
        "db1",
        a_source(waiting=1, clients=0, donates=True),
        (FENCE("a CLONE from here waits for commits that nobody can acknowledge"),),
        a_context(commits_stand_still=True),
    ),
    "a promoted one stays closed while its sync set is too small for an acknowledgement": Case(
        a_state(primary="db2", phase=Phase.PROMOTING, sync_set=("db2",)),
        "db2",
        a_replica(channel=None, semi_sync=SILENT),
        (local.BecomeSource(1),),
    ),
    "commits that wait while nobody copies are left alone": Case(
        STEADY, "db1", a_source(waiting=1, clients=0), (), a_context(commits_stand_still=True)
    ),
    "without a lease it stays closed": Case(STEADY, "db1", a_replica(channel=None), (), a_context(lease_valid=False)),
    "unconfirmed it stays closed": Case(STEADY, "db1", a_replica(channel=None), (), UNCONFIRMED),
    "below the floor it stays closed": Case(
        STEADY, "db1", a_replica(executed="A:1-49", channel=None, semi_sync=SILENT), ()
    ),
    "a promoted one stops receiving first": Case(NEW_REIGN, "db2", a_replica(), (local.StopReceiver(),)),
    "then applies what it received": Case(
        NEW_REIGN,
        "db2",
        a_replica(executed="A:1-90", received="A:1-100", channel=a_channel(receiver="OFF")),
        (local.WaitApplied(),),
    ),
    "with a stopped applier it starts it": Case(
        NEW_REIGN,
        "db2",
        a_replica(executed="A:1-90", received="A:1-100", channel=a_channel(receiver="OFF", applier_running=False)),
        (local.StartApplier(), local.WaitApplied()),
    ),
    "an applier that stands still is freed": Case(
        NEW_REIGN,
        "db2",
        a_replica(executed="A:1-90", received="A:1-100", channel=a_channel(receiver="OFF")),
        (local.FreeApplier(), local.WaitApplied()),
        a_context(held_up=True),
    ),
    "so are the statements that lock others out before it opens": Case(
        a_state(phase=Phase.PROMOTING, primary="db2", locked=("db1",), sync_set=("db2", "db3")),
        "db2",
        CHOSEN,
        (
            local.SetAcknowledging(on=False),
            local.BecomeSource(1),
            local.FreeAccounts(),
            local.LockAccounts(("db1",)),
            local.Open(1),
        ),
        a_context(locked=None, held_up=True),
    ),
    "a replica that stands still before it changes its source is freed": Case(
        a_state(primary="db2", epoch=2),
        "db3",
        a_replica(executed="A:1-90", received="A:1-100", channel=a_channel(receiver="OFF")),
        (local.FreeApplier(), local.WaitApplied()),
        a_context(held_up=True),
    ),
    "a replica that only lags is left alone with its clients": Case(
        STEADY, "db3", a_replica(executed="A:1-90", received="A:1-100"), (), a_context(held_up=True)
    ),
    "and so is a primary at work, whatever waits there": Case(STEADY, "db1", a_source(), (), a_context(held_up=True)),
    "but for locking somebody out": Case(
        OUT,
        "db1",
        a_source(),
        (local.FreeAccounts(), local.LockAccounts(("db3",))),
        a_context(locked=(), held_up=True),
    ),
    "then opens, in this order": Case(
        a_state(phase=Phase.PROMOTING, primary="db2", locked=("db1",), sync_set=("db2", "db3")),
        "db2",
        CHOSEN,
        (local.SetAcknowledging(on=False), local.BecomeSource(1), local.LockAccounts(("db1",)), local.Open(1)),
    ),
    "and forgets its old source once it is open": Case(
        NEW_REIGN, "db2", a_source(channel=a_channel(receiver="OFF")), (local.ForgetSource(),)
    ),
    "clients are let in again after a fence": Case(STEADY, "db1", a_source(offline_mode=True), (local.GoOnline(),)),
    "a locked account is enforced while open": Case(OUT, "db1", a_source(), (local.LockAccounts(("db3",)),)),
    "commits that stand still are nudged": Case(
        STEADY, "db1", a_source(waiting=1), (local.Nudge(),), a_context(commits_stand_still=True)
    ),
    "before the old source is forgotten, which may take its time": Case(
        NEW_REIGN,
        "db2",
        a_source(waiting=1, channel=a_channel(receiver="OFF")),
        (local.Nudge(), local.ForgetSource()),
        a_context(commits_stand_still=True),
    ),
    "what acknowledged writes rest on is put back": Case(
        STEADY,
        "db1",
        a_source(changed_settings=("sync_binlog = 0",)),
        (local.KeepSettings(("sync_binlog = 0",), changed=("sync_binlog",)),),
    ),
    "also before it opens": Case(
        a_state(phase=Phase.PROMOTING, primary="db2", locked=("db1",), sync_set=("db2", "db3")),
        "db2",
        msgspec.structs.replace(CHOSEN, changed_settings=("sync_binlog = 0",)),
        (
            local.KeepSettings(("sync_binlog = 0",), changed=("sync_binlog",)),
            local.SetAcknowledging(on=False),
            local.BecomeSource(1),
            local.LockAccounts(("db1",)),
            local.Open(1),
        ),
    ),
    "semi-sync that somebody turned off is turned on again, and told": Case(
        STEADY,
        "db1",
        a_source(semi_sync=msgspec.structs.replace(a_source().semi_sync, source_enabled=False)),
        (local.KeepSettings(("commits waited for 0 acknowledgements",)), local.BecomeSource(1)),
    ),
    "what was persisted for the next start is forgotten": Case(
        STEADY,
        "db1",
        a_source(persisted_settings=("super_read_only",)),
        (local.KeepSettings(("super_read_only was persisted",), persisted=("super_read_only",)),),
    ),
    "a source whose timeout was over once waits for nobody, whatever its settings say": Case(
        STEADY,
        "db1",
        a_source(semi_sync=msgspec.structs.replace(a_source().semi_sync, source_status=False)),
        (local.KeepSettings(("commits waited for 0 acknowledgements",)), local.BecomeSource(1)),
    ),
    "replication accounts are looked for now and then": Case(
        STEADY,
        "db1",
        a_source(),
        (LOOK_FOR_ACCOUNTS,),
        a_context(accounts_due=True),
    ),
    "on every member, as any may be promoted": Case(
        STEADY,
        "db2",
        a_replica(),
        (LOOK_FOR_ACCOUNTS,),
        a_context(accounts_due=True),
    ),
    "an applier that stopped with an error is left alone for a while": Case(
        STEADY, "db2", a_replica(channel=a_channel(applier_running=False, applier_error_code=1317)), ()
    ),
    "and then started again": Case(
        STEADY,
        "db2",
        a_replica(channel=a_channel(applier_running=False, applier_error_code=1317)),
        (local.StartApplier(),),
        a_context(retry_applier=True),
    ),
    "unless its data are not those of the primary": Case(
        STEADY,
        "db2",
        a_replica(channel=a_channel(applier_running=False, applier_error_code=1062)),
        (),
        a_context(retry_applier=True),
    ),
    "on a replica, too": Case(
        STEADY,
        "db2",
        a_replica(persisted_settings=("super_read_only",)),
        (local.KeepSettings(("super_read_only was persisted",), persisted=("super_read_only",)),),
    ),
    "a replica's data are as durable": Case(
        STEADY,
        "db2",
        a_replica(changed_settings=("sync_binlog = 0",)),
        (local.KeepSettings(("sync_binlog = 0",), changed=("sync_binlog",)),),
    ),
    # A change of primary.
    "a relieved primary finishes its writes in a switchover": Case(
        SWITCHOVER, "db1", a_source(), (local.StopWriting(),)
    ),
    "a relieved primary is fenced in a failover": Case(FAILOVER, "db1", a_source(), (FENCE("epoch 2 begins"),)),
    "it proves that it is quiet": Case(SWITCHOVER, "db1", OLD_PRIMARY, (local.ProveQuiet(),)),
    "long queries do not keep it from that": Case(
        SWITCHOVER,
        "db1",
        OLD_PRIMARY,
        (local.FreeWriters(), local.EndQueries(), local.ProveQuiet()),
        a_context(held_up=True),
    ),
    "nor a client's table lock from finishing its writes": Case(
        SWITCHOVER, "db1", a_source(), (local.FreeWriters(), local.StopWriting()), a_context(held_up=True)
    ),
    "it proves it once": Case(SWITCHOVER, "db1", OLD_PRIMARY, (), a_context(stopped_epoch=2)),
    "a commit that stands still would keep it from becoming read-only": Case(
        SWITCHOVER,
        "db1",
        a_source(waiting=1),
        (local.Nudge(), local.StopWriting()),
        a_context(commits_stand_still=True),
    ),
    "read-only that is not in force is not quiet": Case(SWITCHOVER, "db1", a_source(**HANGING), (local.StopWriting(),)),
    "a replica goes on receiving in a switchover": Case(SWITCHOVER, "db3", a_replica(), ()),
    "a replica stops receiving in a failover": Case(FAILOVER, "db3", a_replica(), (local.StopReceiver(),)),
    "also an unconfirmed one: it only closes": Case(FAILOVER, "db3", a_replica(), (local.StopReceiver(),), UNCONFIRMED),
    "a receiver that is off is stopped all the same, for the proof": Case(
        FAILOVER, "db3", a_replica(channel=a_channel(receiver="OFF")), (local.StopReceiver(),)
    ),
    "a proof of the epoch before does not count": Case(
        FAILOVER,
        "db3",
        a_replica(channel=a_channel(receiver="OFF")),
        (local.StopReceiver(),),
        a_context(stopped_epoch=1),
    ),
    "a receiver that came back is stopped again": Case(
        FAILOVER, "db3", a_replica(), (local.StopReceiver(),), a_context(stopped_epoch=2)
    ),
    "it goes on applying": Case(
        FAILOVER,
        "db3",
        a_replica(channel=a_channel(receiver="OFF", applier_running=False)),
        (local.StartApplier(),),
        a_context(stopped_epoch=2),
    ),
    "a replica that is writable is fenced": Case(
        FAILOVER, "db3", a_source(), (FENCE("writable without being the primary"),)
    ),
    # A replica.
    "a healthy replica": Case(STEADY, "db2", a_replica(), ()),
    "an unconfirmed replica opens nothing": Case(
        STEADY, "db2", a_replica(channel=a_channel(receiver="OFF")), (), UNCONFIRMED
    ),
    "a former primary that is open is fenced": Case(NEW_REIGN, "db1", a_source(), (FENCE("db2 is the primary"),)),
    "a former primary whose commits wait is fenced": Case(
        NEW_REIGN, "db1", a_source(waiting=1, read_only=True, super_read_only=True), (FENCE("db2 is the primary"),)
    ),
    "semi-sync stays on while running statements may commit": Case(
        NEW_REIGN, "db1", a_source(**HANGING), (FENCE("db2 is the primary"),)
    ),
    "semi-sync goes off when it is read-only": Case(NEW_REIGN, "db1", OLD_PRIMARY, (local.SourceOff(),)),
    "a member of S acknowledges": Case(STEADY, "db2", a_replica(semi_sync=SILENT), (local.SetAcknowledging(on=True),)),
    "an outsider does not": Case(OUT, "db3", a_replica(), (local.SetAcknowledging(on=False),)),
    "one that acknowledges what is not on disk is stopped": Case(
        STEADY, "db2", a_replica(relay_log_synced=False), (local.SetAcknowledging(on=True),)
    ),
    "an outsider need not sync what it receives": Case(
        ADMITTED, "db3", a_replica(semi_sync=SILENT, relay_log_synced=True), (local.SetAcknowledging(on=False),)
    ),
    "nobody waits, so nobody acknowledges": Case(
        a_state(required_acks=0), "db2", a_replica(), (local.SetAcknowledging(on=False),)
    ),
    "it leaves its old source": Case(NEW_REIGN, "db3", a_replica(), (local.StopReceiver(),)),
    "it applies before it changes its source": Case(
        NEW_REIGN,
        "db3",
        a_replica(executed="A:1-90", received="A:1-100", channel=a_channel(receiver="OFF")),
        (local.WaitApplied(),),
    ),
    "it compares itself before it changes its source": Case(
        NEW_REIGN, "db3", a_replica(channel=a_channel(receiver="OFF")), (local.AskPrimary("db2"),)
    ),
    "it changes its source": Case(
        NEW_REIGN,
        "db3",
        a_replica(channel=a_channel(receiver="OFF")),
        (local.PointTo("db2"), local.StartReceiver(), local.StartApplier()),
        a_context(primary_executed=gtids("A:1-100")),
    ),
    "what the primary has not applied yet is no tail": Case(
        a_state(primary="db2", floor=gtids("A:1-100")),
        "db3",
        a_replica(channel=a_channel(receiver="OFF")),
        (local.PointTo("db2"), local.StartReceiver(), local.StartApplier()),
        a_context(primary_executed=gtids("A:1-90")),
    ),
    "a locked member waits to be admitted": Case(
        a_state(primary="db2", sync_set=("db2", "db3"), locked=("db1",)),
        "db1",
        a_replica(channel=None, semi_sync=SILENT),
        (),
        a_context(primary_executed=gtids("A:1-100")),
    ),
    "a member outside S compares itself with a source of an earlier reign": Case(
        OUT, "db3", a_replica(channel=a_channel(receiver="OFF"), semi_sync=SILENT), (local.ForgetSource(),)
    ),
    "and does not try to connect before it is admitted": Case(
        OUT,
        "db3",
        a_replica(channel=a_channel(receiver="CONNECTING"), semi_sync=SILENT),
        (local.StopReceiver(),),
        a_context(primary_executed=gtids("A:1-100")),
    ),
    "a rebuild waits for the account to be unlocked": Case(
        OUT,
        "db3",
        a_replica(executed="A:1-100,C:1-2", channel=None, semi_sync=SILENT),
        (),
        a_context(primary_executed=gtids("A:1-120")),
    ),
    "an interrupted CLONE is begun again by a member that could be admitted: it does not acknowledge": Case(
        OUT,
        "db3",
        a_replica(executed="", channel=None),
        (local.SetAcknowledging(on=False),),
        a_context(incomplete=True),
    ),
    "nor receive": Case(
        OUT, "db3", a_replica(executed="", semi_sync=SILENT), (local.StopReceiver(),), a_context(incomplete=True)
    ),
    "an interrupted CLONE is begun again, whatever the data seem to be": Case(
        ADMITTED,
        "db3",
        a_replica(executed="", received="A:1-100", channel=a_channel(receiver="OFF"), semi_sync=SILENT),
        (local.Rebuild("db1", "a CLONE did not come to its end"),),
        a_context(incomplete=True),
    ),
    "a tail is removed by a rebuild": Case(
        ADMITTED,
        "db3",
        a_replica(executed="A:1-100,C:1-2", channel=None, semi_sync=SILENT),
        (local.Rebuild("db1", f"2 transactions that db1 lacks: {gtids('C:1-2')}"),),
        a_context(primary_executed=gtids("A:1-120")),
    ),
    "accounts follow the members": Case(
        a_state(roster=1), "db2", a_replica(), (local.KeepAccounts(1, (("db1", ""), ("db2", ""), ("db3", ""))),)
    ),
    "accounts are there before any is locked": Case(
        a_state(roster=1, locked=("db3",)),
        "db1",
        a_source(),
        (local.KeepAccounts(1, (("db1", ""), ("db2", ""), ("db3", "")), locked=("db3",)), local.LockAccounts(("db3",))),
    ),
    "who comes back after a forced membership makes the accounts that decisions of the lost majority dropped": Case(
        a_state(incarnation=2), "db2", a_replica(), (local.KeepAccounts(1, (("db1", ""), ("db2", ""), ("db3", ""))),)
    ),
    "accounts that are right stay": Case(a_state(roster=1), "db2", a_replica(), (), a_context(roster=1)),
    "an empty new member gets the data by CLONE": Case(
        JOINER,
        "db3",
        a_replica(executed="", channel=None, semi_sync=SILENT),
        (local.Rebuild("db1", "it is new"),),
        a_context(primary_executed=gtids("A:1-120")),
    ),
    "a new member that has the data follows": Case(
        JOINER,
        "db3",
        a_replica(channel=None, semi_sync=SILENT),
        (local.PointTo("db1"), local.StartReceiver(), local.StartApplier()),
        a_context(primary_executed=gtids("A:1-120")),
    ),
    "what is to be rebuilt stops receiving first": Case(
        REBUILT, "db3", a_replica(semi_sync=SILENT), (local.StopReceiver(),)
    ),
    "then it is cloned": Case(
        REBUILT,
        "db3",
        a_replica(channel=a_channel(receiver="OFF"), semi_sync=SILENT),
        (local.Rebuild("db1", "that was asked for"),),
    ),
    "not while it is in S": Case(a_state(rebuilds={"db3": UUIDS["B"]}), "db3", a_replica(), ()),
    "not again under another UUID": Case(
        REBUILT,
        "db3",
        a_replica(server_uuid=UUIDS["C"], semi_sync=SILENT),
        (),
        a_context(primary_executed=gtids("A:1-120")),
    ),
    "a member of S is not rebuilt": Case(
        STEADY,
        "db3",
        a_replica(executed="A:1-100,C:1-2", channel=None),
        (),
        a_context(primary_executed=gtids("A:1-120")),
    ),
    "a receiver that is off is started": Case(
        STEADY, "db2", a_replica(channel=a_channel(receiver="OFF")), (local.StartReceiver(),)
    ),
    "an applier that is off is started": Case(
        STEADY, "db2", a_replica(channel=a_channel(applier_running=False)), (local.StartApplier(),)
    ),
    "an applier that failed is not started again and again": Case(
        STEADY, "db2", a_replica(channel=a_channel(applier_running=False, applier_error_code=1062)), ()
    ),
    "a replica that was fenced lets clients in again": Case(
        STEADY, "db2", a_replica(offline_mode=True), (local.GoOnline(),)
    ),
    "one whose source has purged what it needs is rebuilt": Case(
        a_state(sync_set=("db1", "db2")),
        "db3",
        a_replica(channel=a_purged_channel(), semi_sync=SILENT),
        (local.Rebuild("db1", "db1 has purged what db3 needs"),),
        a_context(primary_executed=gtids("A:1-100")),
    ),
    "not as long as it is in S": Case(
        STEADY,
        "db3",
        a_replica(channel=a_purged_channel()),
        (local.StartReceiver(),),
    ),
    "where it tries once in a reign, and does not look like one that receives in turns": Case(
        STEADY,
        "db3",
        a_replica(channel=a_purged_channel()),
        (),
        a_context(receiver_epoch=1),
    ),
    "one that its source could not serve for another reason tries again": Case(
        STEADY,
        "db3",
        a_replica(
            channel=a_channel(receiver="OFF", receiver_error_code=13114, receiver_error="Could not open log file")
        ),
        (local.StartReceiver(),),
        a_context(receiver_epoch=1),
    ),
    "a new password is used after what was received is applied": Case(
        STEADY, "db2", a_replica(), (local.StopReceiver(),), a_context(password_in_use=False)
    ),
    "and after the comparison that comes before every change of the source": Case(
        STEADY,
        "db2",
        a_replica(channel=a_channel(receiver="OFF")),
        (local.AskPrimary("db1"),),
        a_context(password_in_use=False),
    ),
    "without leaving the source": Case(
        STEADY,
        "db2",
        a_replica(channel=a_channel(receiver="OFF")),
        (local.PointTo("db1"), local.StartReceiver(), local.StartApplier()),
        a_context(password_in_use=False, primary_executed=gtids("A:1-120")),
    ),
    "what it received since it asked the primary is no tail": Case(
        STEADY,
        "db2",
        a_replica(channel=a_channel(receiver="OFF")),
        (local.AskPrimary("db1"),),
        a_context(password_in_use=False, primary_executed=gtids("A:1-100"), receiver_epoch=1),
    ),
    "not even when somebody took its source away": Case(
        STEADY,
        "db2",
        a_replica(channel=None),
        (local.AskPrimary("db1"),),
        a_context(primary_executed=gtids("A:1-100"), receiver_epoch=1),
    ),
    "nothing is done before the bootstrap": Case(ClusterState(), "db1", a_source(), ()),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_actions(case: Case) -> None:
    assert plan(case.state, case.me, case.seen, case.context).actions == case.actions


def test_every_action_occurs() -> None:
    used = {type(action) for case in CASES.values() for action in case.actions}
    assert used == set(Action.__subclasses__())


def test_the_tail_is_named() -> None:
    case = CASES["a member of S is not rebuilt"]
    decided = plan(case.state, case.me, case.seen, case.context)
    assert decided.errant == gtids("C:1-2")
    assert UUIDS["C"] in decided.note


# --- the promise ------------------------------------------------------------------------------------

PROVEN = a_context(stopped_epoch=2)
STOPPED = a_replica(channel=a_channel(receiver="OFF"))


@pytest.mark.parametrize(
    ("state", "me", "seen", "context", "expected"),
    [
        (FAILOVER, "db3", STOPPED, PROVEN, 2),
        (FAILOVER, "db3", a_replica(channel=None), PROVEN, 2),
        (FAILOVER, "db3", STOPPED, a_context(stopped_epoch=1), 0),
        (FAILOVER, "db3", a_replica(), PROVEN, 0),
        (FAILOVER, "db3", a_replica(channel=a_channel(receiver="CONNECTING")), PROVEN, 0),
        (FAILOVER, "db3", a_source(), PROVEN, 0),
        (SWITCHOVER, "db3", STOPPED, PROVEN, 0),
        (STEADY, "db3", STOPPED, a_context(stopped_epoch=1), 0),
        (FAILOVER, "db1", OLD_PRIMARY, PROVEN, 2),
        (SWITCHOVER, "db1", OLD_PRIMARY, PROVEN, 2),
        (SWITCHOVER, "db1", OLD_PRIMARY, a_context(), 0),
        (SWITCHOVER, "db1", a_source(), PROVEN, 0),
        (SWITCHOVER, "db1", a_source(**HANGING), PROVEN, 0),
        (SWITCHOVER, "db1", a_source(waiting=1, read_only=True, super_read_only=True), PROVEN, 0),
        (SWITCHOVER, "db1", a_source(owned="A:101", read_only=True, super_read_only=True), PROVEN, 0),
    ],
)
def test_promised_epoch(
    state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext, expected: int
) -> None:
    assert promised_epoch(state, me, seen, context) == expected


def test_quiet_needs_read_only_in_force() -> None:
    assert is_quiet(OLD_PRIMARY)
    assert not is_quiet(a_source(**HANGING))


def test_a_replica_can_be_stopped_while_it_applies() -> None:
    closed = {"read_only": True, "super_read_only": True}
    assert has_no_client_waiting(a_replica(owned="A:101"))
    assert not has_no_client_waiting(a_source(**closed, owned="A:101", server_uuid=UUIDS["A"]))
    assert not has_no_client_waiting(a_source(**closed, waiting=1))
    assert not has_no_client_waiting(a_source(**HANGING))


@pytest.mark.parametrize(
    ("state", "me", "seen", "word"),
    [
        (STEADY, "db1", a_source(), MySQLState.PRIMARY),
        (STEADY, "db1", OLD_PRIMARY, MySQLState.JOINING),
        (STEADY, "db2", a_replica(), MySQLState.REPLICA),
        (STEADY, "db2", a_replica(channel=a_channel(receiver="CONNECTING")), MySQLState.JOINING),
        (STEADY, "db2", a_replica(channel=a_channel(applier_running=False)), MySQLState.JOINING),
        (STEADY, "db2", a_replica(channel=a_channel(source="db3")), MySQLState.JOINING),
        (STEADY, "db2", a_replica(channel=None), MySQLState.JOINING),
        (STEADY, "db2", a_replica(offline_mode=True), MySQLState.FENCED),
        (FAILOVER, "db2", a_replica(), MySQLState.FENCED),
        (SWITCHOVER, "db2", a_replica(), MySQLState.REPLICA),
        (SWITCHOVER, "db1", OLD_PRIMARY, MySQLState.FENCED),
    ],
)
def test_describe(state: ClusterState, me: str, seen: MySQLObservation, word: MySQLState) -> None:
    assert describe(state, me, seen) is word


def test_what_somebody_wrote_to_a_replica_is_never_thrown_away() -> None:
    """A failover's tail is; what was found while the member was a replica is not: it follows with that."""
    seen = a_replica(executed="A:1-100,B:1", channel=a_channel(source="db2", receiver="OFF"), semi_sync=SILENT)
    state = a_state(sync_set=("db1", "db2"))
    known = a_context(primary_executed=gtids("A:1-100"), errant=gtids("B:1"))
    assert local.PointTo("db1") in plan(state, "db3", seen, known).actions
    tail = a_context(primary_executed=gtids("A:1-100"))
    assert isinstance(plan(state, "db3", seen, tail).actions[0], local.Rebuild)
