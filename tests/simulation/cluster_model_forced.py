"""The simulated cluster whose majority is lost for good, now and then, and goes on with the survivors (rule R10).

The lost hosts' decisions and writes are gone as far as no survivor has them; what `judge_force` says about that is
checked. The hosts come back later, with the data that they had, and the cluster must come to rest as ever.
"""

from __future__ import annotations

from raftctl.cluster import commands as c
from raftctl.cluster.facts import MemberFacts, MemberReport, MySQLFacts, MySQLState, RaftFacts
from raftctl.cluster.state import ClusterState, Phase
from raftctl.planner.forced import Census, ForcePlan, judge_force
from tests.simulation.cluster_model_members import MemberWorld
from tests.simulation.cluster_model_mysqld import Violation

SILENT = Census(facts_error="no answer", mysql_error="no answer", host_error="no route")
FORCED_MAX = 2


class ForcedWorld(MemberWorld):
    forced = 0
    lost = 0  # acknowledged writes, by forced memberships

    def _initialize(self, names: list[str]) -> None:
        self._away: list[str] = []
        super()._initialize(names)

    def tick(self) -> None:
        super().tick()
        if not self.healing and self.forced < FORCED_MAX and self.rng.random() < 0.02:
            self._lose_the_majority()
        if self._away and self.rng.random() < 0.03:
            name = self._away.pop()
            self.controllers[name].start()
            if name not in self.cloning:
                self.mysqlds[name].start()

    def _lose_the_majority(self) -> None:
        members = sorted(self.state.members)
        survivors = self.rng.sample(members, self.rng.randint(1, max(1, len(members) // 2)))
        if not all(self.controllers[m].alive and self.mysqlds[m].answers for m in survivors):
            return
        heir = max(survivors, key=lambda m: self.controllers[m].applied)
        before = self.state_at(self.controllers[heir].applied)
        if before.phase is Phase.UNINITIALIZED or not set(survivors) <= set(before.members):
            return
        census = {m: self._census(m, before) if m in survivors else SILENT for m in before.members}
        plan = judge_force(before.members, census, survivors=survivors)
        if isinstance(plan, ForcePlan):
            self.trace(lambda: f"FORCED: {survivors}, log of {heir}, {plan.target}, {plan.losses}")
            self._lose(plan, before, is_newest=before is self.state)
            self._go_on(plan, before, heir)

    def _census(self, member: str, state: ClusterState) -> Census:
        seen = self.observe(self.mysqlds[member])
        told = MySQLFacts(MySQLState.FENCED, seen, incomplete=member in self.incomplete)
        report = MemberReport(member=member, seq=1, version=state.version, epoch=state.epoch, mysql=told)
        raft = RaftFacts("follower", 1, "", 0, 0, 0, self.voters, self.learners)
        facts = MemberFacts(node=member, version="", raft=raft, report=report, state=state)
        return Census(facts=facts, mysql=seen, mysql_answers=True)

    def _lose(self, plan: ForcePlan, before: ClusterState, *, is_newest: bool) -> None:
        target = self.mysqlds[plan.target]
        held = [t for t in self.acknowledged if target.has(t)]
        lost = len(self.acknowledged) - len(held)
        all_kept = any(
            "all that it acknowledged" in text or "all that was acknowledged" in text for text in plan.losses
        )
        if lost and all_kept and is_newest and self.config.acks:
            raise Violation("lost-write", f"{lost} writes are lost; a person was told {plan.losses}")
        self.lost += lost
        self.acknowledged, self._unfloored = held, []
        self._away = [m for m in self.controllers if m not in plan.survivors]
        for name in self.controllers:
            self.controllers[name].kill()
            if name in self._away and name not in self.cloning:
                self.mysqlds[name].kill()

    def _go_on(self, plan: ForcePlan, before: ClusterState, heir: str) -> None:
        length = self.controllers[heir].applied
        del self.log[length:], self._states[length + 1 :]
        self._pending, self._messages, self.stray = [], [], []
        self._newest_open, self._opened, self._promised = 0, {}, {}
        self.leader = ""
        self.voters, self.learners = (heir,), tuple(m for m in before.members if m != heir)
        decision = c.ForceMembers(
            incarnation=plan.incarnation,
            survivors=plan.survivors,
            learners=self.learners,
            target=plan.target,
            certificate=plan.certificate,
        )
        self.commit(decision)
        assert self.state.incarnation == plan.incarnation, "the log rejected it"
        for name in self.state.members:
            if name not in self.controllers:
                self._arrive(name)
        for name in plan.survivors:
            self.controllers[name].start()
        self.forced += 1
