"""Carries out the schedule on a sandbox, and undoes it. Touches nothing but the sandbox."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from raftctl.bootstrap.newcomer import retire
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.state import ClusterState
from raftctl.cluster.status_model import ClusterStatus
from raftctl.errors import HostError, MySQLError, NoQuorumError, RaftctlError, RefusedError
from raftctl.mysql.client import connect
from raftctl.sandbox.cluster import Target
from tests.chaos.journal import Journal
from tests.chaos.schedule import Fault, Kind, Round, Whom
from tests.support.disk import Disk
from tests.support.stage import Stage

STATUS_SECONDS: Final = 1.5  # a fault does not wait long to learn who has which role
SWITCHOVER_SECONDS: Final = 5.0
DDL_SECONDS: Final = 5.0
REMOVAL_SECONDS: Final = 5.0  # then the host is left as it is, as one that nobody can reach
RETURN_SECONDS: Final = 90.0
BY: Final = "chaos"

_DDL: Final = (
    "CREATE TABLE IF NOT EXISTS scratch (n INT PRIMARY KEY) ENGINE=InnoDB",
    "INSERT IGNORE INTO scratch VALUES (1)",
    "ALTER TABLE appended ADD COLUMN spare INT",
    "ALTER TABLE appended DROP COLUMN spare",
    "ALTER TABLE ledger ADD COLUMN spare INT, ALGORITHM=COPY",
    "ALTER TABLE ledger DROP COLUMN spare, ALGORITHM=COPY",
    "DROP TABLE IF EXISTS scratch",
)


class Nemesis:
    """`done` counts what was done, by kind and target."""

    def __init__(self, stage: Stage, journal: Journal) -> None:
        self._stage = stage
        self._sandbox = stage.sandbox
        self._journal = journal
        self._names = stage.sandbox.layout.names
        self._data = [n for n in self._names if not stage.sandbox.layout.member(n).witness]
        self.done: Counter[str] = Counter()
        self._bad_disks: set[str] = set()
        self._disk_faults = contextlib.ExitStack()

    # --- one round -------------------------------------------------------------------------------------

    def strike(self, plan: Round, *, until: float) -> None:
        """Do the faults of a round and hold them, at most until the monotonic time `until`."""
        for fault in plan.faults:
            _sleep(fault.after, until)
            self._one(fault)
        _sleep(plan.hold, until)

    def _one(self, fault: Fault) -> None:
        status = self._stage.cluster.status(STATUS_SECONDS)
        victim = self._victim(fault, status)
        name = f"{fault.kind} {fault.target}" if fault.kind in _WITH_TARGET else fault.kind.value
        self._journal.note(name, victim, f"primary {status.primary}, leader {status.leader}")
        try:
            detail = DEEDS[fault.kind](self, fault, victim)
        except RaftctlError as error:
            self._journal.note(f"{name} not done", victim, str(error))
        else:
            self._journal.note(f"{name} done", victim, detail or "")
            self.done[name] += 1

    def _victim(self, fault: Fault, status: ClusterStatus) -> str:
        names = self._data if fault.target in (Target.MYSQLD, Target.GUARD) else self._names
        special = {Whom.PRIMARY: status.primary, Whom.LEADER: status.leader}
        wanted = special.get(fault.whom)
        if wanted in names:
            return str(wanted)
        if fault.whom is Whom.OTHER:
            names = [n for n in names if n not in special.values()] or names
        return names[int(fault.draw * len(names))]

    # --- faults ----------------------------------------------------------------------------------------

    def _kill(self, fault: Fault, victim: str) -> None:
        self._sandbox.kill(victim, fault.target)

    def _freeze(self, fault: Fault, victim: str) -> None:
        self._sandbox.freeze(victim, fault.target)

    def _kill_all(self, fault: Fault, _: str) -> None:
        has_it = self._data if fault.target in (Target.MYSQLD, Target.GUARD) else self._names
        _at_once([partial(self._sandbox.kill, name, fault.target) for name in has_it])

    def _isolate(self, _: Fault, victim: str) -> None:
        self._sandbox.partition([[victim]], one_way=False)

    def _split(self, fault: Fault, victim: str) -> str:
        side = self._with_some(victim, fault.draw)
        self._sandbox.partition([side], one_way=False)
        return f"{','.join(side)} from the others"

    def _one_way(self, _: Fault, victim: str) -> None:
        self._sandbox.partition([[victim]], one_way=True)

    def _deaf(self, _: Fault, victim: str) -> None:
        self._sandbox.partition([self._others(victim), [victim]], one_way=True)

    def _bridge(self, fault: Fault, victim: str) -> str:
        others = self._others(victim)
        cut = 1 + int(fault.draw * (len(others) - 1))
        left, right = others[:cut], others[cut:]
        self._sandbox.partition([left, right], one_way=True)
        self._sandbox.partition([right, left], one_way=True)
        return f"{','.join(left)} | {victim} | {','.join(right)}"

    def _switchover(self, fault: Fault, victim: str) -> str:
        body = {"by": BY, "target": victim if fault.draw < 0.3 else ""}
        return str(self._post("/v1/switchover", body))

    def _pause(self, _: Fault, __: str) -> str:
        return str(self._post("/v1/pause", {"by": BY, "reason": "maintenance"}))

    def _ddl(self, fault: Fault, _: str) -> str:
        endpoint = self._stage.primary_endpoint()
        if endpoint is None:
            return "no primary"
        statement = _DDL[int(fault.draw * len(_DDL))]
        try:
            with connect(endpoint, connect_timeout=1.0, timeout=DDL_SECONDS) as conn:
                conn.execute(f"USE `{self._stage.database}`")
                conn.execute("SET SESSION lock_wait_timeout = 2")
                conn.execute(statement)
        except MySQLError as error:
            return f"{statement}: {error}"
        return statement

    def _stall_disk(self, _: Fault, victim: str) -> None:
        self._disk_faults.enter_context(self._good_disk(victim).stalled())

    def _slow_disk(self, _: Fault, victim: str) -> None:
        self._disk_faults.enter_context(self._good_disk(victim).slow())

    def _good_disk(self, victim: str) -> Disk:
        if victim not in self._stage.disks:
            raise HostError("no member has a disk of its own here")
        if victim in self._bad_disks:
            raise HostError("its disk is slow or stalled already")
        self._bad_disks.add(victim)
        return self._stage.disks[victim]

    # --- membership ------------------------------------------------------------------------------------

    def _remove(self, fault: Fault, victim: str) -> str:
        """One member at a time is out. Some removals are called off at once, and some hosts not cleaned up."""
        if missing := self._not_members(self._state()):
            raise RefusedError(f"{', '.join(missing)} is out already", reason="one-at-a-time")
        self._post("/v1/members/remove", {"by": BY, "name": victim})
        if fault.draw < 0.2:
            return f"called off: {self._post('/v1/members/rejoin', {'by': BY, 'name': victim})}"
        deadline = time.monotonic() + REMOVAL_SECONDS
        while victim in self._state().members:
            if time.monotonic() > deadline:
                return "is under way"
            time.sleep(0.1)
        if fault.draw > 0.7:
            return "its host is left as it is"
        retire(self._stage.cluster.inventory, victim)
        return "its host is cleaned up"

    def _rebuild(self, fault: Fault, victim: str) -> str:
        replicas = [name for name in self._data if name != self._state().primary]
        name = victim if victim in replicas else replicas[int(fault.draw * len(replicas))]
        return f"{name}: {self._post('/v1/members/rebuild', {'by': BY, 'name': name})}"

    def bring_back(self) -> str:
        """Add whoever is out again, as a person would, and say what was to be done; "" for nothing. To be repeated."""
        try:
            state = self._state()
        except RaftctlError as error:
            return str(error)
        if state.leaving:
            return f"{state.leaving} is being removed"
        missing = self._not_members(state)
        for name in missing:
            self._journal.note("add", name)
            self._journal.note("added" if (text := self._add(name)) == "" else "not added", name, text)
        return f"{', '.join(missing)} had to be added" if missing else ""

    def _add(self, name: str) -> str:
        """Why it did not come about; "" when it did."""
        command = [sys.executable, "-m", "raftctl", "-i", str(self._sandbox.inventory)]
        command += ["member", "add", name, "--force-rebuild", name, "--yes"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=RETURN_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return "takes long"
        return done.stderr if done.returncode else ""

    def _state(self) -> ClusterState:
        """By Raft's order: who was removed answers with what it knew last. Raises NoQuorumError when nobody does."""
        cluster = self._stage.cluster
        answers = cluster.api.fetch_all(cluster.inventory.members(), "/v1/member", STATUS_SECONDS, MemberFacts)
        facts = [answer for answer in answers.values() if isinstance(answer, MemberFacts)]
        if not facts:
            raise NoQuorumError("no controller answers")
        return max(facts, key=lambda f: (f.state.incarnation, f.raft.term, f.raft.applied_index)).state

    def _not_members(self, state: ClusterState) -> list[str]:
        return [name for name in self._names if name not in state.members or name in state.joining]

    def _post(self, path: str, body: object) -> object:
        cluster = self._stage.cluster
        return cluster.post(cluster.status(STATUS_SECONDS), path, body, SWITCHOVER_SECONDS)

    def _others(self, victim: str) -> list[str]:
        return [n for n in self._names if n != victim]

    def _with_some(self, victim: str, draw: float) -> list[str]:
        """The victim and up to all but one of the others."""
        others = self._others(victim)
        return [victim, *others[: int(draw * len(others))]]

    # --- healing ---------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Undo everything: bad disks, partitions, frozen and killed hosts and processes, a pause."""
        self._journal.note("heal")
        self._disk_faults.close()  # first: whoever waits for a disk cannot even be killed
        self._bad_disks.clear()
        self._sandbox.heal()
        _at_once([partial(self._revive, name) for name in self._names])
        self._journal.note("healed")

    def _revive(self, name: str) -> None:
        host = self._sandbox.host(name)
        if host.is_on():
            self._sandbox.thaw(name, Target.HOST)
            present = host.units()
            for target in (Target.MYSQLD, Target.CONTROLLER, Target.GUARD):
                if target.value in present:
                    self._sandbox.thaw(name, target)
        self._sandbox.start(name, Target.HOST)

    def resume(self) -> None:
        """Automatic failover is on again, if anybody can decide that now."""
        with contextlib.suppress(RaftctlError):
            if self._stage.cluster.status(STATUS_SECONDS).paused:
                self._post("/v1/resume", {"by": BY})


