"""Carry out the first steps of a plan, lose it, decide again: the rest of it must follow, for every plan and step.

The mysqld of the cluster model carries the steps out, so that each observation is what the steps before have left.
"""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner import local
from raftctl.planner.local import Action, LocalContext, decide_local
from tests.simulation.cluster_model_mysqld import Mysqld, Transaction
from tests.support.planner_builders import a_change, a_state

STEPS_MAX = 30


@dataclasses.dataclass
class Host:
    """A controller's knowledge and its mysqld, db2, which has replicated ten transactions of db1's."""

    me: str
    state: ClusterState
    mysqlds: dict[str, Mysqld] = dataclasses.field(default_factory=dict)
    context: LocalContext = dataclasses.field(default_factory=lambda: LocalContext(confirmed=True, lease_valid=True))
    done: list[Action] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.mysqlds = {n: Mysqld(n, f"{n}:3306", lambda *_: None) for n in ("db1", "db2", "db3")}
        for name in ("db2", "db3"):
            self.mysqlds[name].point_to(self.mysqlds["db1"])
            self.mysqlds[name].acknowledging = True
            self.mysqlds[name].start_receiver()
            self.mysqlds[name].applier_running = True
        for number in range(1, 11):
            transaction = Transaction(self.mysqlds["db1"].uuid, number, number)
            self.mysqlds["db1"].log(transaction, client=False)
        for name in ("db2", "db3"):
            self.mysqlds[name].receive(lambda *_: True, 10)

    @property
    def mine(self) -> Mysqld:
        return self.mysqlds[self.me]

    def decide(self) -> tuple[Action, ...]:
        """The actions that change something: StartApplier is decided for good measure also where the applier runs."""
        actions = decide_local(self.state, self.me, self.mine.observe(clients=1, donates=False), self.context).actions
        return tuple(a for a in actions if not (isinstance(a, local.StartApplier) and self.mine.applier_running))

    def carry_out(self, action: Action) -> None:
        self.done.append(action)
        match action:
            case local.StopReceiver():
                self.mine.stop_receiver()
                self._learn(stopped_epoch=self.state.epoch)
            case local.ProveQuiet():
                self._learn(stopped_epoch=self.state.epoch)
            case local.StartReceiver():
                self.mine.start_receiver()
                self.mine.connect(lambda *_: True)
                self._learn(receiver_epoch=self.state.epoch)
            case local.StartApplier():
                self.mine.applier_running = True
            case local.WaitApplied():
                self.mine.apply()
            case local.ForgetSource():
                self.mine.forget_source()
            case local.AskPrimary(primary):
                self._learn(primary_executed=self.mysqlds[primary].executed_set, receiver_epoch=0)
            case local.PointTo(primary):
                self.mine.point_to(self.mysqlds[primary])
            case local.SetAcknowledging(on):
                self.mine.set_acknowledging(on)
                self.mine.connect(lambda *_: True)
            case local.BecomeSource(acks):
                self.mine.become_source(acks)
                self._learn(source_acks=acks)
            case local.SourceOff():
                self.mine.become_source(0)
            case local.LockAccounts(members):
                self.mine.lock_accounts(members)
                self._learn(locked=members)
            case local.GoOnline():
                self.mine.offline = False
            case local.Open(_):
                self.mine.open()
            case local.StopWriting():
                self.mine.stop_writing()
            case local.Fence():
                self.mine.fence()
                self.mine.start()
            case local.Rebuild(donor):
                self.mine.wipe(renew_uuid=True)
                self.mine.cloned_from(self.mysqlds[donor])
                self.mine.start()
                self._learn(primary_executed=None)
            case _:
                raise AssertionError(action)

    def _learn(self, **known: object) -> None:
        self.context = msgspec.structs.replace(self.context, **known)

    def run(self, *, interrupt_after: int | None = None) -> list[Action]:
        """Plans carried out until nothing is left to do. With `interrupt_after` every plan is lost after so many
        steps and decided again."""
        for _ in range(STEPS_MAX):
            actions = self.decide()
            if not actions:
                return self.done
            for action in actions[:interrupt_after]:
                self.carry_out(action)
        raise AssertionError(f"never ends: {self.done}")


