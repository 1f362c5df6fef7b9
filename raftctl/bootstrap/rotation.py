"""New certificates for a running cluster, without a restart: every step is a file that the controllers notice.

A new authority is trusted by everybody before anybody shows a certificate of it, and the old one is dropped when nobody
shows one of that any more:

    1  ca-next.crt, ca-next.key are made; every host trusts both authorities
    2  the operator's directory follows: ca.crt has the new one first, ca.key is the new one's
    3  every host gets a certificate of the new authority
    4  every host, then the operator, trusts the new one alone

Whoever is interrupted begins again, and finds by the files in the operator's directory how far it came.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from raftctl.api_client import ApiClient
from raftctl.bootstrap import credentials as own_files
from raftctl.bootstrap import tls
from raftctl.bootstrap.layout import Layout
from raftctl.bootstrap.renewal import write_pair
from raftctl.bootstrap.running import present_state
from raftctl.bootstrap.tls import KeyPair
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.state import Member
from raftctl.errors import RaftctlError
from raftctl.hosts.api_dial import dial_either_way
from raftctl.hosts.reach import reach
from raftctl.inventory.model import ClusterInventory, InventoryHost

Progress = Callable[[str], None]

TIMEOUT_SECONDS: Final = 30.0  # for one controller to use what was written
_CALL_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.2
_NEXT: Final = "ca-next"


def plan_certificates(cluster: ClusterInventory, *, authority: bool) -> list[str]:
    """What `rotate_certificates` would do, a step a line."""
    directory = cluster.credentials
    names = ", ".join(host.name for host in cluster.hosts)
    renewed = [f"new certificates for {names}", f"a new operator's certificate in {directory}"]
    if not authority and not is_under_way(directory):
        return renewed
    return [
        f"a new certificate authority in {directory}, trusted beside the old one by {names}",
        *renewed,
        "the old authority, and with it every certificate that it signed, is trusted by nobody any more",
    ]


def rotate_certificates(
    cluster: ClusterInventory, *, authority: bool, progress: Progress, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Replace the certificates of all members and the operator's; with `authority` the authority, too, which ends the
    validity of every certificate that it ever signed. `timeout` seconds bound the wait for each member.

    Raises RefusedError when a member does not answer, other RaftctlErrors when a step fails; can be repeated."""
    with own_files.exclusive(cluster.credentials):
        rotation = _Rotation(cluster, progress, timeout)
        if authority or is_under_way(cluster.credentials):
            rotation.replace_authority()
        else:
            rotation.renew()


def is_under_way(directory: Path) -> bool:
    """Whether a rotation of the authority was begun and not finished."""
    certificate = directory / "ca.crt"
    several = certificate.exists() and certificate.read_bytes().count(b"BEGIN CERTIFICATE") > 1
    return several or (directory / f"{_NEXT}.crt").exists()


class _Rotation:
    def __init__(self, cluster: ClusterInventory, progress: Progress, timeout: float) -> None:
        self._cluster = cluster
        self._directory = cluster.credentials
        self._progress = progress
        self._timeout = timeout
        self._now = dt.datetime.now(dt.UTC)
        self._dial = dial_either_way(cluster)
        self._mend_operator()
        self._members = dict(present_state(self._api(), cluster).members)

    # --- the two ways ---

    def renew(self) -> None:
        """The same authority signs."""
        authority = self._read("ca")
        for host in self._cluster.hosts:
            self._give_certificate(host, authority)
        self._write("client", tls.issue_operator(authority, now=self._now))

    def replace_authority(self) -> None:
        if (self._directory / f"{_NEXT}.crt").exists() or not is_under_way(self._directory):
            self._introduce()
        authority = self._read("ca")
        new = tls.first(authority.certificate)
        for host in self._cluster.hosts:
            if not tls.is_signed_by(self._certificate_on(host), new):
                self._give_certificate(host, authority)
        for host in self._cluster.hosts:
            self._give_authorities(host, new, "ending the earlier authority")
        own_files.save(self._directory, [own_files.NewFile("ca.crt", new, 0o644)])

    def _introduce(self) -> None:
        """Steps 1 and 2."""
        if not (self._directory / f"{_NEXT}.crt").exists():
            self._write(_NEXT, tls.create_authority(self._cluster.name, now=self._now))
        new = self._read(_NEXT)
        both = tls.bundle(new.certificate, (self._directory / "ca.crt").read_bytes())
        for host in self._cluster.hosts:
            self._give_authorities(host, both, "trusting the new authority beside the present one")
        self._progress(f"keeping the new authority in {self._directory}")
        self._write("ca", KeyPair(both, new.key))
        self._write("client", tls.issue_operator(new, now=self._now))
        for kind in ("crt", "key"):
            (self._directory / f"{_NEXT}.{kind}").unlink(missing_ok=True)

    # --- one host ---

    def _give_authorities(self, host: InventoryHost, certificates: bytes, what: str) -> None:
        self._progress(f"{host.name}: {what}")
        reach(host).write_file(Layout(host.directory).authority, certificates, mode=0o644)
        wanted = tuple(sorted(tls.serials(certificates)))
        self._wait(host, lambda facts: facts.certificate is not None and facts.certificate.authorities == wanted)

    def _give_certificate(self, host: InventoryHost, authority: KeyPair) -> None:
        self._progress(f"{host.name}: writing a new certificate")
        member = self._members[host.name]
        pair = tls.issue_node(authority, host.name, host.address, now=self._now, uid=member.uid)
        write_pair(reach(host), Layout(host.directory), pair)
        serial = tls.serials(pair.certificate)[0]
        self._wait(host, lambda facts: facts.certificate is not None and facts.certificate.serial == serial)

    def _certificate_on(self, host: InventoryHost) -> bytes:
        return reach(host).read_file(Layout(host.directory).certificate) or b""

    def _wait(self, host: InventoryHost, done: Callable[[MemberFacts], bool]) -> None:
        """Until the controller uses what was written for it."""
        deadline = time.monotonic() + self._timeout
        answer: MemberFacts | str = ""
        while time.monotonic() < deadline:
            answer = self._ask({host.name: self._members[host.name]})[host.name]
            if not isinstance(answer, str) and done(answer):
                return
            time.sleep(_POLL_SECONDS)
        why = answer if isinstance(answer, str) else "it still uses the earlier ones"
        raise RaftctlError(
            f"{host.name} did not take its new certificates within {self._timeout:g} s: {why}",
            hint="see `raftctl logs`; the same command goes on from here",
        )

    # --- the operator's side ---

    def _mend_operator(self) -> None:
        """Whoever was interrupted between a key and its certificate could not ask the controllers any more."""
        client = own_files.read_pair(self._directory, "client")
        if client is not None and tls.fits(client):
            return
        begun = own_files.read_pair(self._directory, _NEXT)
        self._write("client", tls.issue_operator(begun or self._read("ca"), now=self._now))

    def _ask(self, members: dict[str, Member]) -> dict[str, MemberFacts | str]:
        return self._api().fetch_all(members, "/v1/member", _CALL_SECONDS, MemberFacts)

    def _api(self) -> ApiClient:
        """With the certificates that are in the directory now."""
        return ApiClient.from_directory(self._directory, dial=self._dial)

    def _read(self, name: str) -> KeyPair:
        pair = own_files.read_pair(self._directory, name)
        if pair is None:
            raise RaftctlError(
                f"{self._directory} has no {name}.crt", hint="copy it from the machine that bootstrapped the cluster"
            )
        return pair

    def _write(self, name: str, pair: KeyPair) -> None:
        own_files.save(self._directory, own_files.files_of(name, pair))
