"""A small cluster whose every interleaving is enumerated: changes of the sync set and of k, acknowledgements, crashes,
failovers. The decisions are the production code (`decide`, `decide_local`, `apply`), the servers a few fields each.

What is left out, because the random model (`cluster_model_world`) has it: applying what was received, messages that
arrive in another order, abandoned statements, loss of power, time. All delays are as bad as they can be: whoever does
not take a step is slow, a lease never ends, every patience is over at once.

A state is a tuple of small values, so that two ways to the same state are one: what was decided and seen is kept once
in `Tables` and named by a number there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import msgspec

from raftctl.cluster.codec import to_json
from raftctl.cluster.commands import AnyCommand, BeginSwitchover
from raftctl.cluster.facts import MemberReport, MySQLFacts, MySQLState
from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.cluster.observation import Channel, MySQLObservation, ReceiverState, SemiSync
from raftctl.cluster.state import ClusterState
from raftctl.planner import local
from raftctl.planner.local import Action, LocalContext, LocalPlan
from raftctl.planner.switchover import request_switchover
from raftctl.planner.sync_set import receives
from raftctl.planner.view import ClusterView, Seen, proof
from tests.simulation.cluster_model_mysqld import REFUSED, Violation
from tests.simulation.cluster_model_world import Rules

replace = msgspec.structs.replace
NAMES = ("db1", "db2", "db3")
UUIDS = tuple(f"{i:08x}-0000-0000-0000-000000000001" for i in range(1, 4))
NOBODY = -1
LONG = 1e6
STEPS_MAX = 8
_T = TypeVar("_T")


class Server(NamedTuple):
    """One mysqld and what its controller knows. Sets of transactions and of members are bit masks. `received` by
    replication or written here: all of it is executed, but what is in `waiting`: the transactions of this source that
    have not enough acknowledgements, each with who gave one. `state` is the cluster state that the controller acts
    on while nobody reaches it, NOBODY when it has the newest."""

    has: int
    alive: bool = True
    writable: bool = False
    closing: bool = False  # super_read_only reads ON, and commits still wait
    waits_for: int = 0  # acknowledgements; 0 with semi-sync off
    waiting: tuple[tuple[int, int], ...] = ()
    locked: int = 0
    source: int = NOBODY
    receiving: bool = False
    purged: bool = False  # the source does not have any more what it needs
    acknowledges: bool = False
    stopped_epoch: int = 0
    known_locked: int = NOBODY  # what the controller verified since mysqld started; NOBODY: nothing
    known_acks: int = NOBODY
    asked: int = NOBODY  # what the primary has
    state: int = NOBODY


class Model(NamedTuple):
    """`heard` and `first` are numbers of reports; `fresh` whether each was made on the newest state. `acknowledged` are
    the transactions that clients were told of, `opened` the newest epoch that became writable, `reigns` each server's
    own. `crashes`, `writes`, `silences` and `wishes` are what may still happen."""

    state: int
    servers: tuple[Server, ...]
    heard: tuple[int, ...]
    first: tuple[int, ...]
    fresh: tuple[bool, ...]
    silent: int
    acknowledged: int
    opened: int
    reigns: tuple[int, ...]
    written: int
    crashes: int
    writes: int
    silences: int
    wishes: int


@dataclasses.dataclass
class Tables:
    """What numbers stand for, and what the production code said about them before."""

    rules: Rules
    states: list[ClusterState] = dataclasses.field(default_factory=list)
    reports: list[MemberReport] = dataclasses.field(default_factory=list)
    _state_numbers: dict[object, int] = dataclasses.field(default_factory=dict)
    _report_numbers: dict[object, int] = dataclasses.field(default_factory=dict)
    _decided: dict[object, AnyCommand | None] = dataclasses.field(default_factory=dict)
    _applied: dict[object, int] = dataclasses.field(default_factory=dict)
    _looked: dict[object, tuple[int, LocalPlan]] = dataclasses.field(default_factory=dict)

    def number_of(self, state: ClusterState) -> int:
        """Which state it is, whatever its version and history."""
        state = replace(state, version=1, history=())
        key = (
            *(state.phase, state.epoch, state.primary, state.previous_primary, state.target, str(state.floor)),
            *(state.sync_set, state.required_acks, state.source_acks, state.locked, state.failover_cause),
            *(state.settings.durability, state.settings.durability_policy, tuple(state.rebuilds.items())),
            *sorted((member, str(held)) for member, held in state.held.items()),
        )
        number = self._state_numbers.setdefault(key, len(self.states))
        if number == len(self.states):
            self.states.append(state)
        return number

    def report_number(self, report: MemberReport, key: object) -> int:
        number = self._report_numbers.setdefault(key, len(self.reports))
        if number == len(self.reports):
            self.reports.append(report)
        return number

    def decide(self, model: Model) -> AnyCommand | None:
        key = (model.state, model.heard, model.first, model.fresh, model.silent)
        if key not in self._decided:
            self._decided[key] = self.rules.decide(self.states[model.state], self.view(model)).command
        return self._decided[key]

    def apply(self, state: int, command: AnyCommand) -> int:
        key = (state, to_json(command))
        if key not in self._applied:
            self._applied[key] = self.number_of(self.rules.apply(self.states[state], command, 1))
        return self._applied[key]

    def view(self, model: Model) -> ClusterView:
        """As the leader sees it: everything that it did not hear for some time counts as silence."""
        state, members = self.states[model.state], {}
        for i, name in enumerate(NAMES[: len(model.servers)]):
            if model.heard[i] == NOBODY or i == model.silent:
                continue
            version = state.version if model.fresh[i] else state.version - 1
            report = replace(self.reports[model.heard[i]], version=version)
            first = replace(self.reports[model.first[i]], version=version) if model.first[i] != NOBODY else None
            receiving = bool(state.primary) and receives(state, report)
            members[name] = Seen(report, 0.1, 0.1 if receiving else LONG, first=first)
        return ClusterView(members=members, listening_seconds=LONG, version_seconds=LONG)

    def look(self, number: int, me: int, server: Server, clients: int) -> tuple[int, LocalPlan]:
        """What the controller reports and decides: the number of the report, and the plan."""
        key = (number, me, server, clients)
        if key not in self._looked:
            self._looked[key] = self._look(number, me, server, clients)
        return self._looked[key]

    def _look(self, number: int, me: int, server: Server, clients: int) -> tuple[int, LocalPlan]:
        state, name = self.states[number], NAMES[me]
        if not server.alive:
            report = MemberReport(name, 1, state.version, state.epoch, mysql=MySQLFacts(MySQLState.DOWN))
            return self.report_number(report, (me, number, None)), LocalPlan()
        seen = observation(me, server, clients)
        context = LocalContext(
            confirmed=True,
            lease_valid=True,
            stopped_epoch=server.stopped_epoch,
            locked=None if server.known_locked == NOBODY else names(server.known_locked),
            source_acks=None if server.known_acks == NOBODY else server.known_acks,
            primary_executed=None if server.asked == NOBODY else gtids(server.asked),
            commits_stand_still=bool(server.waiting),
            roster=state.roster,
        )
        plan = self.rules.decide_local(state, name, seen, context)
        fenced = self.rules.promised_epoch(state, name, seen, context)
        report = MemberReport(
            name,
            1,
            state.version,
            state.epoch,
            fenced_epoch=fenced,
            holds=seen.holds if fenced else GTIDSet(),
            locked=(context.locked or ()) if state.primary == name else (),
            source_acks=local.proven_acks(state, name, seen, context),
            mysql=MySQLFacts(local.describe(state, name, seen), seen, errant=plan.errant, stranded=plan.stranded),
        )
        return self.report_number(report, (me, number, server, clients)), plan


def gtids(mask: int) -> GTIDSet:
    """Transaction i is number i + 1 of the first server's UUID: who wrote it makes no difference here."""
    return GTIDSet(Interval(UUIDS[0], "", i + 1, i + 1) for i in range(mask.bit_length()) if mask >> i & 1)


