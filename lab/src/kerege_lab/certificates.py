"""Certificates for tests and demonstrations: an authority, one server on the loopback, one client per center.

ECDSA P-256, as real centers should use: a mutual-TLS connect then costs 1.6 + 2.6 kB, with RSA 2.6 + 4.3 kB.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

COLLECTOR: Final = "collector"
"""The common name, and so the broker's user name, of the collector's client certificate."""

VALID_BEFORE: Final = timedelta(days=1)
"""Valid since yesterday: a clock that is a little slow is not what a test of TLS is about."""

VALID_FOR: Final = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Identity:
    """Files of one holder: a certificate and its private key, in PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """The authority's certificate, the server's identity, and the clients' by common name (centers, and `COLLECTOR`)."""

    ca: Path
    server: Identity
    clients: dict[str, Identity]


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(directory: Path, centers: Iterable[str]) -> Certificates:
    """Make an authority in ``directory`` and let it sign: a server on localhost, 127.0.0.1 and ::1, each center, the collector."""
    directory = directory.resolve()
    for part in ("server", "clients"):  # apart, since a center may have any name
        (directory / part).mkdir(parents=True, exist_ok=True)
    authority = _make_authority()
    ca = directory / "ca.pem"
    ca.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    places = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")), x509.IPAddress(ip_address("::1"))]
    server = _issue(authority, directory / "server", "localhost", ExtendedKeyUsageOID.SERVER_AUTH, places)
    names = [COLLECTOR, *centers]
    clients = {
        name: _issue(authority, directory / "clients", name, ExtendedKeyUsageOID.CLIENT_AUTH, [x509.DNSName(name)]) for name in names
    }
    return Certificates(ca=ca, server=server, clients=clients)


def _make_authority() -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Kerege lab CA")
    usage = _usage(signs_certificates=True)
    builder = _builder(name, name, key.public_key(), key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    return _Authority(builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key)


def _issue(authority: _Authority, directory: Path, name: str, use: x509.ObjectIdentifier, places: list[x509.GeneralName]) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(name), authority.certificate.subject, key.public_key(), authority.key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    identity = Identity(directory / f"{name}.pem", directory / f"{name}.key")
    identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    identity.key.touch(mode=0o600)
    identity.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return identity


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALID_BEFORE)
        .not_valid_after(now + VALID_FOR)
        # Python 3.13 verifies strictly (RFC 5280 section 4.2.1.1): a certificate must say whose key signed it
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
