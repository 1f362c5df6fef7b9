"""The cluster's certificates, judged by real TLS handshakes in memory."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest

from raftctl import tls
from raftctl.bootstrap.tls import OPERATOR, KeyPair, create_authority, is_current, issue_node, issue_operator
from raftctl.errors import UsageError

NOW = dt.datetime.now(dt.UTC)


class Files:
    """PEM files of one cluster."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.authority = create_authority("orders", now=NOW)
        self.write("ca", self.authority)

    def write(self, name: str, pair: KeyPair) -> None:
        (self.directory / f"{name}.crt").write_bytes(pair.certificate)
        (self.directory / f"{name}.key").write_bytes(pair.key)

    def server(self, member: str, address: str = "192.0.2.1") -> ssl.SSLContext:
        self.write(member, issue_node(self.authority, member, address, now=NOW))
        return tls.server_context(*self.paths(member), self.directory / "ca.crt")

    def client(self, pair: KeyPair | None) -> ssl.SSLContext:
        if pair is None:
            return tls.client_context(self.directory / "ca.crt")
        self.write("client", pair)
        return tls.client_context(self.directory / "ca.crt", *self.paths("client"))

    def paths(self, name: str) -> tuple[Path, Path]:
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "one")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, *, to: str) -> tuple[str | None, str | None]:
    """(who the server sees, who the client sees). Raises ssl.SSLError when either side refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server, server_hostname=to)
    for _ in range(10):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    with pytest.raises(ssl.SSLWantReadError):
        client_side.read()  # in TLS 1.3 a refusal of the client's certificate arrives after its handshake
    seen = [tls.peer_subject(side) for side in (server_side, client_side)]
    return tuple(subject.name if subject else None for subject in seen)


@pytest.mark.parametrize("member", ["db1", "db_1.example.com", "192.0.2.7", "2001:db8::7", "x" * 63])
def test_a_client_reaches_a_member_by_its_name(files: Files, member: str) -> None:
    operator = files.client(issue_operator(files.authority, now=NOW))
    assert handshake(files.server(member), operator, to=member) == (OPERATOR, member)


def test_a_member_is_also_reached_by_its_address(files: Files) -> None:
    assert handshake(files.server("db1"), files.client(None), to="192.0.2.1") == (None, "db1")


def test_another_member_is_not_taken_for_the_one_that_was_meant(files: Files) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(files.server("db1"), files.client(None), to="db2")


def test_a_controller_calls_another_with_its_own_certificate(files: Files) -> None:
    caller = files.client(issue_node(files.authority, "db2", "192.0.2.2", now=NOW))
    assert handshake(files.server("db1"), caller, to="db1") == ("db2", "db1")


def test_the_operator_cannot_pose_as_a_member(files: Files) -> None:
    pair = issue_operator(files.authority, now=NOW)
    files.write("fake", pair)
    server = tls.server_context(*files.paths("fake"), files.directory / "ca.crt")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, files.client(None), to=OPERATOR.split()[0])


def test_certificates_of_another_cluster_are_refused_by_both_sides(files: Files, tmp_path: Path) -> None:
    other = Files(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(other.server("db1"), files.client(None), to="db1")
    stranger = issue_operator(other.authority, now=NOW)
    with pytest.raises(ssl.SSLError):
        handshake(files.server("db1"), files.client(stranger), to="db1")


def test_an_expired_certificate_is_refused(files: Files) -> None:
    old = issue_operator(files.authority, now=NOW - dt.timedelta(days=5000))
    with pytest.raises(ssl.SSLError):
        handshake(files.server("db1"), files.client(old), to="db1")


def test_a_certificate_is_current_until_its_name_address_key_or_authority_changes(files: Files) -> None:
    authority = files.authority.certificate
    node = issue_node(files.authority, "db1", "192.0.2.1", now=NOW)
    assert is_current(node, authority, now=NOW, member="db1", address="192.0.2.1")
    assert not is_current(node, authority, now=NOW, member="db1", address="192.0.2.9")
    assert not is_current(node, authority, now=NOW, member="db2", address="192.0.2.1")
    assert not is_current(node, authority, now=NOW + dt.timedelta(days=3500), member="db1", address="192.0.2.1")
    assert not is_current(node, create_authority("orders", now=NOW).certificate, now=NOW)
    operator = issue_operator(files.authority, now=NOW)
    assert is_current(operator, authority, now=NOW)
    assert not is_current(operator, authority, now=NOW, member="db1")
    assert not is_current(KeyPair(node.certificate, operator.key), authority, now=NOW)
    assert not is_current(KeyPair(b"rubbish", b""), authority, now=NOW)


def test_a_key_that_does_not_fit_the_authority_is_refused(files: Files) -> None:
    mixed = KeyPair(files.authority.certificate, create_authority("orders", now=NOW).key)
    with pytest.raises(UsageError, match=r"ca\.key is not the key of ca\.crt"):
        issue_operator(mixed, now=NOW)


def test_a_key_pair_does_not_show_its_key(files: Files) -> None:
    assert "PRIVATE" not in repr(files.authority)


def test_missing_and_broken_files_are_usage_errors(files: Files, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("no PEM")
    with pytest.raises(UsageError, match=f"cannot load the CA certificate {tmp_path}/none: No such file"):
        tls.client_context(tmp_path / "none")
    with pytest.raises(UsageError, match=f"cannot load the CA certificate {broken}"):
        tls.client_context(broken)
    with pytest.raises(UsageError, match=f"cannot load the certificate {broken}"):
        tls.server_context(broken, broken, files.directory / "ca.crt")