def names(mask: int) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(NAMES) if mask >> i & 1)


def mask_of(members: tuple[str, ...]) -> int:
    return sum(1 << i for i, name in enumerate(NAMES) if name in members)


def observation(me: int, server: Server, clients: int) -> MySQLObservation:
    owned = sum(1 << t for t, _ in server.waiting)
    channel = None
    if server.source != NOBODY:
        channel = Channel(
            source_host=NAMES[server.source],
            source_port=3306,
            source_user="",
            source_uuid=UUIDS[server.source],
            receiver=ReceiverState.ON if server.receiving else ReceiverState.OFF,
            applier_running=True,
            receiver_error_code=REFUSED if server.purged else 0,
            receiver_error="the source purged required binary logs" if server.purged else "",
        )
    return MySQLObservation(
        server_uuid=UUIDS[me],
        server_id=me + 1,
        version="8.4.6",
        uptime_seconds=1,
        read_only=not server.writable and not server.closing,
        super_read_only=not server.writable,
        offline_mode=False,
        gtid_owned=gtids(owned),
        gtid_executed=gtids(server.has & ~owned),
        gtid_purged=GTIDSet(),
        gtid_received=GTIDSet(),
        channel=channel,
        semi_sync=SemiSync(
            source_enabled=server.waits_for > 0,
            source_status=server.waits_for > 0,
            required_acks=server.waits_for,
            wait_sessions=len(server.waiting) if server.waits_for else 0,
            clients=clients,
            replica_enabled=server.acknowledges,
            replica_status=server.acknowledges and server.receiving,
        ),
        relay_log_synced=server.acknowledges,
    )


