"""One host is set up as its plan says: system, accounts, files, services."""

from __future__ import annotations

from collections.abc import Callable

from raftctl.bootstrap import host_plan, system
from raftctl.bootstrap.finding import Finding
from raftctl.bootstrap.host_plan import HostPlan
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.preflight import failures, unsafe
from raftctl.bootstrap.survey import CALL_SECONDS, admin_endpoint, own_endpoint, survey_mysql
from raftctl.controller.config import Secrets
from raftctl.errors import RefusedError
from raftctl.hosts.reach import reach, services_of
from raftctl.hosts.services import Unit
from raftctl.inventory.model import ClusterInventory, InventoryHost
from raftctl.mysql.client import Endpoint, connect
from raftctl.secret import Secret

STOP_SECONDS = 15.0


class PreflightError(RefusedError):
    """The hosts are not fit; nothing was changed."""

    def __init__(self, findings: list[Finding]) -> None:
        failed = failures(findings)
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        what = f"{failed[0].host} is not fit, nothing was changed: {failed[0].what}{more}"
        super().__init__(what, reason="preflight", hint=failed[0].mend)
        self.findings = findings


def set_up(
    plan: HostPlan,
    cluster: ClusterInventory,
    secrets: Secrets,
    admin_password: Secret,
    *,
    progress: Callable[[str], None],
) -> None:
    """Raises RaftctlError; can be repeated. `progress` is told what begins."""

    def step(what: str) -> None:
        progress(f"{plan.host.name}: {what}")

    machine = reach(plan.host)
    admin = admin_endpoint(plan.host, cluster.admin, admin_password)
    if plan.restart:
        machine.write_file(Layout(plan.host.directory).restart_pending, b"", mode=0o600)
    system.apply(plan.host, machine, plan.system, progress=step)
    if plan.system.restart_mysqld:
        _verify_settings(plan.host, admin)
    if plan.reopen:
        _open(admin)
    if plan.server_id is not None:
        _set_server_id(admin, plan.server_id)
    if plan.accounts or plan.admin_account:
        endpoint = admin if plan.admin_account else own_endpoint(plan.host, secrets)
        step("creating MySQL accounts")
        with connect(endpoint, connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS) as conn:
            host_plan.create_accounts(conn, plan, secrets)
    step("writing the controller's files")
    host_plan.write_files(machine, plan)
    if plan.start:
        step("starting the controller")
        services = services_of(plan.host)
        for unit in units_of(plan.host):
            services.start(unit, timeout=CALL_SECONDS)


def _open(admin: Endpoint) -> None:
    """Before there is a cluster nobody else could be the primary; copying its data to the others may take hours."""
    with connect(admin, connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS) as conn:
        conn.execute("SET GLOBAL read_only = OFF")  # super_read_only goes off with it


def _set_server_id(admin: Endpoint, server_id: int) -> None:
    with connect(admin, connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS) as conn:
        conn.execute("SET GLOBAL server_id = %s", (server_id,))


def _verify_settings(host: InventoryHost, admin: Endpoint) -> None:
    """An option file of the administrator's that is read after raftctl's would win."""
    with connect(admin, connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS) as conn:
        findings = unsafe(host, survey_mysql(conn, is_admin=True, own_account=False))
    if findings:
        raise PreflightError(findings)


def units_of(host: InventoryHost) -> tuple[Unit, ...]:
    """What of raftctl runs on the host, in the order of starting."""
    return (Unit.GUARD, Unit.CONTROLLER) if host.has_mysql else (Unit.CONTROLLER,)


def restart_units(host: InventoryHost) -> None:
    """Stop and start what of raftctl runs on the host; mysqld goes on. Raises RaftctlError."""
    services = services_of(host)
    for unit in reversed(units_of(host)):
        services.stop(unit, timeout=STOP_SECONDS)
    for unit in units_of(host):
        services.start(unit, timeout=CALL_SECONDS)