_WITH_TARGET: Final = (Kind.KILL, Kind.FREEZE, Kind.KILL_ALL)
DEEDS: Final[dict[Kind, Callable[[Nemesis, Fault, str], str | None]]] = {
    Kind.KILL: Nemesis._kill,
    Kind.FREEZE: Nemesis._freeze,
    Kind.KILL_ALL: Nemesis._kill_all,
    Kind.ISOLATE: Nemesis._isolate,
    Kind.SPLIT: Nemesis._split,
    Kind.ONE_WAY: Nemesis._one_way,
    Kind.DEAF: Nemesis._deaf,
    Kind.BRIDGE: Nemesis._bridge,
    Kind.SWITCHOVER: Nemesis._switchover,
    Kind.PAUSE: Nemesis._pause,
    Kind.DDL: Nemesis._ddl,
    Kind.REMOVE: Nemesis._remove,
    Kind.REBUILD: Nemesis._rebuild,
    Kind.STALL_DISK: Nemesis._stall_disk,
    Kind.SLOW_DISK: Nemesis._slow_disk,
}


def _at_once(actions: list[Callable[[], object]]) -> None:
    """Do all, and raise the first failure when all have ended."""
    with ThreadPoolExecutor(max_workers=len(actions)) as pool:
        futures = [pool.submit(action) for action in actions]
    for future in futures:
        future.result()


def _sleep(seconds: float, until: float) -> None:
    time.sleep(max(0.0, min(seconds, until - time.monotonic())))
