"""New passwords of raftctl's MySQL accounts, and a new cluster key, while the cluster works.

Nobody is ever asked for a secret that it does not have yet:

    1  secrets-next.json is made; every controller also takes the new cluster key of whom it dials
    2  every mysqld takes the new passwords beside the present ones (MySQL's dual passwords)
    3  secrets.json becomes the next one, everywhere; each controller has its replica use its new password
    4  every mysqld, then every controller, forgets what was before

Every step is a file that controllers and guards notice. No next one begins before each controller says that it, its
guard and its replica use what was written: a guard with an ended password could only fence by SIGKILL. Whoever is
interrupted begins again, and finds by the files in the operator's directory how far it came.
"""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from raftctl.bootstrap import credentials as own_files
from raftctl.bootstrap import formation
from raftctl.bootstrap.api import api_of
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.running import present_state
from raftctl.bootstrap.survey import CALL_SECONDS, own_endpoint
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.observation import ReceiverState
from raftctl.cluster.state import ClusterState, Phase
from raftctl.controller.config import Secrets, dump_secrets, load_secrets
from raftctl.errors import RaftctlError, RefusedError
from raftctl.hosts.reach import reach
from raftctl.inventory.model import ClusterInventory, InventoryHost
from raftctl.mysql.accounts import add_passwords, drop_earlier_passwords
from raftctl.mysql.client import connect
from raftctl.mysql.errors import AccessDenied
from raftctl.secret import Secret, fingerprint

Progress = Callable[[str], None]

TIMEOUT_SECONDS: Final = 60.0  # for one member to use what was written, and to replicate
VERSION_SECONDS: Final = 5.0  # for a guard that has just started to say what it uses
_POLL_SECONDS: Final = 0.2


def plan_passwords(cluster: ClusterInventory) -> list[str]:
    """What `rotate_passwords` does, a step a line."""
    names = ", ".join(host.name for host in cluster.hosts)
    return [
        f"new passwords and a new cluster key in {cluster.credentials}, which {names} take beside the present ones",
        f"the controllers of {names} use the new ones, one after the other",
        "the earlier ones end",
    ]


def rotate_passwords(cluster: ClusterInventory, *, progress: Progress, timeout: float = TIMEOUT_SECONDS) -> None:
    """Replace the passwords of all of raftctl's MySQL accounts, and the cluster key. `timeout` seconds bound the wait
    for each member.

    Raises RefusedError when a member does not answer or the cluster changes, other RaftctlErrors when a step fails; can
    be repeated."""
    with own_files.exclusive(cluster.credentials):
        _Rotation(cluster, progress, timeout).run()


