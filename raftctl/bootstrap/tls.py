"""The cluster's own certificate authority and the certificates it signs (EC P-256, X.509 v3).

A node's certificate carries the member's name, and its address for tools that check that; the operator's can only be
used as a client's. Everything here is in memory, PEM in and out; raftctl.bootstrap.credentials keeps the files.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raftctl.errors import UsageError
from raftctl.tls import OPERATOR, Subject

_AUTHORITY_LIFE = dt.timedelta(days=20 * 365)
_LIFE = dt.timedelta(days=10 * 365)
_RENEW_BEFORE_END = dt.timedelta(days=365)
_CLOCK_SKEW = dt.timedelta(days=1)


class KeyPair(NamedTuple):
    """PEM texts. `repr` shows only the certificate."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"KeyPair(certificate={self.certificate!r}, key=***)"


def create_authority(cluster: str, *, now: dt.datetime) -> KeyPair:
    """A new certificate authority for one cluster. `now` is UTC with its time zone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"raftctl CA {cluster}"[:64])])
    builder = _builder(name, name, key.public_key(), now=now, life=_AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return KeyPair(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def issue_node(authority: KeyPair, member: str, address: str, *, now: dt.datetime, uid: str = "") -> KeyPair:
    """A member's certificate: as server for its API, and as client when its controller calls another's. `uid` is the
    member's: an earlier host of its name cannot speak for it."""
    names = dict.fromkeys([_general_name(member), _general_name(address)])
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _issue(authority, Subject(member, uid), uses, x509.SubjectAlternativeName(names), now=now)


def issue_operator(authority: KeyPair, *, now: dt.datetime) -> KeyPair:
    """The certificate with which a person's commands reach the controllers."""
    return _issue(authority, Subject(OPERATOR), [ExtendedKeyUsageOID.CLIENT_AUTH], None, now=now)


def is_current(
    pair: KeyPair, authority: bytes, *, now: dt.datetime, member: str = "", address: str = "", uid: str = ""
) -> bool:
    """Whether the certificate is the (first) authority's and its key's, is valid now and for more than a year and, for
    a member's, names `member`, `address` and `uid`. False for rubbish, too."""
    if not (fits(pair) and is_signed_by(pair.certificate, authority)):
        return False
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    if now < certificate.not_valid_before_utc or certificate.not_valid_after_utc - now < _RENEW_BEFORE_END:
        return False
    if not member:
        return True
    try:
        names = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return False
    uids = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
    return names == {_general_name(member), _general_name(address)} and uids == ([uid] if uid else [])


def fits(pair: KeyPair) -> bool:
    """Whether the key is the certificate's. False for rubbish, too."""
    try:
        key = serialization.load_pem_private_key(pair.key, password=None)
        return key.public_key() == x509.load_pem_x509_certificate(pair.certificate).public_key()
    except (ValueError, TypeError):
        return False


def is_signed_by(certificate: bytes, authority: bytes) -> bool:
    """Whether the (first) authority signed it. False for rubbish, too."""
    try:
        issuer = x509.load_pem_x509_certificate(authority)
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def days_left(certificate: bytes, *, now: dt.datetime) -> float | None:
    """Until it expires; None for rubbish."""
    try:
        left = x509.load_pem_x509_certificate(certificate).not_valid_after_utc - now
    except ValueError:
        return None
    return left / dt.timedelta(days=1)


def authority_days_left(authorities: bytes, *, now: dt.datetime) -> float | None:
    """Until the last of them expires; None for rubbish."""
    try:
        found = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        return None
    return (max(ca.not_valid_after_utc for ca in found) - now) / dt.timedelta(days=1)


def has_ended(certificate: bytes, *, now: dt.datetime) -> bool:
    """Whether the (first) certificate's time is over. False for rubbish."""
    left = days_left(certificate, now=now)
    return left is not None and left <= 0


def begins(certificate: bytes) -> dt.datetime:
    """From when on the (first) certificate is valid. Raises ValueError for rubbish."""
    return x509.load_pem_x509_certificate(certificate).not_valid_before_utc


def present(certificates: bytes, *, now: dt.datetime) -> frozenset[x509.Certificate]:
    """Those that are valid now, as far as time goes. None of rubbish."""
    try:
        found = x509.load_pem_x509_certificates(certificates)
    except ValueError:
        return frozenset()
    return frozenset(c for c in found if c.not_valid_before_utc <= now < c.not_valid_after_utc)


def is_accepted(certificate: bytes, authorities: bytes, *, now: dt.datetime) -> bool:
    """Whether those who trust `authorities` accept it now."""
    issuers = present(authorities, now=now)
    return bool(present(certificate, now=now)) and any(is_signed_by(certificate, _pem(issuer)) for issuer in issuers)


def uid_in(certificate: bytes) -> str | None:
    """The member's uid in a member's certificate; None for rubbish."""
    try:
        subject = x509.load_pem_x509_certificate(certificate).subject
    except ValueError:
        return None
    return next((str(a.value) for a in subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)), "")


def serials(certificates: bytes) -> list[str]:
    """Each one's serial number, as `raftctl.tls.Certificate` has it."""
    digits = [f"{found.serial_number:X}" for found in x509.load_pem_x509_certificates(certificates)]
    return [number.zfill(len(number) + len(number) % 2) for number in digits]


def bundle(*texts: bytes) -> bytes:
    """Each certificate in `texts`, PEM, once, in their order."""
    found = [certificate for text in texts for certificate in x509.load_pem_x509_certificates(text)]
    return b"".join(_pem(certificate) for certificate in dict.fromkeys(found))


def first(text: bytes) -> bytes:
    """The first certificate in `text`: of several trusted authorities the one that signs."""
    return _pem(x509.load_pem_x509_certificate(text))


def _issue(
    authority: KeyPair,
    who: Subject,
    uses: list[x509.ObjectIdentifier],
    alternative_names: x509.SubjectAlternativeName | None,
    *,
    now: dt.datetime,
) -> KeyPair:
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey) or issuer_key.public_key() != issuer.public_key():
        raise UsageError("ca.key is not the key of ca.crt", hint="copy both from where the cluster was set up")
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, who.name)]
    if who.uid:
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, who.uid))
    builder = _builder(x509.Name(attributes), issuer.subject, key.public_key(), now=now, life=_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    if alternative_names is not None:
        builder = builder.add_extension(alternative_names, critical=False)
    return KeyPair(_pem(builder.sign(issuer_key, hashes.SHA256())), _key_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, now: dt.datetime, life: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