# --- steps ------------------------------------------------------------------------------------------


def successors(model: Model, tables: Tables) -> Iterator[tuple[str, Model]]:
    """Everything that can happen next. Raises Violation."""
    for i, server in enumerate(model.servers):
        yield f"{NAMES[i]} looks and acts", controller_steps(model, tables, i)
        if i != model.silent:
            yield f"{NAMES[i]} looks", controller_steps(model, tables, i, acts=False)
        yield f"{NAMES[i]} does all that is due", all_steps(model, tables, i)
        if server.alive and server.writable and model.writes:
            yield f"a client writes to {NAMES[i]}", written(model, tables, i)
        if server.alive and server.receiving:
            yield f"{NAMES[i]} receives", received(model, tables, i, acknowledges=False)
            if server.acknowledges:
                yield f"{NAMES[i]} receives and acknowledges", received(model, tables, i, acknowledges=True)
        if not server.alive:
            yield f"{NAMES[i]} starts again", restarted(model, i)
        elif model.crashes:
            yield f"{NAMES[i]} crashes", crashed(model, i)._replace(crashes=model.crashes - 1)
    yield "the leader decides", led(model, tables, tables.decide(model))
    if model.wishes:
        wish = request_switchover(tables.states[model.state], tables.view(model), by="ann")
        if isinstance(wish, BeginSwitchover):
            yield "a person asks for a switchover", led(model, tables, wish)._replace(wishes=model.wishes - 1)
    if model.silent != NOBODY:
        back = model.servers[model.silent]._replace(state=NOBODY)
        yield f"{NAMES[model.silent]} is heard again", _with(model, model.silent, back)._replace(silent=NOBODY)
    elif model.silences:
        for i, server in enumerate(model.servers):
            cut = _with(model, i, server._replace(state=model.state))
            yield f"{NAMES[i]}'s controller is cut off", cut._replace(silent=i, silences=model.silences - 1)


def _with(model: Model, index: int, server: Server) -> Model:
    return model._replace(servers=(*model.servers[:index], server, *model.servers[index + 1 :]))


def clients_of(model: Model, source: int) -> list[int]:
    return [i for i, s in enumerate(model.servers) if s.alive and s.receiving and s.acknowledges and s.source == source]


