"""`raftctl bootstrap`: look, judge, then do what is missing, host by host, until the cluster is healthy.

It can be interrupted anywhere and repeated: each step first looks whether it is done. The first log entry is the point
of no return: before it the hosts' data is untouched except for what is seeded, after it the log decides.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from raftctl.api_client import ApiClient, in_parallel
from raftctl.bootstrap import credentials as own_files
from raftctl.bootstrap import formation, host_plan, renewal
from raftctl.bootstrap.api import api_of
from raftctl.bootstrap.finding import Finding, Severity
from raftctl.bootstrap.host_plan import HostPlan
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.preflight import failures, judge
from raftctl.bootstrap.primary import FirstPrimary, choose_primary
from raftctl.bootstrap.running import check_members, configured_members, ineffective_settings, known_state, with_uids
from raftctl.bootstrap.seed import RESTART_SECONDS_MAX, seed
from raftctl.bootstrap.set_up import PreflightError, restart_units, set_up
from raftctl.bootstrap.survey import (
    CALL_SECONDS,
    HostSurvey,
    admin_endpoint,
    admin_secret,
    own_endpoint,
    survey,
)
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.state import ClusterState, Engine, Member, Phase, Settings
from raftctl.controller.config import Secrets
from raftctl.errors import NoQuorumError, RefusedError
from raftctl.hosts.reach import reach, services_of
from raftctl.hosts.services import Unit
from raftctl.inventory.model import ClusterInventory, InventoryHost
from raftctl.inventory.relations import require_odd_number
from raftctl.secret import Secret

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT_SECONDS = 120.0
EXAMINATION_SECONDS = 120.0
MYSQLD_START_SECONDS = 20.0
_POLL_SECONDS = 0.5
_TAKEN_SECONDS = 15.0  # for a running controller to use a new certificate


class BootstrapReport(msgspec.Struct, kw_only=True):
    """What was done, or with `dry_run` would be done: `changed` is empty when everything was in place already."""

    cluster: str
    dry_run: bool
    primary: str = ""
    changed: list[str] = []
    warnings: list[Finding] = []


def bootstrap(
    cluster: ClusterInventory,
    *,
    progress: Callable[[str], None] = lambda _: None,
    dry_run: bool = False,
    by: str = "raftctl",
    timeout: float = TIMEOUT_SECONDS,
) -> BootstrapReport:
    """Bring the hosts of `cluster` to a healthy cluster, or as far as is missing. `progress` gets a line for each step;
    `by` stands in the history. `timeout` seconds bound each wait: for the leader and for health.

    Raises PreflightError when a host is not fit,
    RefusedError when no first primary can be chosen, and other RaftctlErrors when a step fails; it can be repeated.
    """
    if dry_run:
        return _Bootstrap(cluster, progress, dry_run=True, by=by, timeout=timeout).run()
    with own_files.exclusive(cluster.credentials):
        return _Bootstrap(cluster, progress, dry_run=False, by=by, timeout=timeout).run()


def examine(cluster: ClusterInventory, *, timeout: float = EXAMINATION_SECONDS) -> list[Finding]:
    """The judgement that bootstrap begins with, on a new cluster or a running one. Changes nothing. A host that was not
    looked at within `timeout` seconds has failed.

    Raises UsageError when the operator's own files are at fault."""
    with_mysql = [host.name for host in cluster.hosts if host.has_mysql]
    credentials, new = own_files.prepare(cluster.credentials, cluster.name, with_mysql, now=dt.datetime.now(dt.UTC))
    look = _looker(cluster, credentials.secrets, admin_secret(cluster.admin))
    answers = in_parallel({host.name: host for host in cluster.hosts}, look, timeout)
    surveys = {n: HostSurvey(name=n, error=found) if isinstance(found, str) else found for n, found in answers.items()}
    findings = judge(cluster, surveys, credentials.secrets)
    stale = [file.name for file in new if (cluster.credentials / file.name).exists() and file.name.endswith(".crt")]
    if stale:
        what = f"{', '.join(stale)} in {cluster.credentials}: expired, or with less than a year left"
        findings.append(Finding(cluster.name, "certificate", Severity.WARN, what, "`raftctl bootstrap` renews it"))
    return findings


def _survey_all(
    cluster: ClusterInventory, secrets: Secrets, admin_password: Secret
) -> tuple[dict[str, HostSurvey], list[Finding]]:
    look = _looker(cluster, secrets, admin_password)
    surveys = {found.name: found for found in _on_all(look, cluster.hosts)}
    return surveys, judge(cluster, surveys, secrets)


def _looker(
    cluster: ClusterInventory, secrets: Secrets, admin_password: Secret
) -> Callable[[InventoryHost], HostSurvey]:
    def look(host: InventoryHost) -> HostSurvey:
        admin = admin_endpoint(host, cluster.admin, admin_password)
        return survey(host, own=own_endpoint(host, secrets), admin=admin)

    return look


