"""What a controller does with its own mysqld: `decide_local` names the actions that are justified now, in order.

Actions that *close* (stop receiving, become read-only, fence) follow from the applied state at once. Actions that
*open* (become writable, start receiving, acknowledge) wait until the state is *confirmed*: applied at least up to a
commit index that a leader with a majority named after this process started. A controller that was away may otherwise
act on a state of long ago and break the promise it gave in a fence report (rule R3).
"""

from __future__ import annotations

import msgspec

from raftctl.cluster.facts import MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import Channel, MySQLObservation, ReceiverState
from raftctl.cluster.state import ClusterState, Phase

# The source could not read its binary logs for this replica (ER_SOURCE_FATAL_ERROR_READING_BINLOG, as 8.0.26+ has it).
READING_ERRORS = frozenset({1236, 13114})
# The data are not what the transaction was made for, so no further try helps: no such row, table, column, user or
# database, or one that is there already; a foreign key; a type that does not fit.
DIVERGED = frozenset({1007, 1008, 1032, 1050, 1051, 1054, 1060, 1061, 1062, 1091, 1146, 1396, 1451, 1452, 1677, 13146})
_INCOMPLETE = "a CLONE did not come to its end"


# --- actions: data; the reconciler carries them out -------------------------------------------------


class Action(msgspec.Struct, frozen=True, tag_field="action"):
    """One step on the own mysqld. Opening actions are carried out only while the state is still the one decided on."""


class KeepSettings(Action, frozen=True):
    """Put back what somebody changed of the settings that acknowledged writes rest on (rules R2, R8). `found`: what
    there is to tell of it; `changed` and `persisted` are names."""

    found: tuple[str, ...]
    changed: tuple[str, ...] = ()
    persisted: tuple[str, ...] = ()


class CheckAccounts(Action, frozen=True):
    """See whether somebody dropped replication accounts that KeepAccounts made."""

    members: tuple[tuple[str, str], ...]  # names and uids


class StopReceiver(Action, frozen=True):
    """Stop receiving and prove it; then report what is on disk."""


class StartReceiver(Action, frozen=True):
    pass


class StartApplier(Action, frozen=True):
    pass


class WaitApplied(Action, frozen=True):
    """Give the applier a moment; decided again until everything received is applied."""


class FreeApplier(Action, frozen=True):
    """End the clients' sessions for which the applier waits."""


class FreeAccounts(Action, frozen=True):
    """End the clients' sessions, such as a backup's, for which statements about accounts wait."""


class FreeWriters(Action, frozen=True):
    """End the sessions that hold table locks, for which StopWriting and ProveQuiet wait, and statements that only wait
    for such a lock or somebody's transaction."""


class EndQueries(Action, frozen=True):
    """End the statements of clients that use a table, for which ProveQuiet waits."""


class ForgetSource(Action, frozen=True):
    """Remove the replication channel; everything received is applied."""


class AskPrimary(Action, frozen=True):
    """Read what the primary has executed or is about to (gtid_owned first, then gtid_executed: a commit that waits for
    an acknowledgement is only in the former), to learn what this member has and the primary lacks."""

    primary: str


class PointTo(Action, frozen=True):
    primary: str


class SetAcknowledging(Action, frozen=True):
    """Acknowledge what is received, which is then on disk first; or do not, and receive several times as fast."""

    on: bool


class BecomeSource(Action, frozen=True):
    """Wait for `acks` acknowledgements from now on; with 0, let go what waits. The log says 0 only when the primary's
    own word is all that counts."""

    acks: int


class SourceOff(Action, frozen=True):
    pass


class LockAccounts(Action, frozen=True):
    """Lock exactly these members' replication accounts here and end their connections (rule R6)."""

    members: tuple[str, ...]


class KeepAccounts(Action, frozen=True):
    """Have the replication accounts here that the members of this roster need, and no others: any server may become
    the primary. `roster` is ClusterState.accounts, `members` are those with a mysqld and their uids."""

    roster: int
    members: tuple[tuple[str, str], ...]
    locked: tuple[str, ...] = ()  # an account that is made anew lets none of these in (rule R6)


class Open(Action, frozen=True):
    """Become writable, in a session that has just seen that commits wait for `acks` acknowledgements: a mysqld that
    restarted since it was told to would not wait for any."""

    acks: int


class Nudge(Action, frozen=True):
    """Write a transaction that changes nothing: its acknowledgement covers everything before it.

    A replica that received a transaction and lost its connection before it acknowledged it never will by itself."""


