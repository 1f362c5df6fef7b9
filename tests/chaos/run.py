"""One chaos run: a cluster, clients, a nemesis, a recovery, and the question whether everything is as it must be."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from raftctl.errors import RaftctlError
from raftctl.sandbox.cluster import Target
from tests.chaos import checker, outcome, timeline
from tests.chaos.clients import BALANCE, TABLES, Appender, Auditor, Changer, Client, Teller
from tests.chaos.journal import Journal, Operation, Work, read_deeds, read_operations
from tests.chaos.nemesis import Nemesis
from tests.chaos.schedule import schedule
from tests.support.stage import Stage, connect_soon, stage

PROGRESS_SECONDS: Final = 90.0  # after healing, until clients that follow the primary get on
PROGRESS: Final = 20  # acknowledgements
HEALTHY_SECONDS: Final = 180.0  # after healing, until the whole cluster is well; on a slow machine a CLONE takes long
CLIENT_SECONDS: Final = 30.0  # for a client to end


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `settings` are cluster settings, KEY=VALUE. Everything random follows from `seed`."""

    seed: int
    minutes: float
    nodes: int = 3
    witnesses: int = 0
    settings: tuple[str, ...] = ()
    disks: bool = True  # each member has one of its own, which can stall and be slow

    @property
    def command(self) -> str:
        words = [f"--seed {self.seed} --minutes {self.minutes:g} --nodes {self.nodes}"]
        words += [f"--witnesses {self.witnesses}"] if self.witnesses else []
        words += [f"--set {setting}" for setting in self.settings]
        words += [] if self.disks else ["--no-disks"]
        return f"python -m tests.chaos {' '.join(words)}"


class Result(msgspec.Struct):
    """`violations` is empty after a clean run. `faults` by kind, `decisions` by kind of history entry."""

    command: str
    violations: list[str]
    counts: checker.Counts
    faults: dict[str, int]
    decisions: dict[str, int]
    rounds: int
    minutes: float
    longest_gap: float


class Stuck(Exception):
    """The cluster did not get on by itself after everything was healed."""


