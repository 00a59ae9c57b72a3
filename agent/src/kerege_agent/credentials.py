"""TLS and passwords for the broker, from files that are read anew at each connection, so that a renewed certificate is used at once."""

import ssl
from pathlib import Path
from typing import Any, Final

from kerege_agent.settings import Mqtt

_IGNORE_CERTIFICATE_TIMES: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name."""

_TIME_ERRORS: Final = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def is_about_time(error: BaseException) -> bool:
    """Was a certificate refused for its dates only? With a dead clock battery that says nothing about the certificate."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _TIME_ERRORS


class RememberingContext(ssl.SSLContext):
    """Knows the socket that it wrapped last: its certificate can be asked for, and it must be closed even if its handshake failed."""

    latest: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        self.latest = super().wrap_socket(*arguments, **options)
        return self.latest


def tls_context(mqtt: Mqtt, *, check_times: bool) -> RememberingContext:
    """TLS 1.2 or newer, server checked by name and authority, client certificate if there is one.

    Raises OSError (ssl.SSLError among them).
    """
    context = RememberingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # the alternative names alone count (RFC 9525 section 2)
    if mqtt.ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(mqtt.ca_file)
    if not check_times:
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | _IGNORE_CERTIFICATE_TIMES)
    if mqtt.certificate_file is not None:
        context.load_cert_chain(mqtt.certificate_file, mqtt.key_file)
    return context


def is_valid_at(certificate: dict[str, Any], utc_s: int) -> bool:
    """Do a peer certificate's dates (as `ssl.SSLSocket.getpeercert` gives them) include this time?"""
    begins, ends = certificate.get("notBefore"), certificate.get("notAfter")
    return begins is not None and ends is not None and ssl.cert_time_to_seconds(begins) <= utc_s <= ssl.cert_time_to_seconds(ends)


def secret(path: Path | None) -> str | None:
    """The first line of a file that holds a name or a password, None without a file. Raises OSError."""
    if path is None:
        return None
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip("\r\n")
