"""`raftctl force-members`: asks every host in every way, and goes on with the survivors (rule R10).

What it does on a host it does through that host's own raftctl, while the controller there is stopped. It can be
repeated: a host that belongs to the new incarnation already is left as it is.
"""

from __future__ import annotations

import contextlib
import secrets as random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from raftctl.api_client import ApiClient, CallError, split_address
from raftctl.bootstrap import credentials as own_files
from raftctl.bootstrap import formation, runtime
from raftctl.bootstrap.api import api_of
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.survey import own_endpoint
from raftctl.cluster.codec import from_json, to_json
from raftctl.cluster.commands import ForceMembers
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.state import ClusterState
from raftctl.controller.config import Secrets, load_secrets
from raftctl.controller.forced import LogEnd
from raftctl.controller.incarnation import UNDECIDED
from raftctl.errors import HostError, MySQLError, NoQuorumError
from raftctl.hosts.reach import reach, services_of
from raftctl.hosts.services import Unit
from raftctl.inventory.model import ClusterInventory, InventoryHost
from raftctl.mysql.accounts import ADMIN_USER
from raftctl.mysql.client import Endpoint, connect
from raftctl.mysql.errors import AccessDenied
from raftctl.mysql.observe import observe
from raftctl.planner.forced import Census, ForcePlan

ASK_SECONDS = 3.0
SURVIVOR_SECONDS = 30.0  # the gate of mysqld is open by then
CALL_SECONDS = 30.0
TIMEOUT_SECONDS = 60.0
Progress = Callable[[str], None]


def wake(cluster: ClusterInventory, survivors: Sequence[str]) -> None:
    """Start the survivors' controllers: an attempt that was broken off may have left them stopped."""
    for name in survivors:
        with contextlib.suppress(HostError):  # the census says so
            services_of(cluster.host(name)).start(Unit.CONTROLLER, timeout=CALL_SECONDS)


def take_census(cluster: ClusterInventory, survivors: Sequence[str]) -> dict[str, Census]:
    """Ask every host of the inventory by the API, MySQL and SSH. Never raises for a host that does not answer.

    A survivor gets some time: after a crash its mysqld is held back while no majority says who is primary."""
    apis = _Apis(ApiClient.from_directory(cluster.credentials), api_of(cluster))
    secrets = load_secrets(cluster.credentials / "secrets.json")
    deadline = time.monotonic() + SURVIVOR_SECONDS
    with ThreadPoolExecutor(max_workers=len(cluster.hosts)) as pool:
        found = dict(
            zip(
                (host.name for host in cluster.hosts),
                pool.map(lambda host: _ask(host, apis, secrets), cluster.hosts),
                strict=True,
            )
        )
    while (
        late := [name for name in survivors if _is_late(cluster.host(name), found[name])]
    ) and time.monotonic() < deadline:
        time.sleep(formation.POLL_SECONDS)
        found |= {name: _ask(cluster.host(name), apis, secrets) for name in late}
    return found | {name: _with_logged_state(cluster.host(name), found[name]) for name in survivors}


def _with_logged_state(host: InventoryHost, found: Census) -> Census:
    """A controller that started after the majority was lost has applied less than its log has, or nothing."""
    if found.host_error or found.facts is None:
        return found
    try:
        state: ClusterState = from_json(_run(host, "log-state"), ClusterState)
    except HostError:
        return found
    if state.version <= found.facts.state.version:
        return found
    return msgspec.structs.replace(found, facts=msgspec.structs.replace(found.facts, state=state))


def _is_late(host: InventoryHost, found: Census) -> bool:
    return not found.host_error and (found.facts is None or (host.has_mysql and found.mysql is None))


class _Apis(NamedTuple):
    direct: ApiClient
    either_way: ApiClient


def _ask(host: InventoryHost, apis: _Apis, secrets: Secrets) -> Census:
    census = Census(host_error=_host_error(host))
    api = apis.direct if census.host_error else apis.either_way  # no second wait for a host that SSH does not reach
    try:
        facts = api.get(host.member, "/v1/member", ASK_SECONDS, MemberFacts)
        census = msgspec.structs.replace(census, facts=facts)
    except CallError as error:
        census = msgspec.structs.replace(census, facts_error=str(error))
    return _ask_mysql(host, census, secrets) if host.has_mysql else census