class _Rotation:
    def __init__(self, cluster: ClusterInventory, progress: Progress, timeout: float) -> None:
        self._cluster = cluster
        self._progress = progress
        self._timeout = timeout
        self._present = cluster.credentials / "secrets.json"
        self._next = cluster.credentials / own_files.NEXT_SECRETS
        self._api = api_of(cluster)
        self._state = _settled(present_state(self._api, cluster))

    def run(self) -> None:
        self._require_present_versions()
        if self._next.exists() or not load_secrets(self._present).accepted_keys:
            self._introduce()
        secrets = load_secrets(self._present)
        self._give(secrets, "writing the new passwords and cluster key")
        for host in self._with_mysql:
            self._progress(f"{host.name}: ending the earlier passwords")
            with connect(own_endpoint(host, secrets), connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS) as conn:
                drop_earlier_passwords(conn, self._replicating)
        alone = msgspec.structs.replace(secrets, accepted_keys=())
        self._give(alone, "ending the earlier cluster key")
        _save(self._present, alone)

    def _require_present_versions(self) -> None:
        """Raises RefusedError when somebody could not say that it uses what it is given."""

        def silent() -> list[str]:
            answers = self._api.fetch_all(self._cluster.members(), "/v1/member", CALL_SECONDS, MemberFacts)
            return [
                host.name
                for host in self._cluster.hosts
                if not isinstance(facts := answers[host.name], str)
                and not (facts.secrets and (facts.guard_secrets or not host.has_mysql))
            ]

        deadline = time.monotonic() + min(VERSION_SECONDS, self._timeout)
        while names := silent():
            if time.monotonic() >= deadline:
                raise RefusedError(
                    f"{', '.join(names)}: the controller, or its guard, does not say which secrets it uses",
                    reason="earlier-version",
                    hint="when its raftctl is older than this one, `raftctl bootstrap` brings it up to date",
                )
            time.sleep(_POLL_SECONDS)

    def _introduce(self) -> None:
        """Steps 1 and 2, and the operator's part of 3."""
        present = load_secrets(self._present)
        if not self._next.exists():
            _save(self._next, _renewed(present))
        new = load_secrets(self._next)
        if present.cluster_key != new.cluster_key:
            both = msgspec.structs.replace(present, accepted_keys=(new.cluster_key,))
            self._give(both, "writing the new cluster key beside the present one")
            for host in self._with_mysql:
                self._add_passwords(host, present, new)
            for host in self._with_mysql:  # once more: a CLONE of before may have come to its end meanwhile
                self._add_passwords(host, present, new)
            self._progress(f"keeping the new passwords in {self._cluster.credentials}")
            _save(self._present, msgspec.structs.replace(new, accepted_keys=(present.cluster_key,)))
        self._next.unlink()

    @property
    def _with_mysql(self) -> list[InventoryHost]:
        return [host for host in self._cluster.hosts if host.has_mysql]

    @property
    def _replicating(self) -> list[str]:
        return [host.name for host in self._with_mysql]

    def _add_passwords(self, host: InventoryHost, present: Secrets, new: Secrets) -> None:
        if _can_log_in(host, new):  # it was done: once more would end the present ones
            return
        self._progress(f"{host.name}: adding the new passwords")
        uids = {name: self._state.members[name].uid for name in self._replicating}
        passwords = {name: new.replication_password(name, uid) for name, uid in uids.items()}
        with connect(own_endpoint(host, present), connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS) as conn:
            add_passwords(conn, new.admin_password, passwords)

    def _give(self, secrets: Secrets, what: str) -> None:
        """To every host, the primary's first, which has to know its replicas; the next one when this one uses them."""
        hosts = sorted(self._cluster.hosts, key=lambda host: host.name != self._state.primary)
        for host in hosts:
            machine, path = reach(host), Layout(host.directory).secrets
            if machine.read_file(path) != dump_secrets(secrets):
                self._progress(f"{host.name}: {what}")
                machine.write_file(path, dump_secrets(secrets), mode=0o600)
            self._wait_until_used(host, fingerprint(dump_secrets(secrets)))
            members = self._cluster.members()
            formation.wait_until_healthy(self._api, members, timeout=self._timeout, progress=self._progress)

    def _wait_until_used(self, host: InventoryHost, wanted: str) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            answer = self._api.fetch_all({host.name: host.member}, "/v1/member", CALL_SECONDS, MemberFacts)[host.name]
            late = answer if isinstance(answer, str) else who_is_late(answer, wanted, with_guard=host.has_mysql)
            if not late:
                return
            if time.monotonic() >= deadline:
                raise RaftctlError(
                    f"{host.name} does not use its new secrets after {self._timeout:g} s: {late}",
                    hint="see `raftctl status` and `raftctl logs`; the same command goes on from here",
                )
            time.sleep(_POLL_SECONDS)


def who_is_late(facts: MemberFacts, wanted: str, *, with_guard: bool) -> str:
    """Who on this host does not use the secrets with the fingerprint `wanted` yet, "" when everybody does."""
    if facts.secrets != wanted:
        return "its controller has not taken them"
    if with_guard and facts.guard_secrets != wanted:
        return "its guard has not taken them"
    if not facts.password_in_use:
        return "its mysqld replicates with an earlier password"
    mysql = facts.report.mysql
    channel = mysql.observation.channel if mysql is not None and mysql.observation is not None else None
    if channel is not None and channel.receiver is not ReceiverState.ON:
        return f"its mysqld does not receive from {facts.state.primary}: {channel.receiver_error or 'it connects'}"
    return ""


def _settled(state: ClusterState) -> ClusterState:
    if state.phase is not Phase.STEADY or state.joining or state.leaving or state.retiring or state.rebuilds:
        raise RefusedError("the cluster is changing", reason="change-under-way", hint="see `raftctl status`")
    return state


def _renewed(secrets: Secrets) -> Secrets:
    return msgspec.structs.replace(
        secrets,
        cluster_key=Secret(random.token_hex(32)),
        admin_password=own_files.new_password(),
        replication_passwords={name: own_files.new_password() for name in secrets.replication_passwords},
    )


def _can_log_in(host: InventoryHost, secrets: Secrets) -> bool:
    try:
        connect(own_endpoint(host, secrets), connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS).close()
    except AccessDenied:
        return False
    return True


def _save(path: Path, secrets: Secrets) -> None:
    own_files.save(path.parent, [own_files.NewFile(path.name, dump_secrets(secrets), 0o600)])