class GoOnline(Action, frozen=True):
    """Let clients in again (offline_mode off)."""


class StopWriting(Action, frozen=True):
    """Planned: become read-only once the running commits have their acknowledgements; nobody is thrown out."""


class ProveQuiet(Action, frozen=True):
    """Prove that no commit is in flight any more: `super_read_only` reads ON already while it still waits for some."""


class Fence(Action, frozen=True):
    """Unplanned: the fencing ladder (rule R8)."""

    why: str


class Rebuild(Action, frozen=True):
    """Replace this member's data by a CLONE of the donor's, under a new server UUID.

    The numbers of the transactions that are removed would be given again under the old one, and a member that was
    away with the removed ones would pass for having the new ones."""

    donor: str
    why: str


OPENING = (StartReceiver, PointTo, SetAcknowledging, BecomeSource, Open, GoOnline, Rebuild)


class LocalContext(msgspec.Struct, frozen=True):
    """What the controller knows besides state and observation.

    `confirmed`: see the module's docstring. `lease_valid`: this member may be writable now. `stopped_epoch`: the epoch
    for which StopReceiver (a replica) or ProveQuiet (the previous primary) succeeded. `locked`: which accounts were
    verifiably locked since mysqld started, None when unknown. `source_acks`: the number of acknowledgements that
    BecomeSource last made this mysqld wait for, None when unknown. `primary_executed`: what AskPrimary read in this
    epoch and since mysqld started here. `commits_stand_still`: the same commits have been waiting for a while.
    `receiver_epoch`: the epoch in which this controller started the receiver after it last asked, 0 for none.
    `roster`: the last one for which KeepAccounts succeeded since mysqld started, None for none; `accounts_due`: nobody
    looked for a while whether they are all there.
    `incomplete`: a CLONE began here and did not come to its end; `unverified`: it did, and InnoDB was not asked yet
    whether the data are sound. `errant`: what somebody wrote here while it was a replica; that is for a person to mend.
    `password_in_use`: replication was configured with the present password. `held_up`: the applier, which has something
    to apply, stands still, or the last action gave up waiting for a lock. `retry_applier`: it stopped with an error a
    while ago.
    """

    confirmed: bool
    lease_valid: bool
    stopped_epoch: int = 0
    locked: tuple[str, ...] | None = None
    source_acks: int | None = None
    primary_executed: GTIDSet | None = None
    commits_stand_still: bool = False
    receiver_epoch: int = 0
    incomplete: bool = False
    unverified: bool = False
    roster: int | None = 0
    accounts_due: bool = False
    errant: GTIDSet = GTIDSet()
    password_in_use: bool = True
    held_up: bool = False
    retry_applier: bool = False


class LocalPlan(msgspec.Struct, frozen=True):
    """`note` tells a person what is being done or waited for; `errant` is what the primary lacks. `stranded`: why only
    a CLONE helps this member, which has to leave S before (rule R6)."""

    actions: tuple[Action, ...] = ()
    note: str = ""
    errant: GTIDSet = GTIDSet()
    stranded: str = ""


