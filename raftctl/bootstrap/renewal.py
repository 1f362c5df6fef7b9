"""Expired certificates, replaced by way of the hosts: nobody can ask a controller for anything any more then.

Controllers notice new files without a restart, so this comes before everything else that bootstrap does: what it needs
to know of the cluster only they can tell, and a mysqld that was restarted waits for them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

from raftctl.bootstrap import tls
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.survey import HostSurvey
from raftctl.bootstrap.tls import KeyPair
from raftctl.errors import RefusedError
from raftctl.hosts.base import Host
from raftctl.hosts.reach import reach
from raftctl.inventory.model import ClusterInventory, InventoryHost

_FILES_SECONDS: Final = 30.0


def ended(
    cluster: ClusterInventory, surveys: Mapping[str, HostSurvey], authority: bytes, cluster_id: str, *, now: dt.datetime
) -> list[InventoryHost]:
    """The hosts of this very cluster whose certificate those who trust `authority` do not accept now.

    Raises RefusedError when a host trusts another authority, whose time is not over: it was replaced from elsewhere."""
    found: list[InventoryHost] = []
    ours = tls.present(authority, now=now)
    for host in cluster.hosts:
        seen = surveys[host.name]
        if seen.config is None or (seen.config.cluster_id, seen.config.node) != (cluster_id, host.name):
            continue
        if (theirs := tls.present(seen.authorities, now=now)) and not theirs & ours:
            raise RefusedError(
                f"{host.name} trusts another certificate authority than the one in {cluster.credentials}",
                reason="other-authority",
                hint="copy that directory from the machine that replaced the authority",
            )
        if not tls.is_accepted(seen.certificate, authority, now=now):
            found.append(host)
    return found


def renew(host: InventoryHost, seen: HostSurvey, authority: KeyPair, *, now: dt.datetime) -> None:
    """A certificate for the member that this host is, whatever became of others of its name. Raises HostError."""
    assert seen.config is not None
    uid = tls.uid_in(seen.certificate)
    if uid is None:
        uid = seen.config.member.uid
    machine, layout = reach(host), Layout(host.directory)
    if seen.authorities != authority.certificate:
        machine.write_file(layout.authority, authority.certificate, mode=0o644)
    write_pair(machine, layout, tls.issue_node(authority, host.name, host.address, now=now, uid=uid))


def write_pair(machine: Host, layout: Layout, pair: KeyPair) -> None:
    """The controller's certificate and key. Raises HostError."""
    machine.write_file(f"{layout.key}.new", pair.key, mode=0o600)
    machine.write_file(f"{layout.certificate}.new", pair.certificate, mode=0o644)
    # Both at once: a controller that starts with one of them finds that they do not fit.
    move = 'mv -f "$1.new" "$1" && mv -f "$2.new" "$2"'
    machine.run(["sh", "-c", move, "sh", layout.key, layout.certificate], timeout=_FILES_SECONDS)