def _host_error(host: InventoryHost) -> str:
    """Why the host itself does not answer. A sandbox's host is there as long as its supervisor is."""
    try:
        reach(host).run(["true"], timeout=CALL_SECONDS)
        services_of(host).is_active(Unit.CONTROLLER, timeout=ASK_SECONDS)
    except HostError as error:
        return str(error)
    return ""


def _ask_mysql(host: InventoryHost, census: Census, secrets: Secrets) -> Census:
    address, port = split_address(host.member.mysql or "")
    ways = [Endpoint(user=ADMIN_USER, password=secrets.admin_password, host=address, port=port)]
    if not census.host_error:
        ways.append(own_endpoint(host, secrets))
    for endpoint in ways:
        try:
            with connect(endpoint, connect_timeout=ASK_SECONDS, timeout=ASK_SECONDS) as conn:
                return msgspec.structs.replace(census, mysql=observe(conn), mysql_answers=True, mysql_error="")
        except AccessDenied as error:
            census = msgspec.structs.replace(census, mysql_answers=True, mysql_error=str(error))
        except MySQLError as error:
            census = msgspec.structs.replace(census, mysql_error=str(error))
    return census


def force(
    cluster: ClusterInventory, plan: ForcePlan, *, by: str, progress: Progress, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Carry out `plan`; returns when its target is writable. Raises RaftctlError; it can be repeated."""
    with own_files.exclusive(cluster.credentials):
        for name in plan.fence:
            progress(f"fencing {name}")
            _fence(cluster.host(name), plan.incarnation)
        survivors = [cluster.host(name) for name in plan.survivors]
        progress(f"stopping the controllers of {', '.join(plan.survivors)}")
        try:
            for host in survivors:
                services_of(host).stop(Unit.CONTROLLER, timeout=CALL_SECONDS)
            heir = _change_logs(survivors, plan, by=by)
            progress(f"{heir} went on alone, with the longest log: incarnation {plan.incarnation}")
        finally:
            for host in survivors:
                services_of(host).start(Unit.CONTROLLER, timeout=CALL_SECONDS)
    progress(f"waiting until {plan.target} is writable")
    _wait_until_writable(cluster, plan, timeout=timeout)


def _change_logs(survivors: Sequence[InventoryHost], plan: ForcePlan, *, by: str) -> str:
    """With the survivors' controllers stopped. Returns whose log goes on."""
    ends = {host.name: _decode_end(_run(host, "log-end")) for host in survivors}
    name, number = choose_heir(ends, target=plan.target, incarnation=plan.incarnation)
    heir = next(host for host in survivors if host.name == name)
    command = ForceMembers(
        at_ms=int(time.time() * 1000),
        by=by,
        incarnation=number,
        survivors=plan.survivors,
        learners=tuple(name for name in (*plan.survivors, *plan.excluded) if name != heir.name),
        target=plan.target,
        certificate=plan.certificate,
        why="; ".join(plan.losses),
        branch=random.token_hex(4),
    )
    end = _decode_end(_run(heir, "go-on-alone", data=to_json(command)))  # of an earlier attempt, when there was one
    for host in survivors:
        if host is not heir:
            _run(host, "begin-anew", str(end.incarnation), end.branch)
    return heir.name


def choose_heir(ends: Mapping[str, LogEnd], *, target: str, incarnation: int) -> tuple[str, int]:
    """Whose log goes on, and in which incarnation: `incarnation`, or a later one when a survivor has gone further with
    an empty log, since it never got one from the heir of an earlier forced membership. Raises HostError."""
    logs = {name: end for name, end in ends.items() if end.last_index}
    if not logs:
        raise HostError(f"the logs of {', '.join(ends)} are empty: there is nothing to go on with")
    heir = max(logs, key=lambda name: (_order(logs[name]), name == target))
    furthest = max(end.incarnation for end in ends.values())
    is_behind = logs[heir].incarnation < incarnation <= furthest
    return heir, furthest + 1 if is_behind else incarnation


def _order(end: LogEnd) -> tuple[int, int, int]:
    return end.incarnation, end.last_term, end.last_index


def _decode_end(output: bytes) -> LogEnd:
    end: LogEnd = from_json(output, LogEnd)
    return end


def _fence(host: InventoryHost, incarnation: int) -> None:
    """Nothing there runs on with what it promised: mysqld is killed (rule R8), the old log is not used again, and the
    host comes back as a newcomer."""
    services = services_of(host)
    services.mask(Unit.CONTROLLER, timeout=CALL_SECONDS)
    services.kill(Unit.CONTROLLER, timeout=CALL_SECONDS)
    if host.has_mysql:
        services.kill(Unit.MYSQLD, timeout=CALL_SECONDS)
    _run(host, "begin-anew", str(incarnation), UNDECIDED)
    services.unmask(Unit.CONTROLLER, timeout=CALL_SECONDS)
    services.start(Unit.CONTROLLER, timeout=CALL_SECONDS)


def _run(host: InventoryHost, step: str, *arguments: str, data: bytes = b"") -> bytes:
    """One of `raftctl controller`'s steps for a stopped controller, on its own host. Raises HostError."""
    program = [sys.executable, "-m", "raftctl"] if host.services else [runtime.PROGRAM]
    argv = [*program, "controller", step, "--config", Layout(host.directory).config, *arguments]
    return reach(host).run(argv, data=data, timeout=CALL_SECONDS).stdout


def _wait_until_writable(cluster: ClusterInventory, plan: ForcePlan, *, timeout: float) -> None:
    api, member = api_of(cluster), cluster.host(plan.target).member
    deadline, said = time.monotonic() + timeout, "it does not answer"
    while time.monotonic() < deadline:
        with contextlib.suppress(CallError):
            facts = api.get(member, "/v1/member", ASK_SECONDS, MemberFacts)
            seen = facts.report.mysql.observation if facts.report.mysql else None
            if facts.state.incarnation >= plan.incarnation and seen is not None and seen.writable:
                return
            said = facts.report.note or "it is not writable yet"
        time.sleep(formation.POLL_SECONDS)
    raise NoQuorumError(
        f"{plan.target} is not writable {timeout:g} s after the membership was forced: {said}",
        hint="see `raftctl status`; the change itself is done",
    )


def describe(plan: ForcePlan) -> list[str]:
    """The steps, for a person."""
    others = [name for name in plan.survivors if name != plan.target]
    lines = [
        f"{name} is fenced: its mysqld and controller are killed, it comes back as a newcomer" for name in plan.fence
    ]
    lines += [
        f"the controllers of {', '.join(plan.survivors)} stop; old logs are kept",
        f"the longest log goes on in incarnation {plan.incarnation}, with one voter",
        f"epoch {plan.epoch} begins: {plan.target} is the primary; commits wait for nobody until replicas return",
    ]
    if others:
        lines.append(f"{', '.join(others)} join it again with empty logs, and are compared with {plan.target}")
    away = [name for name in plan.excluded if name not in plan.fence]
    if away:
        lines.append(
            f"{', '.join(away)} are shut out: once they reach {plan.survivors[0]} they fence themselves and come back "
            "as newcomers. KEEP THEM OFF UNTIL THEY CAN REACH IT: a majority of them that starts cut off from it "
            "would be the old cluster"
        )
    return lines


def comment(census: Mapping[str, Census]) -> dict[str, list[str]]:
    """What each host said, for a person: API, MySQL, SSH."""
    return {
        name: [
            "answers" if found.facts else found.facts_error or "does not answer",
            _mysql_line(found),
            "answers" if not found.host_error else found.host_error,
        ]
        for name, found in census.items()
    }


def _mysql_line(found: Census) -> str:
    if found.mysql is None:
        return found.mysql_error or "none"
    damage = f", InnoDB reports damaged data: {found.damage}" if found.damage else ""
    return f"{found.mysql.holds.count()} transactions{', half copied by a CLONE' if found.is_half_copied else damage}"