class _Bootstrap:
    def __init__(
        self, cluster: ClusterInventory, progress: Callable[[str], None], *, dry_run: bool, by: str, timeout: float
    ) -> None:
        self._cluster = cluster
        self._progress = progress
        self._by = by
        self._timeout = timeout
        self._now = dt.datetime.now(dt.UTC)
        self._admin_password = admin_secret(cluster.admin)
        with_mysql = [host.name for host in cluster.hosts if host.has_mysql]
        self._credentials, self._new_files = own_files.prepare(
            cluster.credentials, cluster.name, with_mysql, now=self._now
        )
        self._known: Mapping[str, Member] = {}
        self._settings: Settings | None = None  # of a cluster that runs
        self._cut_off = False  # dry run: nobody can be asked before certificates are renewed
        self._report = BootstrapReport(cluster=cluster.name, dry_run=dry_run)

    def run(self) -> BootstrapReport:
        if self._cluster.engine is Engine.GROUP:
            what, hint = "engine: group is not there yet", "leave it out: semi-sync works"
            raise RefusedError(f"{self._cluster.name} -> raftctl -> {what}", reason="not-supported", hint=hint)
        if not (self._cluster.credentials / "secrets.json").exists():
            require_odd_number(self._cluster)  # no cluster was made from here: refused before any host is asked
        surveys = self._look()
        if self._cut_off:
            return self._report
        state = self._existing(surveys)
        first: FirstPrimary | None = None
        if state is None:
            require_odd_number(self._cluster)
        if state is None and not configured_members(surveys.values()):
            first = self._choose(surveys)  # refused before anything is changed
        plans = [self._plan(host, surveys[host.name]) for host in self._cluster.hosts]
        if self._new_files:
            names = ", ".join(file.name for file in self._new_files)
            self._note([f"credentials written to {self._cluster.credentials}: {names}"])
        for plan in plans:
            self._note(plan.changes)
        if self._report.dry_run:
            return self._end_of_dry_run(surveys, state, first)
        self._set_up_hosts(plans)
        api = api_of(self._cluster)
        members = self._cluster.members()
        self._progress("waiting for the controllers to elect a leader")
        leader = self._wait_for_leader(api)
        if leader.state.phase is Phase.UNINITIALIZED:
            self._initialize(api, first or self._choose(surveys))
        self._progress("waiting until the cluster is healthy")
        status = formation.wait_until_healthy(api, members, timeout=self._timeout, progress=self._progress)
        self._report.primary = status.primary or ""
        return self._report

    # --- looking ---

    def _look(self) -> dict[str, HostSurvey]:
        self._progress("checking the hosts")
        surveys, findings = self._survey_settled()
        if self._renew_certificates(surveys):
            surveys, findings = self._survey_settled()
        if failures(findings) and not self._cut_off:
            raise PreflightError(findings)
        self._report.warnings = [finding for finding in findings if finding.severity is Severity.WARN]
        return surveys

    def _renew_certificates(self, surveys: Mapping[str, HostSurvey]) -> bool:
        """Replace those that nobody accepts any more, whatever else is wrong. Whether there were any."""
        authority = self._credentials.authority
        cluster_id = self._credentials.secrets.cluster_id
        hosts = renewal.ended(self._cluster, surveys, authority.certificate, cluster_id, now=self._now)
        own = [file.name for file in self._new_files if file.name.endswith(".crt")]
        known = any(found.config and found.config.cluster_id == cluster_id for found in surveys.values())
        if not hosts and not (own and known):
            return False
        self._note([f"certificates renewed in {self._cluster.credentials}: {', '.join(own)}"] if own else [])
        self._note(f"{host.name}: certificate renewed, without a restart" for host in hosts)
        if self._report.dry_run:
            self._note([f"{self._cluster.name}: what else is missing is looked for afterwards"])
            self._cut_off = True
            return False
        own_files.save(self._cluster.credentials, self._new_files)
        self._new_files = []

        def work(host: InventoryHost) -> None:
            self._progress(f"{host.name}: writing a new certificate")
            renewal.renew(host, surveys[host.name], authority, now=self._now)

        _on_all(work, hosts)
        api = api_of(self._cluster)
        for host in hosts:
            if surveys[host.name].controller_active:
                with contextlib.suppress(NoQuorumError):  # what else is wrong with it is found next
                    formation.wait_for_member(api, host.member, timeout=_TAKEN_SECONDS)
        return True

    def _survey_settled(self) -> tuple[dict[str, HostSurvey], list[Finding]]:
        """The hosts once no mysqld is in the middle of a CLONE or of a start: an interrupted bootstrap leaves such."""
        patience = time.monotonic() + MYSQLD_START_SECONDS
        while True:
            surveys, findings = _survey_all(self._cluster, self._credentials.secrets, self._admin_password)
            cloning = [name for name, found in surveys.items() if found.mysql is not None and found.mysql.cloning]
            silent = [name for name, found in surveys.items() if found.mysql_error and not found.mysql_denied]
            if cloning:
                self._progress(f"waiting: data are being copied to {', '.join(cloning)}")
                patience = time.monotonic() + RESTART_SECONDS_MAX
            elif silent and time.monotonic() < patience:
                self._progress(f"waiting: mysqld of {', '.join(silent)} does not answer")
            else:
                return surveys, findings
            time.sleep(_POLL_SECONDS)

    def _existing(self, surveys: Mapping[str, HostSurvey]) -> ClusterState | None:
        """The state of the cluster when it exists already; refuses when its members are not the inventory's."""
        configured = configured_members(surveys.values())
        if not configured:
            return None
        api = api_of(self._cluster)
        state = known_state(api, configured | self._cluster.members())
        self._known = state.members if state else configured
        check_members(self._cluster, self._known)
        if state is not None:
            self._settings = state.settings
            self._report.warnings += [
                Finding(self._cluster.name, "settings", Severity.WARN, line, "change it with `raftctl config`")
                for line in ineffective_settings(self._cluster, state)
            ]
        return state

    def _choose(self, surveys: Mapping[str, HostSurvey]) -> FirstPrimary:
        servers = {name: found.mysql for name, found in surveys.items() if found.mysql is not None}
        return choose_primary(self._cluster.hosts, servers)

    def _plan(self, host: InventoryHost, found: HostSurvey) -> HostPlan:
        members = with_uids(self._cluster.members(), self._known)
        return host_plan.plan_host(
            self._cluster,
            host,
            reach(host),
            found,
            self._credentials,
            now=self._now,
            members=members,
            settings=self._settings,
        )

    def _end_of_dry_run(
        self, surveys: Mapping[str, HostSurvey], state: ClusterState | None, first: FirstPrimary | None
    ) -> BootstrapReport:
        if state is None:
            first = first or self._choose(surveys)
            self._note_first(first)
        self._report.primary = first.name if first else state.primary if state else ""
        return self._report

    # --- doing ---

    def _set_up_hosts(self, plans: list[HostPlan]) -> None:
        if self._new_files:
            self._progress(f"writing credentials to {self._cluster.credentials}")
            own_files.save(self._cluster.credentials, self._new_files)
        secrets, admin_password = self._credentials.secrets, self._admin_password

        def work(plan: HostPlan) -> None:
            set_up(plan, self._cluster, secrets, admin_password, progress=self._progress)

        _on_all(work, [plan for plan in plans if plan.changes])
        for plan in plans:  # one after the other: the others keep the quorum meanwhile
            if plan.restart:
                self._restart(plan)

    def _restart(self, plan: HostPlan) -> None:
        self._progress(f"restarting the controller of {plan.host.name}")
        restart_units(plan.host)
        api = api_of(self._cluster)
        formation.wait_for_member(api, plan.host.member, timeout=self._timeout)
        reach(plan.host).run(["rm", "-f", Layout(plan.host.directory).restart_pending], timeout=CALL_SECONDS)
        self._wait_for_leader(api)

    def _wait_for_leader(self, api: ApiClient) -> MemberFacts:
        try:
            return formation.wait_for_leader(api, self._cluster.members(), timeout=self._timeout)
        except NoQuorumError as error:
            down = [
                host.name
                for host in self._cluster.hosts
                if not services_of(host).is_active(Unit.CONTROLLER, timeout=CALL_SECONDS)
            ]
            if not down:
                raise
            raise NoQuorumError(
                f"the controllers of {', '.join(down)} do not stay up; {error}", hint=error.hint
            ) from None

    def _initialize(self, api: ApiClient, first: FirstPrimary) -> None:
        primary, secrets = self._cluster.host(first.name), self._credentials.secrets
        self._note_first(first)
        for name in first.resets:
            formation.forget_installation(own_endpoint(self._cluster.host(name), secrets))
        for name in first.seeds:  # one after the other: a donor serves one CLONE at a time
            self._progress(f"copying {primary.name}'s data to {name}")
            host = self._cluster.host(name)
            password = secrets.replication_passwords[name]
            seed(
                host,
                endpoint=own_endpoint(host, secrets),
                donor=primary,
                password=password,
                progress=self._progress,
            )
        self._progress(f"initializing the cluster with {primary.name} as primary")
        formation.initialize(
            api,
            self._cluster,
            primary=primary.name,
            endpoint=own_endpoint(primary, secrets),
            by=self._by,
            timeout=self._timeout,
        )

    def _note_first(self, first: FirstPrimary) -> None:
        self._note(f"{name}: GTIDs of its installation deleted" for name in first.resets)
        self._note(f"{name}: data replaced by a copy of {first.name}'s" for name in first.seeds)
        self._note([f"cluster initialized with {first.name} as primary: {first.why}"])

    def _note(self, lines: Iterable[str]) -> None:
        self._report.changed += lines


def _on_all(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """On all hosts at once. The first error is raised when all have ended."""
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=len(items)) as pool:
        return list(pool.map(work, items))