def decide_local(state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
    """The actions for member `me`, whose mysqld answers and was just observed."""
    if state.phase is Phase.UNINITIALIZED:
        return LocalPlan(note="not bootstrapped")
    if state.primary == me:
        return _reign(state, seen, context)
    if not state.primary:
        relieved = state.previous_primary == me
        return _relieve(state, seen, context) if relieved else _stand_by(state, seen, context)
    return _follow(state, me, seen, context)


# --- the primary ------------------------------------------------------------------------------------


def _reign(state: ClusterState, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
    if not context.confirmed or not context.lease_valid:
        return LocalPlan(note="waits for a lease")
    if context.incomplete or context.unverified:  # only a person chooses such a member (rule R10)
        return LocalPlan(note="does not open: " + (_INCOMPLETE if context.incomplete else "is what was cloned sound?"))
    if not state.floor <= seen.holds:
        return LocalPlan(note=f"lacks {(state.floor - seen.holds).count()} transactions that it must have")
    closing = _end_replication(seen, context)
    if closing and not seen.writable:
        return closing
    if seen.donates and context.commits_stand_still and seen.semi_sync.clients < state.source_acks:
        return LocalPlan((Fence("a CLONE from here waits for commits that nobody can acknowledge"),))
    if context.commits_stand_still and seen.semi_sync.wait_sessions and _is_forsaken(state):
        return LocalPlan((Fence("nobody is left in the sync set who could acknowledge the commits that wait"),))
    note = "" if seen.writable or _may_open(state, seen) else "waits for replicas that can acknowledge"
    kept = _check_accounts(state, context) + _keep_next_start(seen) if seen.writable else ()
    encouraged = _opening(state, seen, context) + _encourage(state, seen, context)
    return LocalPlan(encouraged + _tidy(seen) + kept, note=note)


def _is_forsaken(state: ClusterState) -> bool:
    """`strict`: a member that has to be rebuilt leaves S although it is needed. It cannot while commits wait: whether
    they were acknowledged at the last moment could not be known. Their clients get an error instead."""
    able = [m for m in state.sync_set if m not in (state.primary, *state.locked)]
    strict = state.settings.durability_policy == "strict"
    return strict and bool(set(state.locked) & set(state.sync_set)) and len(able) < state.source_acks


def _may_open(state: ClusterState, seen: MySQLObservation) -> bool:
    """Whether a write will be acknowledged soon. One that waits for it keeps any CLONE from here from ending (InnoDB
    waits for prepared transactions), for good when that CLONE is to make the replica that acknowledges.

    After a promotion the other members of S are about to connect: waiting for them would only cost time."""
    expected = state.phase is Phase.PROMOTING and not state.is_short_of_replicas()
    return expected or seen.semi_sync.clients >= state.source_acks


def _end_replication(seen: MySQLObservation, context: LocalContext) -> LocalPlan | None:
    """Everything received is applied before the first write of one's own (rule R4)."""
    channel = seen.channel
    if channel is None:
        return None
    if channel.receiver is not ReceiverState.OFF:
        return LocalPlan((StopReceiver(),), note="stops receiving")
    if not seen.gtid_received <= seen.gtid_executed:
        start: tuple[Action, ...] = () if channel.applier_running else (StartApplier(),)
        count = (seen.gtid_received - seen.gtid_executed).count()
        actions = (*start, *_free_applier(context), WaitApplied())
        return LocalPlan(actions, note=f"applies {count} received transactions")
    return None


def _free_applier(context: LocalContext) -> tuple[Action, ...]:
    """Writes wait, or will: somebody's lock or long query is not worth that."""
    return (FreeApplier(),) if context.held_up else ()


def _opening(state: ClusterState, seen: MySQLObservation, context: LocalContext) -> tuple[Action, ...]:
    """The order matters: acknowledgements are waited for and leavers locked out before the first write is let in."""
    waits = seen.semi_sync.waits_for
    fewer = f"commits waited for {waits} acknowledgements" if waits < (context.source_acks or 0) else ""
    actions: list[Action] = [*_keep_settings(seen, fewer if seen.writable else "")]
    if seen.semi_sync.replica_enabled:
        actions.append(SetAcknowledging(on=False))
    if not waits == context.source_acks == state.source_acks:
        actions.append(BecomeSource(state.source_acks))
    if context.held_up and (not seen.writable or context.locked != state.locked):
        actions.append(FreeAccounts())
    actions += _keep_accounts(state, context)
    if context.locked != state.locked:
        actions.append(LockAccounts(state.locked))
    if seen.offline_mode:
        actions.append(GoOnline())
    if (seen.read_only or seen.super_read_only) and _may_open(state, seen):
        actions.append(Open(state.source_acks))
    return tuple(actions)


def _keep_settings(seen: MySQLObservation, more: str = "") -> tuple[Action, ...]:
    """`more` is what else somebody did, which another action undoes and nobody else tells."""
    found = (*seen.changed_settings, *([more] if more else []))
    changed = tuple(setting.partition(" ")[0] for setting in seen.changed_settings)
    return (KeepSettings(found, changed=changed),) if found else ()


def _keep_next_start(seen: MySQLObservation) -> tuple[Action, ...]:
    """Last of all: an account that an earlier version made may lack the privilege, and nothing waits for it."""
    if not seen.persisted_settings:
        return ()
    found = tuple(f"{name} was persisted" for name in seen.persisted_settings)
    return (KeepSettings(found, persisted=seen.persisted_settings),)


def _keep_accounts(state: ClusterState, context: LocalContext) -> tuple[Action, ...]:
    if context.roster == state.accounts:
        return ()
    return (KeepAccounts(state.accounts, _with_accounts(state), state.locked),)


def _check_accounts(state: ClusterState, context: LocalContext) -> tuple[Action, ...]:
    if not context.accounts_due or context.roster != state.accounts:
        return ()
    return (CheckAccounts(_with_accounts(state)),)


def _with_accounts(state: ClusterState) -> tuple[tuple[str, str], ...]:
    return tuple((m.name, m.uid) for m in state.members.values() if m.mysql)


def _tidy(seen: MySQLObservation) -> tuple[Action, ...]:
    """An old channel is removed after the first write, and after what waits for something: it takes longer than
    everything else."""
    return (ForgetSource(),) if seen.channel is not None and seen.writable else ()


def _encourage(state: ClusterState, seen: MySQLObservation, context: LocalContext) -> tuple[Action, ...]:
    able = seen.writable and seen.semi_sync.clients >= state.source_acks
    return (Nudge(),) if able and context.commits_stand_still else ()


# --- a change of primary ----------------------------------------------------------------------------


def _relieve(state: ClusterState, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
    """The previous primary: stop writing and say what it has."""
    if is_quiet(seen):
        if context.stopped_epoch == state.epoch:
            return LocalPlan(note=f"fenced for epoch {state.epoch}")
        # Nobody writes meanwhile: a report that takes an hour is not waited for.
        end: tuple[Action, ...] = (FreeWriters(), EndQueries()) if context.held_up else ()
        return LocalPlan((*end, ProveQuiet()), note=f"fenced for epoch {state.epoch}")
    if state.phase is Phase.SWITCHOVER:
        free: tuple[Action, ...] = (FreeWriters(),) if context.held_up else ()
        return LocalPlan((*_encourage(state, seen, context), *free, StopWriting()), note="finishes its writes")
    return LocalPlan((Fence(f"epoch {state.epoch} begins"),), note="is being fenced")


def proven_acks(state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> int | None:
    """How many acknowledgements this primary waited for since before `seen` was observed (`MemberReport.source_acks`):
    what became a transaction after that waits for so many, what was one before is in `seen` (rule R6)."""
    waits = seen.semi_sync.waits_for
    return waits if state.primary == me and waits == context.source_acks else None


def is_quiet(seen: MySQLObservation) -> bool:
    """Read-only, and no commit waits: together with ProveQuiet, what it has executed is all that it ever will have."""
    return is_read_only(seen) and seen.semi_sync.wait_sessions == 0 and not seen.gtid_owned


def has_no_client_waiting(seen: MySQLObservation) -> bool:
    """Read-only, and no commit of its own is in flight: SIGTERM acknowledges nothing falsely (rule R8). What a replica
    applies has its source's numbers, and nobody here waits for it."""
    return is_read_only(seen) and seen.semi_sync.wait_sessions == 0 and not seen.gtid_owned.restrict(seen.server_uuid)


def is_read_only(seen: MySQLObservation) -> bool:
    """Whether read-only mode is in force. While `SET GLOBAL super_read_only = ON` waits for running statements, which
    may still commit, super_read_only reads ON already and read_only still OFF (measured)."""
    return seen.read_only and seen.super_read_only


def promised_epoch(state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> int:
    """The epoch for which this member may report itself fenced (`MemberReport.fenced_epoch`), 0 for none.

    `seen` must have been observed after the proof that `context.stopped_epoch` stands for."""
    if state.primary or context.stopped_epoch != state.epoch:
        return 0
    if context.incomplete or has_lost_its_data(state, me, seen):
        return 0
    if state.previous_primary == me:
        return state.epoch if is_quiet(seen) else 0
    if state.phase is not Phase.FAILOVER:
        return 0
    receiving = seen.channel is not None and seen.channel.receiver is not ReceiverState.OFF
    return 0 if receiving or seen.writable else state.epoch


def _stand_by(state: ClusterState, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
    """A replica: in a failover it keeps the promise of rule R3; in a switchover it goes on receiving."""
    if seen.writable:
        return LocalPlan((Fence("writable without being the primary"),), note="is being fenced")
    if state.phase is Phase.SWITCHOVER:
        return LocalPlan(note=f"waits for {state.target} to take over")
    actions: tuple[Action, ...] = ()
    receiving = seen.channel is not None and seen.channel.receiver is not ReceiverState.OFF
    if receiving or context.stopped_epoch != state.epoch:
        actions += (StopReceiver(),)
    if _can_apply(seen.channel, context):
        actions += (StartApplier(),)
    return LocalPlan(actions, note=f"fenced for epoch {state.epoch}")


def _can_apply(channel: Channel | None, context: LocalContext) -> bool:
    """An error may have been a passing one: a lock, memory, a full disk, a worker that somebody killed. Another try is
    harmless: what was applied is known by its GTID."""
    if channel is None or channel.applier_running:
        return False
    return channel.applier_error_code == 0 or (context.retry_applier and channel.applier_error_code not in DIVERGED)


# --- a replica --------------------------------------------------------------------------------------


def _follow(state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
    if seen.writable or seen.semi_sync.wait_sessions:
        return LocalPlan((Fence(f"{state.primary} is the primary"),), note="is being fenced")
    if not is_read_only(seen):
        return LocalPlan((Fence(f"{state.primary} is the primary"),), note="becomes read-only")
    if seen.semi_sync.source_enabled:
        return LocalPlan((SourceOff(),), note="stops waiting for acknowledgements")
    if kept := _keep_settings(seen):
        return LocalPlan(kept)
    if not context.confirmed:
        return LocalPlan(note="waits for the controllers' quorum")
    acknowledging = me in state.sync_set and state.source_acks > 0
    if not seen.semi_sync.replica_enabled == seen.relay_log_synced == acknowledging:
        return LocalPlan((SetAcknowledging(on=acknowledging),), note="joins the sync set" if acknowledging else "")
    is_new = me in state.joining and me not in state.sync_set
    if context.incomplete or (has_lost_its_data(state, me, seen) and not is_new):
        lost = "its data are those of an earlier time" if state.floor & seen.holds else "its data are gone"
        why = _INCOMPLETE if context.incomplete else lost
        return _strand(why) if me in state.sync_set else _begin_again(state, me, seen, why)
    if context.unverified:
        return LocalPlan(note="looks whether what was cloned is sound")
    if state.rebuilds.get(me) == seen.server_uuid and me not in state.sync_set:
        return _begin_again(state, me, seen, "that was asked for")
    # A member outside S may point there since an earlier reign, and have received what was removed since.
    compared = me in state.sync_set or context.primary_executed is not None
    if not _points_to(state, seen.channel) or not compared or not context.password_in_use:
        return _repoint(state, me, seen, context)
    return _receive(state, me, seen, context)


def has_lost_its_data(state: ClusterState, me: str, seen: MySQLObservation) -> bool:
    """Whether this server was made anew, or its data are those of an earlier time: a primary has the floor, a member of
    S what it held when it joined, and everybody something of the floor. Nothing takes that from a server but a rebuild,
    which it leaves S for; what is cut off a tail (rule R9) is never of the floor."""
    if not state.primary and state.previous_primary == me:
        return not state.floor <= seen.holds
    had = state.held.get(me, GTIDSet())
    return not had <= seen.holds or (bool(state.floor) and not state.floor & seen.holds)


def _strand(why: str, *, errant: GTIDSet = GTIDSet()) -> LocalPlan:  # noqa: B008 (frozen)
    return LocalPlan(note=f"has to leave the sync set, to be rebuilt: {why}", errant=errant, stranded=why)


def _begin_again(state: ClusterState, me: str, seen: MySQLObservation, why: str) -> LocalPlan:
    """Whatever GTID sets and relay logs say: an interrupted CLONE left no data."""
    if seen.channel is not None and seen.channel.receiver is not ReceiverState.OFF:
        return LocalPlan((StopReceiver(),), note="stops receiving, to be rebuilt")
    return _rebuild(state, me, why)


def _points_to(state: ClusterState, channel: Channel | None) -> bool:
    if channel is None:
        return False
    return f"{channel.source_host}:{channel.source_port}" == state.members[state.primary].mysql


def _repoint(state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
    """Apply what was received, compare with the primary, only then change the source (rule R5)."""
    channel, primary = seen.channel, state.primary
    if channel is not None and channel.receiver is not ReceiverState.OFF:
        return LocalPlan((StopReceiver(),), note=f"leaves {channel.source_host}:{channel.source_port}")
    if not seen.gtid_received <= seen.gtid_executed:
        start: tuple[Action, ...] = (StartApplier(),) if _can_apply(channel, context) else ()
        actions = (*start, *_free_applier(context), WaitApplied())
        return LocalPlan(actions, note="applies what it received before it changes its source")
    if _points_to(state, channel) and context.password_in_use:
        return LocalPlan((ForgetSource(),), note=f"compares itself anew with {primary}")
    if context.primary_executed is None or context.receiver_epoch == state.epoch:
        # What it received since it asked, the primary has as well, but had not yet when it answered.
        return LocalPlan((AskPrimary(primary),), note=f"compares itself with {primary}")
    # A primary that is still promoting may not have applied yet all that it holds: the floor says what that was.
    tail = seen.gtid_executed - (context.primary_executed | state.floor | context.errant)
    if tail:
        return _diverged(state, me, tail)
    if me in state.joining and _is_to_be_seeded(state, seen, context.primary_executed):
        return _rebuild(state, me, "it is new")
    if me in state.locked:
        return LocalPlan(note=f"waits to be admitted by {primary}")
    return LocalPlan((PointTo(primary), StartReceiver(), StartApplier()), note=f"follows {primary}")


def _is_to_be_seeded(state: ClusterState, seen: MySQLObservation, primary_executed: GTIDSet) -> bool:
    """Whether a new member lacks the data: what was there before the primary's binary logs began is not in them."""
    return not state.floor <= seen.holds or (not seen.gtid_executed and bool(primary_executed))


def _diverged(state: ClusterState, me: str, tail: GTIDSet) -> LocalPlan:
    """It executed what the primary never had: nobody acknowledged that, or the primary would have it (rule R3)."""
    why = f"{tail.count()} transactions that {state.primary} lacks: {tail}"
    return _strand(why, errant=tail) if me in state.sync_set else _rebuild(state, me, why, errant=tail)


def _rebuild(state: ClusterState, me: str, why: str, *, errant: GTIDSet = GTIDSet()) -> LocalPlan:  # noqa: B008 (frozen)
    if me in state.locked:
        return LocalPlan(note=f"waits to be admitted by {state.primary}, to be rebuilt: {why}", errant=errant)
    return LocalPlan((Rebuild(state.primary, why),), note=f"is rebuilt: {why}", errant=errant)


def _receive(state: ClusterState, me: str, seen: MySQLObservation, context: LocalContext) -> LocalPlan:
    channel = seen.channel
    assert channel is not None
    actions: list[Action] = []
    if channel.receiver is not ReceiverState.OFF and me in state.locked and me not in state.sync_set:
        actions.append(StopReceiver())  # nobody is admitted who could connect before it decided to
    if channel.receiver is ReceiverState.OFF:
        if why := _why_never_served(state, me, channel):
            if me not in state.sync_set:
                return _rebuild(state, me, why)
            # It may have said so in an earlier reign of that primary. More than one try would look like receiving.
            tried = me in state.locked or context.receiver_epoch == state.epoch
            return msgspec.structs.replace(_strand(why), actions=() if tried else (StartReceiver(),))
        if me in state.locked:
            return LocalPlan(note=f"waits to be admitted by {state.primary}")
        actions.append(StartReceiver())
    if _can_apply(channel, context):
        actions.append(StartApplier())
    if seen.offline_mode:
        actions.append(GoOnline())
    actions += _keep_accounts(state, context) + _check_accounts(state, context) + _keep_next_start(seen)
    return LocalPlan(tuple(actions), note=channel.receiver_error or channel.applier_error)


def _why_never_served(state: ClusterState, me: str, channel: Channel) -> str:
    """Why the source refuses this replica for good, "" when it does not. The codes alone also stand for whatever else
    ends a dump thread there, like a lack of file descriptors, and that passes."""
    if channel.receiver_error_code in READING_ERRORS:
        if "purged" in channel.receiver_error:
            return f"{state.primary} has purged what {me} needs"
        if "has more GTIDs" in channel.receiver_error:
            return f"{me} has transactions that {state.primary} lost"
    return ""


# --- the word for it --------------------------------------------------------------------------------


def describe(state: ClusterState, me: str, seen: MySQLObservation) -> MySQLState:
    """What this mysqld is, in one word, from what was seen."""
    if state.primary == me:
        return MySQLState.PRIMARY if seen.writable else MySQLState.JOINING
    if not state.primary or seen.offline_mode:
        replicating = state.phase is Phase.SWITCHOVER and state.previous_primary != me
        return MySQLState.REPLICA if replicating else MySQLState.FENCED
    following = _points_to(state, seen.channel) and seen.channel is not None
    if following and seen.channel and seen.channel.receiver is ReceiverState.ON and seen.channel.applier_running:
        return MySQLState.REPLICA
    return MySQLState.JOINING
