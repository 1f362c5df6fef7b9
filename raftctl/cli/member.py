"""`raftctl member`: who belongs to the cluster. Each change is one decision in the log, which the leader carries out
step by step; these commands ask for it, prepare the host, and watch."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raftctl.cli.changes import DryRun, Yes, approve, show_plan
from raftctl.cli.options import Options, Output, with_options
from raftctl.errors import NoQuorumError, RaftctlError, RefusedError, UsageError

if TYPE_CHECKING:
    from raftctl.bootstrap.newcomer import Newcomer
    from raftctl.cli.cluster import Cluster
    from raftctl.cluster.facts import MemberFacts
    from raftctl.cluster.observation import MySQLObservation
    from raftctl.cluster.state import ClusterState
    from raftctl.cluster.status_model import ClusterStatus

app = typer.Typer(no_args_is_help=True, help="Who belongs to the cluster, and changes of it.")

DECISION_SECONDS = 10.0
ANSWER_SECONDS = 1.0
REMOVAL_SECONDS = 120.0
SEEDING_SECONDS = 24 * 3600.0  # data is copied: a CLONE may take hours
POLL_SECONDS = 0.1

Name = Annotated[str, typer.Argument(metavar="NAME", help="The member's name, as in the inventory.")]
Say = Callable[[str], object]
Until = Callable[["ClusterState"], bool]


@app.command("list")
@with_options
def list_(options: Options) -> None:
    """Show the members: role, vote, MySQL's state, zone, priority."""
    from raftctl.cli import render
    from raftctl.cli.cluster import open_cluster

    now = open_cluster(options).status(options.timeout)
    rows = [
        {
            "name": row.name,
            "role": row.role,
            "raft": row.vote,
            "mysql": row.mysql.state if row.mysql else None,
            "sync_set": row.in_sync_set,
            "zone": row.zone,
            "priority": row.priority,
            "address": row.address,
        }
        for row in now.members
    ]
    if options.output is not Output.TABLE:
        render.emit({"cluster": now.cluster, "primary": now.primary, "members": rows}, options.output)
        return
    ranks = {"sync_set": 2, "zone": 3, "priority": 4, "address": 5}
    columns = [render.Column(title.upper().replace("_", " "), rank=ranks.get(title, 0)) for title in rows[0]]
    cells = [[render.Cell(_shown(value)) for value in row.values()] for row in rows]
    screen = render.console()
    screen.print(render.table(columns, cells, screen.width))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)