REIGN_OF_DB2 = {"primary": "db2", "previous_primary": "db1", "epoch": 2, "phase": Phase.PROMOTING}


def _promoted() -> Host:
    return Host("db2", a_state(**REIGN_OF_DB2, sync_set=("db2", "db3"), locked=("db1",), floor=GTIDSet()))


def _follower() -> Host:
    host = Host("db3", a_state(**REIGN_OF_DB2, sync_set=("db2", "db3"), floor=GTIDSet()))
    _let_db2_have_everything(host)
    return host


def _former_primary() -> Host:
    host = Host("db1", a_state(**REIGN_OF_DB2, sync_set=("db2", "db3"), floor=GTIDSet()))
    _let_db2_have_everything(host)
    host.mine.become_source(1)
    host.mine.open()
    return host


def _former_primary_with_a_tail() -> Host:
    host = _former_primary()
    host.mine.begin()
    host.mine.progress(content=99)
    return host


def _stands_by() -> Host:
    return Host("db3", a_change(Phase.FAILOVER, floor=GTIDSet()))


def _relieved(phase: Phase) -> Host:
    host = Host("db1", a_change(phase, target="db2", floor=GTIDSet()))
    host.mine.become_source(1)
    host.mine.open()
    return host


def _returns_to_an_old_source() -> Host:
    host = Host("db3", a_state(sync_set=("db1", "db2"), floor=GTIDSet()))
    host.mysqlds["db1"].open()
    return host


def _restarted_primary() -> Host:
    return Host("db1", a_state(floor=GTIDSet()))


def _let_db2_have_everything(host: Host) -> None:
    host.mysqlds["db2"].stop_receiver()
    for _ in range(10):
        host.mysqlds["db2"].apply()


SITUATIONS = {
    "promoted": _promoted,
    "follower": _follower,
    "former primary": _former_primary,
    "former primary with a tail": _former_primary_with_a_tail,
    "stands by": _stands_by,
    "relieved in a switchover": lambda: _relieved(Phase.SWITCHOVER),
    "relieved in a failover": lambda: _relieved(Phase.FAILOVER),
    "returns to an old source": _returns_to_an_old_source,
    "restarted primary": _restarted_primary,
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_plan_ends(name: str) -> None:
    host = SITUATIONS[name]()
    done = host.run()
    assert done
    assert host.decide() == ()


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", SITUATIONS)
def test_a_lost_plan_is_taken_up_where_it_stopped(name: str, steps: int) -> None:
    """The same actions in the same order, however often the plan is decided anew."""
    assert SITUATIONS[name]().run(interrupt_after=steps) == SITUATIONS[name]().run()


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_is_left_of_a_plan_is_decided_again(name: str) -> None:
    length = len(SITUATIONS[name]().run())
    for step in range(length):
        host = SITUATIONS[name]()
        while len(host.done) < step:
            host.carry_out(host.decide()[0])
        left = host.decide()
        host.carry_out(left[0])
        if rest := left[1:]:
            assert host.decide()[: len(rest)] == rest


def test_the_order_in_which_a_promoted_member_opens() -> None:
    kinds = [type(action) for action in _promoted().run() if not isinstance(action, local.WaitApplied)]
    assert kinds == [
        local.StopReceiver,
        local.SetAcknowledging,
        local.BecomeSource,
        local.LockAccounts,
        local.Open,
        local.ForgetSource,
    ]


def test_a_tail_is_fenced_then_rebuilt() -> None:
    host = _former_primary_with_a_tail()
    done = host.run()
    kinds = [type(action) for action in done]
    assert kinds.index(local.Fence) < kinds.index(local.Rebuild) < kinds.index(local.PointTo)
    assert host.mine.executed_set == host.mysqlds["db2"].executed_set
