"""TLS contexts of the controllers, for the API and among each other: certificates of the cluster's own CA.

A node's certificate names the member (not its address), so a member keeps its identity when its address
changes, and a client checks that it reached the member it meant. Making certificates: raftctl.bootstrap.tls.
"""

from __future__ import annotations

import ssl
from os import PathLike
from typing import Final, NamedTuple

from raftctl.errors import UsageError

FilePath = str | PathLike[str]

_ROUNDS_MAX: Final = 10  # of a handshake in memory
_NOT_YET_VALID: Final = 9  # X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED, also of the authority
_HAS_EXPIRED: Final = 10
OPERATOR: Final = "raftctl operator"  # with a space: no member can have this name


class Subject(NamedTuple):
    """Who a certificate is for: a member (`uid` as in `raftctl.cluster.state.Member`), or OPERATOR."""

    name: str
    uid: str = ""


class Certificate(NamedTuple):
    """What a certificate says of itself; `serial` is hexadecimal, `expires` Unix time."""

    serial: str
    expires: float


def server_context(cert: FilePath, key: FilePath, ca: FilePath, *, mutual: bool = False) -> ssl.SSLContext:
    """For a controller. A client of the API needs no certificate (load balancers ask `GET /primary`), another
    controller does (`mutual`); one that is shown must be the cluster CA's, and `peer_subject` tells who it is. Raises
    UsageError when a file does not load."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_OPTIONAL
    _load(context, cert=cert, key=key, ca=ca)
    return context


def client_context(ca: FilePath, cert: FilePath | None = None, key: FilePath | None = None) -> ssl.SSLContext:
    """For the CLI and for controllers that call each other: connect with `server_hostname` = the member's
    name.

    Without `cert` and `key` only the endpoints that need no client certificate answer. Raises UsageError when
    a file does not load."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the chain and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert=cert, key=key, ca=ca)
    return context


def peer_subject(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> Subject | None:
    """Who the verified certificate of the other side is for; None without TLS or without a certificate."""
    certificate = ssl_object.getpeercert() if ssl_object is not None else None
    if not certificate:
        return None
    subject: dict[str, str] = {}
    for relative_name in certificate.get("subject", ()):
        subject.update(relative_name)  # type: ignore[arg-type]
    return Subject(subject.get("commonName", ""), subject.get("serialNumber", ""))


def try_out(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> Certificate:
    """Shake hands with ourselves: the server's certificate, when `client` accepts it as `name`'s. Raises UsageError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    done: set[ssl.SSLObject] = set()
    try:
        for _ in range(_ROUNDS_MAX):
            for end in ends:
                if end not in done and _shook_hands(end):
                    done.add(end)
        found = ends[0].getpeercert() if len(done) == len(ends) else None
    except ssl.SSLError as error:
        raise UsageError(f"the certificate of {name} is not accepted: {_reason(error)}") from None
    if not found:
        raise UsageError(f"the certificate of {name} is not accepted")
    return Certificate(str(found["serialNumber"]), ssl.cert_time_to_seconds(str(found["notAfter"])))


def _shook_hands(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def authorities(context: ssl.SSLContext) -> tuple[str, ...]:
    """The serial numbers of the authorities that `context` trusts, hexadecimal, sorted."""
    return tuple(sorted(str(found["serialNumber"]) for found in context.get_ca_certs()))


def authorities_expire(context: ssl.SSLContext) -> float | None:
    """When the last of the authorities that `context` trusts expires, Unix time; None when it trusts none."""
    return max((ssl.cert_time_to_seconds(str(ca["notAfter"])) for ca in context.get_ca_certs()), default=None)


def why_not_accepted(error: ssl.SSLCertVerificationError) -> str:
    """One line: what is wrong with the other side's certificate, or its authority, and what mends it."""
    if error.verify_code == _HAS_EXPIRED:
        return "certificate has expired: `raftctl bootstrap` writes new ones"
    if error.verify_code == _NOT_YET_VALID:
        return "certificate is not yet valid: the clock there or here is wrong"
    return error.verify_message


def _load(context: ssl.SSLContext, *, cert: FilePath | None, key: FilePath | None, ca: FilePath) -> None:
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"cannot load the CA certificate {ca}: {_reason(error)}") from None
    if cert is None:
        return
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"cannot load the certificate {cert} with key {key}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return why_not_accepted(error)
    if isinstance(error, ssl.SSLError):
        return error.reason or "it is damaged"
    return error.strerror or str(error)