@app.command()
@with_options
def add(
    options: Options,
    name: Name,
    force_rebuild: Annotated[
        str, typer.Option("--force-rebuild", metavar="NAME", help="Its own data may go: name it once more.")
    ] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Bring a host of the inventory into the running cluster. Can be repeated when it was interrupted."""
    import secrets

    import msgspec

    from raftctl.bootstrap.credentials import settled
    from raftctl.cli.cluster import open_cluster

    host = open_cluster(options).inventory.host(name)
    member = msgspec.structs.replace(host.member, uid=secrets.token_hex(4))
    request = _Request(options, "add", {"member": member})
    with settled(request.cluster.inventory.credentials):
        _add(request, force_rebuild, dry_run=dry_run, yes=yes)


def _add(request: _Request, force_rebuild: str, *, dry_run: bool, yes: bool) -> None:
    from raftctl.bootstrap.set_up import PreflightError
    from raftctl.cli.bootstrap import show_findings

    name = request.name
    resumes = name in request.state().joining
    if not resumes:
        request.plan()  # refused before the host is looked at
    try:
        newcomer = _look(request, force_rebuild)
    except PreflightError as error:
        show_findings(error.findings)
        raise
    show_findings(newcomer.findings)
    if resumes and dry_run:
        show_plan([f"{name} is prepared further, and joins"], request.options.output)
        return
    if not resumes:
        if not request.approved(f"Add {name} to", request.plan(), dry_run=dry_run, yes=yes):
            return
        request.carry_out(lambda s: name in s.members, lambda _: True, DECISION_SECONDS)
    newcomer.set_up(request.state(), lambda what: typer.echo(what, err=True))
    request.wait(lambda s: name not in s.joining, lambda s: name in s.members, SEEDING_SECONDS)
    request.report(f"{name} is a member of {request.cluster.name}")


def _look(request: _Request, force_rebuild: str) -> Newcomer:
    """The host, found fit. Raises RaftctlError when it is not, or holds other data."""
    from raftctl.bootstrap.newcomer import Newcomer

    name, state = request.name, request.state()
    newcomer = Newcomer(request.cluster.inventory, name, state)
    seen = {other: o for other, o in request.observations().items() if other != name}
    newcomer.require_own_identity(seen.items())
    if force_rebuild != name:
        if state.primary not in seen:
            raise RefusedError("the primary's data is not known now", reason="no-primary", hint="see `raftctl status`")
        newcomer.require_no_foreign_data(seen[state.primary].gtid_executed)
    return newcomer


@app.command()
@with_options
def remove(options: Options, name: Name, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Take a member out of the cluster; a primary hands over first.

    For one that is out already, what raftctl still runs on its host is stopped."""
    request = _Request(options, "remove", {"name": name})
    is_out = name not in request.state().members and name in request.cluster.inventory.members()
    plan = [f"{name} is no member any more: its controller and guard are stopped"] if is_out else request.plan()
    if not request.approved(f"Remove {name} from", plan, dry_run=dry_run, yes=yes):
        return
    if not is_out:
        request.carry_out(lambda s: name not in s.members, lambda s: s.leaving == name, REMOVAL_SECONDS)
    notes = _retire(request.cluster, name)
    request.report(f"{name} is not a member of {request.cluster.name} any more", notes)


@app.command()
@with_options
def rejoin(options: Options, name: Name, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Let a member follow again, or say why it cannot.

    Its data must permit that. A removal under way is called off.
    """
    request = _Request(options, "rejoin", {"name": name})
    if not request.approved(f"Rejoin {name} to", request.plan(), dry_run=dry_run, yes=yes):
        return
    request.carry_out(lambda s: name not in s.locked, lambda _: True, REMOVAL_SECONDS)
    request.report(f"{name} follows, or is about to")


@app.command()
@with_options
def rebuild(options: Options, name: Name, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Replace a member's data by a copy of the primary's (CLONE)."""
    request = _Request(options, "rebuild", {"name": name})
    if not request.approved(f"Replace all data of {name} in", request.plan(), dry_run=dry_run, yes=yes):
        return

    def done(state: ClusterState) -> bool:
        return name not in state.rebuilds and _serves(state, name) and state.primary != name

    request.carry_out(done, lambda s: s.primary != name, SEEDING_SECONDS)
    request.report(f"{name} has been rebuilt and follows")


@app.command("set")
@with_options
def set_(
    options: Options,
    name: Name,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="role=data|async, zone=TEXT, priority=NUMBER.")
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Give a member another role, zone or priority."""
    wanted = _parse_changes(changes)
    request = _Request(options, "set", {"name": name, **wanted})
    if not request.approved(f"Set {', '.join(changes)} for {name} in", request.plan(), dry_run=dry_run, yes=yes):
        return
    role = wanted.get("role")

    def done(state: ClusterState) -> bool:
        member = state.members.get(name)
        settled = member is not None and name not in (*state.joining, *state.retiring)
        return settled and role in (None, member.role if member else None)

    request.carry_out(done, lambda s: done(s) or name in (*s.joining, *s.retiring), REMOVAL_SECONDS)
    request.report(f"{name} has {', '.join(changes)}; write it into the inventory, too")


def _parse_changes(changes: list[str]) -> dict[str, str | int]:
    """Raises UsageError."""
    wanted: dict[str, str | int] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or key not in ("role", "zone", "priority"):
            raise UsageError(f"{change}: must be role=..., zone=... or priority=...")
        if key == "role" and value not in ("data", "async", "witness"):
            raise UsageError(f"role ({value}): must be data, witness or async")
        if key in wanted:
            raise UsageError(f"{key} is given twice", hint="leave one of them out")
        wanted[key] = _priority(value) if key == "priority" else value
    return wanted


def _priority(text: str) -> int:
    from raftctl.cluster.membership import PRIORITY_MAX

    number = int(text) if re.fullmatch("-?[0-9]{1,9}", text) else PRIORITY_MAX + 1
    if abs(number) > PRIORITY_MAX:
        raise UsageError(f"priority ({text}): must be a number from -{PRIORITY_MAX} to {PRIORITY_MAX}")
    return number


def _serves(state: ClusterState, name: str) -> bool:
    return name in state.sync_set or name not in state.data_members


class _Request:
    """One change of membership: what would be done, whether it is wanted, the decision, and the watch until its end."""

    def __init__(self, options: Options, change: str, body: dict[str, Any]) -> None:
        from raftctl.cli.cluster import open_cluster, requester

        self.options = options
        self.cluster: Cluster = open_cluster(options)
        self.now: ClusterStatus = self.cluster.require_quorum(options.timeout)
        self._change = change
        self.name = str(body["name"] if "name" in body else body["member"].name)
        self._body = body | {"by": requester()}
        self._index = 0

    def state(self) -> ClusterState:
        """The newest one. Raises NoQuorumError."""
        facts = self._newest()
        if facts is None:
            raise NoQuorumError(f"no controller of {self.cluster.name} answers", hint="see `raftctl status`")
        return facts.state

    def observations(self) -> dict[str, MySQLObservation]:
        """What the controllers see of their mysqlds."""
        reports = {name: facts.report.mysql for name, facts in self._facts().items()}
        return {name: mysql.observation for name, mysql in reports.items() if mysql and mysql.observation}

    def plan(self) -> list[str]:
        """Raises RefusedError."""
        path = f"/v1/members/{self._change}?dry_run=1"
        return list(self.cluster.post(self.now, path, self._body, self.options.timeout or DECISION_SECONDS)["plan"])

    def approved(self, question: str, plan: list[str], *, dry_run: bool, yes: bool) -> bool:
        """False when there is nothing to do but to show the plan."""
        if dry_run:
            show_plan(plan, self.options.output)
            return False
        if plan[0].startswith("nothing"):
            self.report(plan[0])
            return False
        approve(f"{question} {self.cluster.name}?", yes=yes, plan=plan, output=self.options.output)
        return True

    def decide(self) -> None:
        """Have it committed."""
        path, timeout = f"/v1/members/{self._change}", self.options.timeout or DECISION_SECONDS
        self._index = int(self.cluster.post(self.now, path, self._body, timeout).get("index", 0))

    def carry_out(self, done: Until, under_way: Until, seconds: float) -> None:
        self.decide()
        self.wait(done, under_way, seconds)

    def wait(self, done: Until, under_way: Until, seconds: float) -> None:
        """Until it is `done`. Raises RefusedError when it is not `under_way` any more, RaftctlError when it takes
        longer than `--timeout` or `seconds`; it then goes on by itself."""
        from raftctl.cli.progress import shown

        deadline = time.monotonic() + (self.options.timeout or seconds)
        with shown() as progress:
            while time.monotonic() < deadline:
                facts = self._newest()
                if facts is not None and facts.raft.applied_index >= self._index:
                    if done(facts.state):
                        return
                    if not under_way(facts.state):
                        raise RefusedError(
                            f"the {self._change} of {self.name} was given up: {self._why(facts.state)}",
                            reason="not-achieved",
                            hint="see `raftctl history` and `raftctl status`",
                        )
                    progress(f"{self.name}: {_doing(self.cluster, facts, self.name)}", None)
                time.sleep(POLL_SECONDS)
        raise RaftctlError(
            f"the {self._change} of {self.name} has not ended in time; it goes on by itself",
            hint="see `raftctl status --watch` and `raftctl history`",
        )

    def _facts(self) -> dict[str, MemberFacts]:
        from raftctl.cluster.facts import MemberFacts

        members = self.cluster.in_order(self.now)
        answers = self.cluster.api.fetch_all(members, "/v1/member", ANSWER_SECONDS, MemberFacts)
        return {name: answer for name, answer in answers.items() if isinstance(answer, MemberFacts)}

    def _newest(self) -> MemberFacts | None:
        """By Raft's order: a former member may have stopped at any point."""
        facts = self._facts().values()
        return max(facts, key=lambda f: (f.state.incarnation, f.raft.term, f.raft.applied_index), default=None)

    def _why(self, state: ClusterState) -> str:
        from raftctl.cli.history import newest

        whys = [e.why for e in newest(self.cluster) if e.index > self._index and e.kind in _GIVEN_UP]
        seen = "it is the primary now" if state.primary == self.name else "see the history"
        return whys[0] if whys else seen

    def report(self, text: str, notes: list[str] | None = None) -> None:
        from raftctl.cli.render import emit, line

        if self.options.output is not Output.TABLE:
            said = {"member": self.name, "change": self._change, "done": True, "text": text, "notes": notes or []}
            emit(said, self.options.output)
            return
        line(text)
        for note in notes or []:
            line(note)


_GIVEN_UP = frozenset({"abort-switchover", "cancel-removal"})


def _doing(cluster: Cluster, newest: MemberFacts, name: str) -> str:
    """What is under way, for the progress line."""
    from raftctl.api_client import CallError

    state = newest.state
    if newest.held_back:
        return newest.held_back[0]
    if name == state.leaving:
        return "hands over" if name == state.primary else "leaves"
    member = state.members.get(name)
    if member is None:
        return "is not a member yet"
    try:
        note = cluster.ask(member, 1.0).report.note
    except CallError as error:
        return f"its controller: {error}"
    if name in newest.raft.learners:
        return note or "receives the log"
    return note or "joins the sync set"


def _retire(cluster: Cluster, name: str) -> list[str]:
    """Stop what runs there. Nothing depends on it: who is not a member has no say, and its mysqld is read-only."""
    from raftctl.bootstrap.newcomer import retire

    try:
        retire(cluster.inventory, name)
    except RaftctlError as error:
        return [f"its host was not cleaned up: {error}"]
    return [f"take {name} out of the inventory, or bring it back with `raftctl member add {name}`"]
