"""The operator's files of a cluster: `.raftctl/<cluster>/` beside the inventory.

    ca.crt ca.key           the cluster's certificate authority; while it is rotated ca.crt has the old one behind it
    client.crt client.key   with which commands reach the controllers
    secrets.json            what the controllers and MySQL accounts authenticate with

`raftctl rotate` also has ca-next.* or secrets-next.json there while it is under way.
They are made once and then only completed: whoever bootstraps again needs these very files. Expired certificates, the
authority's too, are made anew: nobody accepts them any more.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import secrets as random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from raftctl.bootstrap.tls import KeyPair, begins, create_authority, has_ended, is_current, issue_operator
from raftctl.controller.config import Secrets, dump_secrets, load_secrets
from raftctl.errors import RaftctlError, RefusedError, UsageError
from raftctl.hosts.local import LocalHost
from raftctl.secret import Secret

NEXT_SECRETS = "secrets-next.json"  # while a rotation is under way
_HERE = LocalHost("this machine")


class Credentials(NamedTuple):
    authority: KeyPair
    secrets: Secrets


class NewFile(NamedTuple):
    """To be written into the operator's directory."""

    name: str
    data: bytes
    mode: int


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Keep others on this machine from bootstrapping the same cluster meanwhile. Raises RaftctlError when one does."""
    _HERE.make_dir(str(directory), mode=0o700)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RaftctlError(f"another bootstrap uses {directory}", hint="wait until it has ended") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def settled(directory: Path) -> Iterator[None]:
    """As `exclusive`, when no rotation of the passwords waits to be finished: whoever came in the middle of one would
    be left with the earlier ones. Raises RefusedError, RaftctlError."""
    with exclusive(directory):
        if (directory / NEXT_SECRETS).exists() or load_secrets(directory / "secrets.json").accepted_keys:
            raise RefusedError(
                "a rotation of the passwords was interrupted",
                reason="rotation-unfinished",
                hint="`raftctl rotate passwords` goes on with it",
            )
        yield


def prepare(
    directory: Path, cluster: str, members: Iterable[str], *, now: dt.datetime
) -> tuple[Credentials, list[NewFile]]:
    """The credentials for a cluster with these data members, and the files that `save` must write for them: none when
    they are complete. Raises UsageError when the directory holds only a part that cannot be completed, and when its
    authority's time has not come by this machine's clock."""
    new: list[NewFile] = []
    authority = _authority(directory, now=now)
    if authority is None:
        authority = create_authority(cluster, now=now)
        new += files_of("ca", authority)
    client = read_pair(directory, "client")
    if client is None or not is_current(client, authority.certificate, now=now):
        new += files_of("client", issue_operator(authority, now=now))
    path = directory / "secrets.json"
    before = load_secrets(path) if path.exists() else None
    secrets = _completed(before, members)
    if secrets != before:
        new.append(NewFile("secrets.json", dump_secrets(secrets), 0o600))
    return Credentials(authority, secrets), new


def _authority(directory: Path, *, now: dt.datetime) -> KeyPair | None:
    """The authority that signs; None when a new one is needed."""
    try:
        certificate = _HERE.read_file(str(directory / "ca.crt"))
        if certificate is not None and has_ended(certificate, now=now):
            return None  # with or without its key: a new one's may stand there already
        authority = read_pair(directory, "ca")
        if authority is not None and now < (since := begins(authority.certificate)):
            raise UsageError(
                f"{directory}/ca.crt is valid from {since:%Y-%m-%d %H:%M} UTC, and this machine's clock says "
                f"{now:%Y-%m-%d %H:%M}",
                hint="set this machine's clock",
            )
    except ValueError:
        raise UsageError(
            f"{directory}/ca.crt holds no certificate",
            hint="copy ca.crt and ca.key from the machine that bootstrapped the cluster",
        ) from None
    if authority is None and (directory / "secrets.json").exists():
        raise UsageError(
            f"{directory} has secrets.json and no certificate authority",
            hint="copy ca.crt and ca.key from the machine that bootstrapped the cluster",
        )
    return authority


def save(directory: Path, files: Iterable[NewFile]) -> None:
    """Raises HostError."""
    for file in files:
        _HERE.write_file(str(directory / file.name), file.data, mode=file.mode)


def files_of(name: str, pair: KeyPair) -> list[NewFile]:
    """The certificate last: when it stands there, its key does."""
    return [NewFile(f"{name}.key", pair.key, 0o600), NewFile(f"{name}.crt", pair.certificate, 0o644)]


def read_pair(directory: Path, name: str) -> KeyPair | None:
    """The certificate and its key; None without a certificate. Raises UsageError when an authority lacks its key."""
    certificate, key = (_HERE.read_file(str(directory / f"{name}.{kind}")) for kind in ("crt", "key"))
    if certificate is None:
        return None
    if key is None and name == "ca":
        raise UsageError(
            f"{directory} has ca.crt and no ca.key",
            hint="copy ca.key from the machine that bootstrapped the cluster",
        )
    return KeyPair(certificate, key or b"")


def _completed(secrets: Secrets | None, members: Iterable[str]) -> Secrets:
    """`secrets`, or new ones, with a replication password for each member."""
    if secrets is None:
        secrets = Secrets(
            cluster_id=random.token_hex(8),
            cluster_key=Secret(random.token_hex(32)),
            admin_password=new_password(),
            replication_passwords={},
        )
    missing = {member: new_password() for member in members if member not in secrets.replication_passwords}
    if not missing:
        return secrets
    return msgspec.structs.replace(secrets, replication_passwords=secrets.replication_passwords | missing)


def new_password() -> Secret:
    """Random, with all kinds of characters that validate_password asks for; CHANGE REPLICATION SOURCE TO takes no more
    than 32 characters."""
    return Secret(f"{random.token_urlsafe(20)}-aA1")
