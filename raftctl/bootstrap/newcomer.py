"""A host that comes to a running cluster, and one that has left it: the part that is done on the host itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable

import msgspec

from raftctl.bootstrap import credentials as own_files
from raftctl.bootstrap import host_plan
from raftctl.bootstrap.credentials import Credentials
from raftctl.bootstrap.finding import Finding
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.preflight import failures, judge
from raftctl.bootstrap.set_up import PreflightError, set_up, units_of
from raftctl.bootstrap.survey import (
    CALL_SECONDS,
    HostSurvey,
    MySQLSurvey,
    admin_endpoint,
    admin_secret,
    own_endpoint,
    survey,
)
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import ClusterState
from raftctl.controller import gate_protocol
from raftctl.controller.config import Secrets
from raftctl.errors import RefusedError
from raftctl.hosts.reach import reach, services_of
from raftctl.inventory.model import ClusterInventory, InventoryHost
from raftctl.mysql.client import connect
from raftctl.mysql.errors import ServerGone
from raftctl.mysql.fencing import set_super_read_only
from raftctl.mysql.replication import stop_replica

_STOP_SECONDS = 15.0
_FILES_SECONDS = 30.0


class Newcomer:
    """`name` of the inventory on its way into the cluster whose state is `state`. The constructor only looks.

    Raises PreflightError when the host is not fit, UsageError when the operator's files are at fault."""

    def __init__(self, cluster: ClusterInventory, name: str, state: ClusterState) -> None:
        self.host = cluster.host(name)
        self._cluster = cluster
        self._now = dt.datetime.now(dt.UTC)
        began_with = [member.name for member in state.members.values() if member.mysql and not member.uid]
        self._credentials: Credentials = own_files.prepare(
            cluster.credentials, cluster.name, began_with, now=self._now
        )[0]
        self._admin_password = admin_secret(cluster.admin)
        secrets = self._credentials.secrets
        admin = admin_endpoint(self.host, cluster.admin, self._admin_password)
        self.found: HostSurvey = survey(self.host, own=own_endpoint(self.host, secrets), admin=admin)
        alone = msgspec.structs.replace(cluster, hosts=(self.host,))
        self.findings: list[Finding] = judge(alone, {name: self.found}, secrets)
        if failures(self.findings):
            raise PreflightError(self.findings)

    def require_own_identity(self, others: Iterable[tuple[str, MySQLObservation]]) -> None:
        """Two servers of one id or UUID do not replicate from each other. Raises RefusedError."""
        mysql = self.found.mysql
        if mysql is None:
            return
        for name, seen in others:
            if seen.server_uuid == mysql.server_uuid:
                what, mend = "server UUID", "delete auto.cnf in its data directory and restart it"
            elif str(seen.server_id) == mysql.variables.get("server_id") and self.found.platform is None:
                what, mend = "server_id", "set another one in its option file and restart it"
            else:
                continue
            raise RefusedError(f"{self.host.name} has the {what} of {name}", reason="identity", hint=mend)

    def require_no_foreign_data(self, ours: GTIDSet) -> None:
        """What is not a part of the cluster's data is not overwritten unasked. `ours` was read after the survey.

        Raises RefusedError."""
        mysql = self.found.mysql
        if mysql is not None and (what := foreign_data(mysql, ours)):
            name = self.host.name
            raise RefusedError(
                f"{name} has data of its own that would be lost: {what}",
                reason="foreign-data",
                hint=f"save what you need; --force-rebuild {name} replaces it",
            )

    def set_up(self, state: ClusterState, progress: Callable[[str], None]) -> None:
        """Prepare the host and start its controller, as the member that `state` has. What is done already is left
        alone; `progress` is told what begins. Raises RaftctlError; can be repeated."""
        found = self.found
        uid = state.members[self.host.name].uid
        if found.config is None or found.config.member.uid != uid:
            _end_earlier_life(self.host, runs=found.config is not None)
            found = msgspec.structs.replace(found, config=None, controller_active=False)
        plan = host_plan.plan_host(
            self._cluster,
            self.host,
            reach(self.host),
            found,
            self._credentials,
            now=self._now,
            members=state.members,
            joins=True,
            settings=state.settings,
        )
        if plan.restart:
            _stop(self.host)
            plan = msgspec.structs.replace(plan, start=True, restart=False)
        set_up(plan, self._cluster, self._credentials.secrets, self._admin_password, progress=progress)
        reach(self.host).run(["rm", "-f", Layout(self.host.directory).restart_pending], timeout=_FILES_SECONDS)


def foreign_data(mysql: MySQLSurvey, ours: GTIDSet) -> str:
    """What a server has that the cluster does not, one line; "" when it has nothing of its own."""
    if mysql.unused:
        return ""
    if extra := mysql.gtid_executed - ours:
        return f"{extra.count()} transactions: {extra}"
    if mysql.tables is not None and mysql.tables.total and not mysql.gtid_executed:
        return f"{mysql.tables.total} tables"
    return ""


def _end_earlier_life(host: InventoryHost, *, runs: bool) -> None:
    """A controller of an earlier member of that name must not vote with what it remembers, nor act on it."""
    layout = Layout(host.directory)
    machine = reach(host)
    machine.run(["rm", "-f", layout.config], timeout=_FILES_SECONDS)
    services = services_of(host)
    # also what outlived a removal that was cut short: it would go on with sockets and files that are gone
    if runs or any(services.is_active(unit, timeout=CALL_SECONDS) for unit in units_of(host)):
        _stop(host)
    machine.make_dir(layout.state, mode=0o700)
    # What was cut off a binary log stays: a person may want it.
    everything_else = ["-mindepth", "1", "-maxdepth", "1", "!", "-name", gate_protocol.TAILS]
    machine.run(["find", layout.state, *everything_else, "-exec", "rm", "-rf", "{}", "+"], timeout=_FILES_SECONDS)


def retire(cluster: ClusterInventory, name: str) -> None:
    """Stop what raftctl runs on the host of a former member, for good; its mysqld stays up, read-only and replicating
    from nobody. Raises RaftctlError, when that mysqld could not be asked for instance; all else is done then."""
    host = cluster.host(name)
    layout = Layout(host.directory)
    reach(host).run(["rm", "-f", layout.config, layout.secrets, layout.key], timeout=_FILES_SECONDS)
    try:
        if host.has_mysql:
            secrets = own_files.prepare(cluster.credentials, cluster.name, [], now=dt.datetime.now(dt.UTC))[0].secrets
            _close_mysqld(host, secrets)
    finally:
        _stop(host)


def _close_mysqld(host: InventoryHost, secrets: Secrets) -> None:
    try:
        conn = connect(own_endpoint(host, secrets), connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS)
    except ServerGone:
        return  # it starts read-only, and replicates from nobody then
    with conn:
        set_super_read_only(conn, timeout=CALL_SECONDS)
        stop_replica(conn, timeout=CALL_SECONDS)


def _stop(host: InventoryHost) -> None:
    services = services_of(host)
    for unit in reversed(units_of(host)):
        services.stop(unit, timeout=_STOP_SECONDS)