def led(model: Model, tables: Tables, command: AnyCommand | None) -> Model:
    """A committed decision makes every report one of an earlier version."""
    if command is None:
        return model
    after = tables.apply(model.state, command)
    if after == model.state:
        return model
    epoch, before = tables.states[after].epoch, tables.states[model.state].epoch
    servers = model.servers
    if epoch != before:  # what the primary said in another epoch counts no more
        servers = tuple(s._replace(asked=NOBODY) for s in servers)
    nothing = (NOBODY,) * len(servers)
    return model._replace(state=after, servers=servers, fresh=(False,) * len(servers), first=nothing)


def controller_steps(model: Model, tables: Tables, me: int, *, acts: bool = True) -> Model:
    """A look, its report to the leader, and the first action that follows from it, unless it is slow to act."""
    server = model.servers[me]
    number = model.state if server.state == NOBODY else server.state
    heard, plan = tables.look(number, me, server, len(clients_of(model, me)))
    if me != model.silent:
        model = _hear(model, tables, me, heard)
    steps = [action for action in plan.actions if not isinstance(action, local.Nudge)]  # which changes nothing here
    for action in steps[:1] if acts else ():
        model = acted(model, tables, me, action, tables.states[number])
    return model


def all_steps(model: Model, tables: Tables, me: int) -> Model:
    """As many looks and actions as it takes until there is nothing to do: what is quick happens in one step, too, so
    that few steps lead far."""
    for _ in range(STEPS_MAX):
        after = controller_steps(model, tables, me)
        if after == model:
            break
        model = after
    return model


def _hear(model: Model, tables: Tables, me: int, heard: int) -> Model:
    first = model.first[me]
    same = model.fresh[me] and first != NOBODY and proof(tables.reports[first]) == proof(tables.reports[heard])
    return model._replace(
        heard=_replaced(model.heard, me, heard),
        first=_replaced(model.first, me, first if same else heard),
        fresh=_replaced(model.fresh, me, True),
    )


def _replaced(values: tuple[_T, ...], index: int, value: _T) -> tuple[_T, ...]:
    return (*values[:index], value, *values[index + 1 :])


def acted(model: Model, tables: Tables, me: int, action: Action, state: ClusterState) -> Model:
    server = model.servers[me]
    match action:
        case local.StopReceiver():
            server = server._replace(receiving=False, stopped_epoch=state.epoch)
        case local.StartReceiver():
            source = model.servers[server.source]
            if source.alive and not server.purged and not source.locked >> me & 1:
                server = server._replace(receiving=True)
        case local.ForgetSource():
            server = server._replace(source=NOBODY, receiving=False)
        case local.PointTo(primary):
            server = server._replace(source=NAMES.index(primary), receiving=False)
        case local.AskPrimary(primary):
            asked = model.servers[NAMES.index(primary)]
            server = server._replace(asked=asked.has) if asked.alive else server
        case local.SetAcknowledging(on):
            server = server._replace(acknowledges=on)
        case local.BecomeSource(acks):
            server = server._replace(waits_for=acks, known_acks=acks)
            return settled(_with(model, me, server), tables, me)
        case local.SourceOff():
            return settled(_with(model, me, server._replace(waits_for=0)), tables, me)
        case local.LockAccounts(members):
            return locked(model, tables, me, mask_of(members))
        case local.Open(acks):
            if server.waits_for == acks or not tables.rules.open_is_verified:
                return opened(model, me, state.epoch)
        case local.StopWriting():
            server = server._replace(writable=False, closing=bool(server.waiting))
        case local.ProveQuiet():
            server = server if server.waiting else server._replace(stopped_epoch=state.epoch)
        case local.Fence():
            return crashed(model, me) if server.waiting else _with(model, me, server._replace(writable=False))
        case local.Rebuild(donor):
            source = model.servers[NAMES.index(donor)]
            if source.alive and not source.waiting:
                server = Server(has=source.has, state=server.state)
        case local.StartApplier() | local.WaitApplied() | local.GoOnline():
            pass
        case _:
            raise AssertionError(action)
    return _with(model, me, server)


