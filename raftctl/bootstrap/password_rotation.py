"""New passwords of raftctl's MySQL accounts, and a new cluster key, while the cluster works.

Nobody is ever asked for a secret that it does not have yet:

    1  secrets-next.json is made; every controller also takes the new cluster key of whom it dials
    2  every mysqld takes the new passwords beside the present ones (MySQL's dual passwords)
    3  secrets.json becomes the next one, everywhere; each controller, restarted, has its replica use its new password
    4  every mysqld, then every controller, forgets what was before

A restart of the controllers, one after the other, stops nothing else. Whoever is interrupted begins again, and finds by
the files in the operator's directory how far it came.
"""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from raftctl.api_client import ApiClient
from raftctl.bootstrap import credentials as own_files
from raftctl.bootstrap import formation
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.running import present_state
from raftctl.bootstrap.set_up import restart_units
from raftctl.bootstrap.survey import CALL_SECONDS, own_endpoint
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.state import ClusterState, Phase
from raftctl.controller.config import Secrets, dump_secrets, load_secrets
from raftctl.errors import RaftctlError, RefusedError
from raftctl.hosts.reach import reach
from raftctl.inventory.model import ClusterInventory, InventoryHost
from raftctl.mysql.accounts import add_passwords, drop_earlier_passwords
from raftctl.mysql.client import connect
from raftctl.mysql.errors import AccessDenied
from raftctl.secret import Secret

Progress = Callable[[str], None]

TIMEOUT_SECONDS: Final = 60.0  # for one member to come back and to replicate
_POLL_SECONDS: Final = 0.2


def plan_passwords(cluster: ClusterInventory) -> list[str]:
    """What `rotate_passwords` does, a step a line."""
    names = ", ".join(host.name for host in cluster.hosts)
    return [
        f"new passwords and a new cluster key in {cluster.credentials}, which {names} take beside the present ones",
        f"the controllers of {names} restart one after the other and use the new ones",
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
        self._next = cluster.credentials / "secrets-next.json"
        self._api = ApiClient.from_directory(cluster.credentials)
        self._state = _settled(present_state(self._api, cluster))

    def run(self) -> None:
        if self._next.exists() or not load_secrets(self._present).accepted_keys:
            self._introduce()
        secrets = load_secrets(self._present)
        self._give(secrets)
        self._wait_for_replicas()
        for host in self._with_mysql:
            self._progress(f"{host.name}: ending the earlier passwords")
            with connect(own_endpoint(host, secrets), connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS) as conn:
                drop_earlier_passwords(conn, self._replicating)
        alone = msgspec.structs.replace(secrets, accepted_keys=())
        self._give(alone)
        _save(self._present, alone)

    def _introduce(self) -> None:
        """Steps 1 and 2, and the operator's part of 3."""
        present = load_secrets(self._present)
        if not self._next.exists():
            _save(self._next, _renewed(present))
        new = load_secrets(self._next)
        if present.cluster_key != new.cluster_key:
            self._give(msgspec.structs.replace(present, accepted_keys=(new.cluster_key,)))
            for host in self._with_mysql:
                self._add_passwords(host, present, new)
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

    def _give(self, secrets: Secrets) -> None:
        """To every controller that does not have them, the primary's first: it has to know its replicas."""
        hosts = sorted(self._cluster.hosts, key=lambda host: host.name != self._state.primary)
        for host in hosts:
            machine, path = reach(host), Layout(host.directory).secrets
            if machine.read_file(path) == dump_secrets(secrets) and machine.read_file(_mark(host)) is None:
                continue
            self._progress(f"restarting the controller of {host.name} with its new secrets")
            machine.write_file(_mark(host), b"", mode=0o600)
            machine.write_file(path, dump_secrets(secrets), mode=0o600)
            restart_units(host)
            formation.wait_for_member(self._api, host.member, timeout=self._timeout)
            members = self._cluster.members()
            formation.wait_until_healthy(self._api, members, timeout=self._timeout, progress=self._progress)
            machine.run(["rm", "-f", _mark(host)], timeout=CALL_SECONDS)

    def _wait_for_replicas(self) -> None:
        members = {name: self._state.members[name] for name in self._replicating}
        deadline = time.monotonic() + self._timeout
        while True:
            answers = self._api.fetch_all(members, "/v1/member", CALL_SECONDS, MemberFacts)
            late = [name for name, answer in answers.items() if isinstance(answer, str) or not answer.password_in_use]
            if not late:
                return
            if time.monotonic() >= deadline:
                raise RaftctlError(
                    f"{', '.join(late)} did not replicate with new passwords within {self._timeout:g} s",
                    hint="see `raftctl status`; the same command goes on from here",
                )
            self._progress(f"waiting: {', '.join(late)} still replicate with earlier passwords")
            time.sleep(_POLL_SECONDS)


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


def _mark(host: InventoryHost) -> str:
    return Layout(host.directory).restart_pending


def _save(path: Path, secrets: Secrets) -> None:
    own_files.save(path.parent, [own_files.NewFile(path.name, dump_secrets(secrets), 0o600)])
