"""Who the server is and who the caller is: TLS, mutual TLS, and a bearer token.

    TlsConfig ──> channel credentials      the server proves itself, and with cert and key
                                           the caller does too
    token ──> authorization: Bearer ...    with every call; over TLS, or to this machine
    a failed connection ──tls_mistake──> which of the two sides is to blame, and what to do

A token that travels in the clear is everybody's: without TLS it is refused for any
address but loopback.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import grpc

from pagesight._environment import is_loopback

Pem: TypeAlias = "bytes | str | os.PathLike[str]"
"""The bytes of a PEM file, or its path."""

_HUNG_UP = re.compile("Socket closed|Connection reset|Broken pipe|SSL_ERROR_SSL", re.IGNORECASE)
"""How gRPC says that a connection was made and ended before its first word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """How the two sides prove who they are. Without any field: the public authorities."""

    ca: Pem | None = None
    """Certificates of the authorities that are trusted. None: those that gRPC brings."""
    cert: Pem | None = None
    """Mutual TLS: the caller's certificate chain."""
    key: Pem | None = field(default=None, repr=False)
    """Mutual TLS: its private key."""
    server_name: str = ""
    """Name expected in the server's certificate. Empty: the host of the address."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("mutual TLS needs both cert and key")

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            OSError: One of them cannot be read.
            ValueError: One of them is no PEM file, or the key is another certificate's.
        """
        ca, cert, key = _read(self.ca), _read(self.cert), _read(self.key)
        if ca is not None:
            _check_certificates(ca, "ca")
        if cert is not None and key is not None:
            _check_certificates(cert, "cert")
            _check_pair(cert, key)
        return grpc.ssl_channel_credentials(
            root_certificates=ca, private_key=key, certificate_chain=cert
        )


def _read(pem: Pem | None) -> bytes | None:
    return pem if pem is None or isinstance(pem, bytes) else Path(pem).read_bytes()


def _check_certificates(pem: bytes, name: str) -> None:
    """Refuses what holds no certificate; gRPC would only say that no handshaker can be made."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=_ascii(pem))
    except (ValueError, ssl.SSLError):
        raise ValueError(f"tls: {name} holds no certificate: give a PEM file of them") from None


def _ascii(pem: bytes) -> str:
    """A PEM file without what is not ASCII: bundles of authorities name these in comments."""
    return pem.decode("ascii", "ignore")


def _check_pair(cert: bytes, key: bytes) -> None:
    """Refuses a private key that cannot be used, or that is of another certificate.

    The ssl module reads both from files alone, and a key must not come onto a disk: where there
    are no files in memory, the first call finds out.
    """
    if not hasattr(os, "memfd_create"):
        return
    descriptor = os.memfd_create("pagesight")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(key + b"\n" + cert)
        # Without a password of its own OpenSSL would ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            f"/proc/self/fd/{descriptor}", password=lambda: ""
        )
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            raise ValueError("tls: key is the private key of another certificate") from None
        raise ValueError("tls: key is no private key in PEM without a password") from None
    except OSError:
        return
    finally:
        os.close(descriptor)


class TlsMistake(NamedTuple):
    """Why a connection failed for its TLS."""

    words: str
    """What is wrong and what to do; empty: it did not."""
    is_certain: bool = True
    """Whether another attempt must fail too: a server may also hang up because it stops."""


def tls_mistake(details: str, tls: TlsConfig | None, *, encrypted: bool) -> TlsMistake:
    """Returns what is wrong where a connection failed for its TLS.

    Args:
        details: What gRPC says of the connection.
        tls: How the client connects, if by `tls`.
        encrypted: Whether it connects by TLS at all.
    """
    words = _certain_mistake(details)
    if words or "failed to connect" not in details or not _HUNG_UP.search(details):
        return TlsMistake(words)
    return TlsMistake(_hung_up(tls, encrypted=encrypted), is_certain=False)


def _certain_mistake(details: str) -> str:
    if "WRONG_VERSION_NUMBER" in details:
        return "the server does not speak TLS: connect without it, or start the server with it"
    if "certificate has expired" in details or "certificate is not yet valid" in details:
        return "the server's certificate has expired, or is not valid yet: renew it"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return (
            "the server's certificate is of an authority that is not trusted: trust it "
            "(TlsConfig(ca=...); PAGESIGHT_TLS_CA for the commands)"
        )
    if "Hostname Verification" in details or "is not in peer certificate" in details:
        return (
            "the server's certificate is of another name than the address: use that name, or say "
            "which it is (TlsConfig(server_name=...); PAGESIGHT_TLS_SERVER_NAME for the commands)"
        )
    if "create security handshaker" in details:
        return "certificate, key or authorities cannot be used: are they PEM, and of each other?"
    return ""


def _hung_up(tls: TlsConfig | None, *, encrypted: bool) -> str:
    if not encrypted:
        return (
            "the server hangs up on connections without TLS: if it asks for TLS, connect with it "
            "(tls=TlsConfig(ca=...); PAGESIGHT_TLS_CA for the commands)"
        )
    if tls is not None and tls.cert is None:
        return (
            "the server hangs up during the TLS handshake: if it asks for a client certificate, "
            "show one (TlsConfig(cert=..., key=...); PAGESIGHT_TLS_CERT and PAGESIGHT_TLS_KEY for "
            "the commands)"
        )
    return (
        "the server hangs up during the TLS handshake: does it trust the authority of the client "
        "certificate, and has this expired?"
    )


def check_token(token: str, address: str, *, encrypted: bool) -> None:
    """Refuses a token that cannot be sent, or that everybody could read.

    Raises:
        ValueError: It is empty, holds other than visible ASCII, or would travel in the clear.
    """
    if not token or not all("!" <= char <= "~" for char in token):
        raise ValueError("token must be visible ASCII characters; is there a line break in it?")
    if not encrypted and not is_loopback(address):
        raise ValueError(
            f"a token to {address} needs TLS: pass tls=TlsConfig(); without it anybody on the "
            "way could read the token"
        )
