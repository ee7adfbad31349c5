"""The certificates of the port: whether they can be used, and for how long.

    cert, key ──> PEM? of each other? ──no──> SetupError, before gRPC says that no handshaker can be
    client_ca ──> certificates?             made and that the port is taken
         └──> valid now? ──no──> a warning: callers will refuse them, and an operator must know why

The standard library reads neither the times nor the names of a certificate that it does not
verify, so the few bytes of DER on the way to the times are read here (RFC 5280, section 4.1).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pagesight_server.common.errors import SetupError
from pagesight_server.config_sections import SecurityConfig

SOON = timedelta(days=14)
"""Time left of a certificate below which a start warns: those of Let's Encrypt, of 90 days, are
renewed 30 days before their end."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17
"""Tags of DER: a sequence, the optional version, a time with a year of two digits."""


def read_pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """The private key and the certificate chain, as gRPC takes them.

    Raises:
        SetupError: a file cannot be read, or the key is another certificate's.
    """
    pair = _read(key, "security.key"), _read(cert, "security.cert")
    _certificates(pair[1], cert, "security.cert")
    try:
        # Without a password of its own OpenSSL would ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            raise SetupError(
                f"security.key: {key} is the private key of another certificate than {cert}"
            ) from None
        raise SetupError(
            f"security.key: {key} is no private key in PEM without a password"
        ) from None
    return pair


def read_authorities(path: Path) -> bytes:
    """Reads the authorities of client certificates.

    Raises:
        SetupError: the file cannot be read, or holds no certificate.
    """
    pem = _read(path, "security.client_ca")
    _certificates(pem, path, "security.client_ca")
    return pem


def warnings(config: SecurityConfig, now: datetime) -> list[str]:
    """What is wrong with the times of the certificates, a line each.

    Raises:
        SetupError: a file cannot be read, or holds no certificate.
    """
    return [
        line
        for name, path in (("cert", config.cert), ("client_ca", config.client_ca))
        if path is not None
        for line in _untimely(path, f"security.{name}", now)
    ]


def _untimely(path: Path, name: str, now: datetime) -> Iterator[str]:
    for der in _certificates(_read(path, name), path, name):
        begin, end = validity(der)
        if now > end:
            yield f"{name}: {path} has expired on {end:%Y-%m-%d}: renew it, or nobody can connect"
        elif now < begin:
            yield f"{name}: {path} is not valid before {begin:%Y-%m-%d %H:%M} UTC"
        elif now > end - SOON:
            yield f"{name}: {path} expires on {end:%Y-%m-%d}: renew it"


def validity(der: bytes) -> tuple[datetime, datetime]:
    """Reads from when to when a certificate is valid.

    Args:
        der: The certificate.

    Raises:
        ValueError: it is none.
    """
    try:
        certificate = _inside(der)
        fields = list(_elements(_inside(certificate)))
        # version [0], if any, serialNumber, signature, issuer, validity
        times = fields[4 if fields[0][0] == _VERSION else 3][1]
        begin, end = (_time(tag, text.decode("ascii")) for tag, text in _elements(times))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"no certificate: {error}") from None
    return begin, end


def _time(tag: int, text: str) -> datetime:
    if tag == _UTC_TIME:  # RFC 5280: 50 to 99 are of the last century
        text = ("19" if text >= "5" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _inside(data: bytes) -> bytes:
    """What the first element of some DER holds, which must be a sequence."""
    tag, content = next(_elements(data), (0, b""))
    if tag != _SEQUENCE:
        raise ValueError("no sequence")
    return content


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields tag and content of each element, one after the other."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        yield tag, data[at : at + length]
        at += length


def _certificates(pem: bytes, path: Path, name: str) -> list[bytes]:
    """The certificates of a PEM file, as DER."""
    found = []
    for text in _PEM.findall(pem):
        try:
            der = ssl.PEM_cert_to_DER_cert(text.decode("ascii"))
            validity(der)
        except ValueError:
            raise SetupError(f"{name}: a certificate of {path} is damaged") from None
        found.append(der)
    if not found:
        raise SetupError(f"{name}: {path} holds no certificate: give a PEM file")
    return found


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(f"{name}: {path}: {error.strerror}") from None
