"""TLS contexts of the controllers, for the API and among each other: certificates of the cluster's own CA.

A node's certificate names the member (not its address), so a member keeps its identity when its address
changes, and a client checks that it reached the member it meant. Making certificates: raftctl.bootstrap.tls.
"""

from __future__ import annotations

import ssl
from os import PathLike

from raftctl.errors import UsageError

FilePath = str | PathLike[str]


def server_context(cert: FilePath, key: FilePath, ca: FilePath, *, mutual: bool = False) -> ssl.SSLContext:
    """For a controller. A client of the API needs no certificate (load balancers ask `GET /primary`), another
    controller does (`mutual`); one that is shown must be the cluster CA's, and `peer_name` tells who it is. Raises
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


def peer_name(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> str | None:
    """The common name in the verified certificate of the other side; None without TLS or without a
    certificate."""
    certificate = ssl_object.getpeercert() if ssl_object is not None else None
    if not certificate:
        return None
    for relative_name in certificate.get("subject", ()):
        for attribute in relative_name:
            if attribute[0] == "commonName":
                return str(attribute[1])
    return None


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
    return error.reason if isinstance(error, ssl.SSLError) else error.strerror or str(error)