class Run:
    """`directory` is empty; journals and logs are kept there."""

    def __init__(self, plan: Plan, directory: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._directory = directory
        self._say = say
        self._journal = Journal(directory / "nemesis.jsonl")
        self._clients: list[Client] = []
        self._rounds = 0

    def run(self) -> Result:
        """Make a cluster, break it for as long as planned, and judge. Always takes the cluster down."""
        plan = self._plan
        self._say(f"a cluster of {plan.nodes} data members and {plan.witnesses} witnesses")
        with stage(nodes=plan.nodes, witnesses=plan.witnesses, settings=plan.settings, disks=plan.disks) as made:
            try:
                return self._on(made)
            finally:
                self._keep_logs(made)

    def _on(self, made: Stage) -> Result:
        began, wall_ahead = time.monotonic(), time.time() - time.monotonic()
        historian = outcome.Historian(made)
        nemesis = Nemesis(made, self._journal)
        _prepare(made)
        violations: list[str] = []
        contents: checker.Final | None = None
        with self._working(made):
            try:
                self._break(made, nemesis, historian)
            except Stuck as error:
                violations.append(str(error))
                outcome.snapshot(made, self._directory / "stuck.json")
        if not violations:
            violations += self._recovered(made)
            contents = outcome.contents(made)
        historian.look()
        self._keep_logs(made)
        operations = read_operations(self._directory)
        history = historian.in_order()
        counts = checker.count(operations)
        reigns = outcome.reigns(history, wall_ahead=wall_ahead)
        violations += _judge(operations, contents, counts, reigns)
        violations += outcome.crashes(made.sandbox.directory, made.sandbox.layout.names)
        timeline.write(
            self._directory / "timeline.txt",
            began=began,
            wall_ahead=wall_ahead,
            deeds=read_deeds(self._directory / "nemesis.jsonl"),
            history=history,
            operations=operations,
            logs=self._directory / "logs",
            violations=violations,
        )
        result = Result(
            command=self._plan.command,
            violations=violations,
            counts=counts,
            faults=dict(sorted(nemesis.done.items())),
            decisions=dict(sorted(Counter(entry.kind for entry in history).items())),
            rounds=self._rounds,
            minutes=round((time.monotonic() - began) / 60, 1),
            longest_gap=_longest_gap(operations),
        )
        (self._directory / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
        return result

    # --- breaking --------------------------------------------------------------------------------------

    def _break(self, made: Stage, nemesis: Nemesis, historian: outcome.Historian) -> None:
        until = time.monotonic() + 60 * self._plan.minutes
        targets = (Target.GUARD,) if "guard" in made.sandbox.host(made.sandbox.layout.names[0]).units() else ()
        try:
            for plan in schedule(self._plan.seed, targets=targets):
                if time.monotonic() > until:
                    break
                self._rounds += 1
                self._journal.note("round", str(self._rounds))
                nemesis.strike(plan, until=until)
                nemesis.heal()
                self._await_progress(nemesis)
                if plan.until_healthy:
                    self._await_health(made, nemesis)
                historian.look()
                self._say(f"round {self._rounds}: {self._acknowledged()} acknowledged")
                time.sleep(max(0.0, min(plan.calm, until - time.monotonic())))
        finally:
            nemesis.heal()
            nemesis.resume()
        self._await_health(made, nemesis)
        historian.look()

    def _acknowledged(self) -> int:
        return sum(client.acknowledged for client in self._clients)

    def _await_progress(self, nemesis: Nemesis) -> None:
        goal = self._acknowledged() + PROGRESS

        def complaint() -> str:
            nemesis.resume()
            return "" if self._acknowledged() >= goal else "clients do not get on"

        if text := outcome.wait(complaint, PROGRESS_SECONDS):
            raise Stuck(f"{text}, {PROGRESS_SECONDS:g} s after everything was healed")

    def _await_health(self, made: Stage, nemesis: Nemesis) -> None:
        self._journal.note("await health")

        def complaint() -> str:
            nemesis.resume()
            return nemesis.bring_back() or outcome.ill(made)

        if text := outcome.wait(complaint, HEALTHY_SECONDS):
            raise Stuck(f"{HEALTHY_SECONDS:g} s after everything was healed, {text}")
        self._journal.note("healthy")

    # --- clients ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _working(self, made: Stage) -> Iterator[None]:
        data = outcome.data_members(made)
        members = {name: made.endpoint(name) for name in data}
        kinds: list[tuple[type[Client], str]] = [(Appender, "")] * 2 + [(Teller, "")] * 2 + [(Changer, "")] * 3
        kinds += [(Auditor, ""), *((Appender, name) for name in data)]
        self._clients = [
            kind(
                number=number,
                members=members,
                database=made.database,
                directory=self._directory,
                seed=self._plan.seed,
                stuck=stuck,
            )
            for number, (kind, stuck) in enumerate(kinds, start=1)
        ]
        for client in self._clients:
            client.start()
        try:
            yield
        finally:
            for client in self._clients:
                client.end()
            for client in self._clients:
                client.join(CLIENT_SECONDS)
                assert not client.is_alive(), f"{client.name} does not end"

    # --- judging ---------------------------------------------------------------------------------------

    def _recovered(self, made: Stage) -> list[str]:
        """With the clients gone: well, and all members equal."""
        found = [outcome.wait(lambda: outcome.ill(made), HEALTHY_SECONDS)]
        found.append(outcome.wait(lambda: outcome.unequal(made), outcome.EQUAL_SECONDS))
        complaints = [text for text in found if text]
        if complaints:
            outcome.snapshot(made, self._directory / "unequal.json")
        return complaints

    def _keep_logs(self, made: Stage) -> None:
        for name in made.sandbox.layout.names:
            target = self._directory / "logs" / name / "log"
            shutil.copytree(made.sandbox.directory / name / "log", target, dirs_exist_ok=True)


def _prepare(made: Stage) -> None:
    with connect_soon(made) as conn:
        for statement in TABLES:
            conn.execute(statement)
    if text := outcome.wait(lambda: outcome.unequal(made), outcome.EQUAL_SECONDS):
        raise RaftctlError(f"the new cluster's members differ: {text}")


def _judge(
    operations: Sequence[Operation],
    contents: checker.Final | None,
    counts: checker.Counts,
    reigns: Sequence[checker.Reign],
) -> list[str]:
    found = checker.check_reigns(operations, reigns)
    if contents is None:
        return found
    found += checker.check_rows(operations, Work.APPEND, contents.appended, counts)
    found += checker.check_rows(operations, Work.TRANSFER, (row[0] for row in contents.ledger), counts)
    found += checker.check_bank(operations, contents, balance=BALANCE)
    found += checker.check_registers(operations, contents.registers, counts)
    return found


def _longest_gap(operations: Sequence[Operation]) -> float:
    times = [op.ended for op in operations if op.outcome == "ok" and op.work is not Work.TOTAL]
    return round(max((b - a for a, b in itertools.pairwise(times)), default=0.0), 1)


def summary(result: Result, directory: Path) -> str:
    """What a person wants to see at the end."""
    c = result.counts
    lines = [
        f"{result.rounds} rounds in {result.minutes} minutes, longest pause of all clients {result.longest_gap} s",
        (
            f"acknowledged {c.acknowledged}, refused {c.failed}, unsure {c.unknown} ({c.surprising} of them present),"
            f" totals read {c.reads}"
        ),
        "faults: " + ", ".join(f"{kind} {n}" for kind, n in result.faults.items()),
        "decisions: " + ", ".join(f"{kind} {n}" for kind, n in result.decisions.items()),
        f"lost {c.lost}, duplicates {c.duplicates}, violations {len(result.violations)}",
    ]
    if result.violations:
        lines += [f"VIOLATION {text}" for text in result.violations[:20]]
        lines += [f"the story: {directory / 'timeline.txt'}", f"again: {result.command}"]
    return "\n".join(lines)


def tell(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)