def locked(model: Model, tables: Tables, me: int, members: int) -> Model:
    """The accounts are locked and their connections ended."""
    model = _with(model, me, model.servers[me]._replace(known_locked=members))
    if not tables.rules.locks_accounts:
        return model
    model = _with(model, me, model.servers[me]._replace(locked=members))
    for i, server in enumerate(model.servers):
        if server.source == me and members >> i & 1:
            model = _with(model, i, server._replace(receiving=False))
    return model


def opened(model: Model, me: int, epoch: int) -> Model:
    server = model.servers[me]
    model = _with(model, me, server._replace(writable=True))._replace(reigns=_replaced(model.reigns, me, epoch))
    if epoch < model.opened:
        return model
    if missing := model.acknowledged & ~server.has:
        raise Violation("lost-write", f"{NAMES[me]} opens in epoch {epoch} without {gtids(missing)}")
    return model._replace(opened=epoch)


def crashed(model: Model, me: int) -> Model:
    """What is in its binary log is committed by the next start, acknowledged or not. Its replicas lose it."""
    server = Server(
        has=model.servers[me].has,
        alive=False,
        source=model.servers[me].source,
        locked=model.servers[me].locked,
        purged=model.servers[me].purged,
        state=model.servers[me].state,
    )
    model = _with(model, me, server)
    for i, other in enumerate(model.servers):
        if other.source == me and other.receiving:
            model = _with(model, i, other._replace(receiving=False))
    return model


def restarted(model: Model, me: int) -> Model:
    return _with(model, me, model.servers[me]._replace(alive=True))


def written(model: Model, tables: Tables, me: int) -> Model:
    server, number = model.servers[me], model.written
    server = server._replace(has=server.has | 1 << number, waiting=(*server.waiting, (number, 0)))
    model = _with(model, me, server)._replace(written=number + 1, writes=model.writes - 1)
    return settled(model, tables, me)


def received(model: Model, tables: Tables, me: int, *, acknowledges: bool) -> Model:
    """All that the source has; the acknowledgement may get lost on its way."""
    server = model.servers[me]
    source = model.servers[server.source]
    if not source.alive:
        return _with(model, me, server._replace(receiving=False))
    model = _with(model, me, server._replace(has=server.has | source.has))
    if not acknowledges:
        return model
    waiting = tuple((t, ackers | 1 << me) for t, ackers in source.waiting)
    return settled(_with(model, server.source, source._replace(waiting=waiting)), tables, server.source)


def settled(model: Model, tables: Tables, me: int) -> Model:
    """Commits that have their acknowledgements end, in order, and their clients are told."""
    server = model.servers[me]
    waiting, told = server.waiting, model.acknowledged
    while waiting and waiting[0][1].bit_count() >= server.waits_for:
        told |= 1 << waiting[0][0]
        waiting = waiting[1:]
    if waiting == server.waiting:
        return model
    state = tables.states[model.state]
    fresh = told & ~model.acknowledged
    if model.reigns[me] < model.opened and not gtids(fresh) <= state.floor:
        raise Violation("old-primary", f"{NAMES[me]} acknowledges {gtids(fresh)} after a newer primary opened")
    closing = server.closing and bool(waiting)
    return _with(model, me, server._replace(waiting=waiting, closing=closing))._replace(acknowledged=told)


def check(model: Model, tables: Tables) -> None:
    """Rule R6: what was acknowledged is in the floor, or on at least k members of S besides the primary."""
    state = tables.states[model.state]
    primary = state.primary or state.previous_primary
    replicas = [s for name, s in zip(NAMES, model.servers, strict=False) if name in state.sync_set and name != primary]
    for t in range(model.acknowledged.bit_length()):
        if not model.acknowledged >> t & 1 or state.floor.has(UUIDS[0], t + 1):
            continue
        holders = sum(1 for s in replicas if s.has >> t & 1)
        if holders < state.required_acks:
            raise Violation("ack-set", f"{gtids(1 << t)} is on {holders} of {state.sync_set} besides {primary}")
