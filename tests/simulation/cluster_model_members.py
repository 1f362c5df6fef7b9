"""The simulated cluster with members that come and go: hosts are added, removed, rebuilt, replaced under their name,
they change role, and the durability changes, while everything else goes wrong as ever.

Raft's configuration is changed at once or refused for want of a quorum; a host that was removed lives on and hears
nobody, until another one gets its name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from raftctl.cluster import commands as c
from raftctl.cluster.durability import wanted_acks
from raftctl.cluster.state import Engine, Member, MemberRole, Phase, Settings
from raftctl.planner import local
from raftctl.planner.local import LocalContext
from raftctl.planner.membership import (
    Reshape,
    request_add,
    request_rebuild,
    request_rejoin,
    request_removal,
    request_set,
)
from raftctl.planner.view import ClusterView
from tests.simulation.cluster_model_controller import Controller, Task
from tests.simulation.cluster_model_mysqld import Mysqld, Transaction
from tests.simulation.cluster_model_world import World

MEMBERS_MAX = 5
OLD = Transaction("00000000-0000-0000-0000-000000000001", 1, 0)  # from before bootstrap, in no binary log
ROLES = (MemberRole.DATA, MemberRole.DATA, MemberRole.ASYNC)


class MemberController(Controller):
    """Also keeps accounts, and knows that a CLONE has not come to its end."""

    _world: MemberWorld
    roster = 0
    kept_starts = -1

    def start(self) -> None:
        if not self.alive:
            self.roster = 0
        super().start()

    def advance(self, limit: int) -> None:
        if self.name in self._world.nodes and self._world.controllers.get(self.name) is self:
            super().advance(limit)

    def context(self) -> LocalContext:
        known = self.roster if self.kept_starts == self.mysqld.starts else 0
        return msgspec.structs.replace(super().context(), roster=known, incomplete=self.name in self._world.incomplete)

    def _carry_out(self, action: local.Action, task: Task) -> None:
        if isinstance(action, local.KeepAccounts):
            self._world.keep_accounts(self.mysqld, action)
            self.roster, self.kept_starts = action.roster, self.mysqld.starts
        else:
            super()._carry_out(action, task)

    def view(self) -> ClusterView:
        world = self._world
        return msgspec.structs.replace(super().view(), voters=world.voters, learners=world.learners)


class MemberWorld(World):
    def __init__(self, seed: int, *, change_rate: float | None = None, focus: Mapping[str, Any] | None = None) -> None:
        self.voters: tuple[str, ...] = ()
        self.learners: tuple[str, ...] = ()
        self.incomplete: set[str] = set()
        self.refused: dict[str, int] = {}
        self._uids = itertools.count(1)
        super().__init__(seed, focus=focus)
        self.change_rate = self.rng.choice((0.02, 0.1, 0.3)) if change_rate is None else change_rate

    def _initialize(self, names: list[str]) -> None:
        self.voters = tuple(names)
        self.controllers = {n: MemberController(n, self, self.rng) for n in names}
        members = tuple(_member(n, MemberRole.DATA) for n in names)
        for name in names:
            self.mysqlds[name].executed[OLD.gtid] = OLD.content
            self.mysqlds[name].executed_set = self.mysqlds[name].purged = OLD.gtids
        settings = Settings(
            durability="majority" if self.config.acks else "async",
            durability_policy="available" if self.config.available else "strict",
        )
        self.commit(
            c.InitCluster(
                cluster="model",
                engine=Engine.SEMI_SYNC,
                members=members,
                settings=settings,
                primary=names[0],
                floor=OLD.gtids,
                sync_set=tuple(names),
                required_acks=len(names) // 2 if self.config.acks else 0,
            )
        )

    # --- who is there -----------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[str, ...]:
        return self.voters + self.learners

    def commit(self, command: c.AnyCommand) -> None:
        before = self.state
        super().commit(command)
        if isinstance(command, c.AddMember) and self.state is not before:
            self._arrive(command.member.name)

    def _arrive(self, name: str) -> None:
        """A new host, perhaps under the name of one that was removed, which is gone then."""
        former = self.controllers.get(name)
        if former is not None:
            former.kill()
            former.mysqld.kill()
            self.stray = [s for s in self.stray if s[0] != name]
        self.incomplete.discard(name)
        self.cloning.pop(name, None)
        mysqld = Mysqld(name, f"{name}:3306", self._acknowledged)
        mysqld._uuids = 1000 * next(self._uids)
        mysqld.renew_uuid()
        self.mysqlds[name] = mysqld
        self.apply_rate[name] = 1.0
        self.receive_rate[name] = self.config.receive_rate
        for controller in self.controllers.values():
            if controller.alive:
                controller.heard.pop(name, None)
        self.controllers[name] = MemberController(name, self, self.rng)

    def keep_accounts(self, mysqld: Mysqld, action: local.KeepAccounts) -> None:
        kept = {name for name, _ in action.members}
        mysqld.dropped = {n for n in self.mysqlds if n not in kept}
        mysqld.gone |= mysqld.dropped

    def _has_quorum(self, name: str) -> bool:
        if name not in self.voters or not self.controllers[name].running:
            return False
        return 2 * len(self._answering(name)) > len(self.voters)

    def _answering(self, name: str) -> list[str]:
        return [n for n in self.voters if n == name or (self.controllers[n].running and self.reachable(name, n))]

    def read_index(self, member: str) -> int | None:
        return super().read_index(member) if member in self.nodes else None

    def connected(self, a: str, b: str) -> bool:
        members = self.state.members
        return a in members and b in members and super().connected(a, b)

    def _deliver(self) -> None:
        members = self.state.members
        self._messages = [m for m in self._messages if m[1] in members and m[2] in members]
        self._messages = [m for m in self._messages if m[2] in self.controllers]
        super()._deliver()

    # --- the leader -------------------------------------------------------------------------------------

    def _lead(self) -> None:
        if not self.leader:
            return
        controller = self.controllers[self.leader]
        if not controller.running:
            return
        controller.advance(len(self.log))
        primary = self.controllers.get(controller.state.primary)
        if primary and primary.running and self.reachable(self.leader, primary.name) and self._has_quorum(self.leader):
            primary.lease_until = self.now + controller.state.settings.lease_ttl
        if len(self._pending) > 2:
            return
        verdict = self.rules.decide(controller.state, controller.view())
        command = verdict.command
        if verdict.reshape is not None and self.rng.random() < 0.5:
            self._reshape(verdict.reshape)
        if command is None and not self.healing:
            if self.rng.random() < self.config.request_rate:
                command = self._request(controller)
            elif self.rng.random() < self.change_rate:
                command = self._change(controller)
        if command is not None:
            delay = self.rng.choice((0.0, 0.0, self.config.proposal_delay_max))
            self._pending.append((self.now + delay, command))

    def _reshape(self, wanted: Reshape) -> None:
        answering = [n for n in wanted.voters if n == self.leader or n in self._answering_nodes()]
        if 2 * len(answering) <= len(wanted.voters) or not self._has_quorum(self.leader):
            self.trace(lambda: f"Raft refuses {wanted}")
            return
        assert len(set(wanted.voters) ^ set(self.voters)) <= 1, (self.voters, wanted)
        assert set(wanted.voters) - set(self.voters) <= set(self.learners)
        assert set(wanted.voters + wanted.learners) <= set(self.state.members), "whoever is in Raft is in the state"
        self.voters, self.learners = wanted.voters, wanted.learners
        self.trace(lambda: f"Raft: {wanted}")
        if self.leader not in self.voters:
            self.leader = ""

    def _answering_nodes(self) -> list[str]:
        return [n for n in self.nodes if self.controllers[n].running and self.reachable(self.leader, n)]

    def _change(self, controller: Controller) -> c.AnyCommand | None:
        state, view, rng = controller.state, controller.view(), self.rng
        name = rng.choice(sorted(state.members) or [""])
        free = [f"db{n}" for n in range(1, 8) if f"db{n}" not in state.members]
        kinds = ["remove", "role", "rebuild", "rejoin", "settings"]
        if len(state.members) < MEMBERS_MAX:
            kinds += ["add"] * 3
        kind = rng.choice(kinds)
        answer: Any
        match kind:
            case "add":
                member = _member(rng.choice(free), rng.choice(ROLES), uid=f"u{next(self._uids)}")
                answer = request_add(state, member, by="somebody")
            case "remove":
                answer = request_removal(state, view, name, by="somebody")
            case "role":
                answer = request_set(state, view, name, role=rng.choice(ROLES), by="somebody")
            case "rebuild":
                answer = request_rebuild(state, view, name, by="somebody")
            case "rejoin":
                answer = request_rejoin(state, view, name, by="somebody")
            case "settings":
                answer = self._settings(state)
        if isinstance(answer, list):
            for refusal in answer:
                key = f"{kind}: {refusal.reason}"
                self.refused[key] = self.refused.get(key, 0) + 1
            return None
        return answer  # type: ignore[no-any-return]

    def _settings(self, state: Any) -> c.AnyCommand | list[Any]:
        if not self.config.acks:
            return []
        settings = msgspec.structs.replace(
            state.settings,
            durability=self.rng.choice(("majority", "all", "1")),
            durability_policy=self.rng.choice(("strict", "available")),
        )
        return c.ChangeSettings(replaces=state.settings_number, settings=settings)

    # --- effects ----------------------------------------------------------------------------------------

    def carry_out(self, mysqld: Mysqld, action: local.Action, epoch: int) -> None:
        if isinstance(action, local.KeepAccounts):
            self.keep_accounts(mysqld, action)
            return
        if self.mysqlds.get(mysqld.name) is not mysqld:
            return
        if isinstance(action, local.Rebuild):
            self.incomplete.add(mysqld.name)
        super().carry_out(mysqld, action, epoch)

    def cloned(self, name: str, donor: Mysqld) -> None:
        super().cloned(name, donor)
        self.incomplete.discard(name)
        self.mysqlds[name].locked, self.mysqlds[name].dropped = set(donor.locked), set(donor.dropped)

    # --- checkers ---------------------------------------------------------------------------------------

    def unhealed(self) -> str:
        state = self.state
        wanted = wanted_acks(state, state.sync_set)
        acks = (state.required_acks, state.source_acks)
        under_way = (state.joining, *(set(names) - self._held_up() for names in self._going()))
        whole = set(state.sync_set) == set(state.data_members) and acks == (wanted, wanted)
        if state.phase is not Phase.STEADY or state.locked or not whole or any(under_way):
            return (
                f"{state.phase} e{state.epoch} S={state.sync_set} k={acks} wanted={wanted} locked={state.locked} "
                f"{under_way}"
            )
        if (set(self.voters), self.learners) != (set(state.members), ()):
            return f"Raft has {self.voters}, {self.learners}, the state {sorted(state.members)}"
        primary = self.mysqlds[state.primary]
        members = [self.mysqlds[m] for m in state.members]
        if [m for m in members if m.writable] != [primary]:
            return f"writable: {[m.name for m in members if m.writable]}, primary: {primary.name}"
        for m in members:
            acknowledges = m.name in state.sync_set and state.source_acks > 0
            replicates = m.dump is not None and m.channel is primary and m.acknowledging == acknowledges
            if m is not primary and not replicates:
                return f"{m.name} does not replicate from {primary.name}"
            if m.executed_set != primary.executed_set or m.waiting or m.running:
                return f"{m.name} differs from {primary.name}"
        return ""

    def _going(self) -> tuple[Iterable[str], ...]:
        state = self.state
        return (state.leaving,) if state.leaving else (), state.retiring, state.rebuilds

    def _held_up(self) -> set[str]:
        """Members that cannot leave S, since nobody else is left to acknowledge: a person sees to that."""
        state = self.state
        return set(state.sync_set) if len(state.sync_set) - 2 < state.required_acks else set()

    def _check_same_data(self) -> None:
        everybody = self.mysqlds
        self.mysqlds = {m: everybody[m] for m in self.state.members}
        super()._check_same_data()
        self.mysqlds = everybody


def _member(name: str, role: MemberRole, uid: str = "") -> Member:
    return Member(name=name, role=role, raft=f"{name}:1", api=f"{name}:2", mysql=f"{name}:3306", uid=uid)
