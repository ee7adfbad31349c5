"""Who the server is and who the caller is: TLS, mutual TLS, and a bearer token.

    TlsConfig ──> channel credentials      the server proves itself, and with cert and key
                                           the caller does too
    token ──> authorization: Bearer ...    with every call; over TLS, or to this machine

A token that travels in the clear is everybody's: without TLS it is refused for any
address but loopback.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc

Pem: TypeAlias = "bytes | str | os.PathLike[str]"
"""The bytes of a PEM file, or its path."""

_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


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
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca),
            private_key=_read(self.key),
            certificate_chain=_read(self.cert),
        )


def _read(pem: Pem | None) -> bytes | None:
    return pem if pem is None or isinstance(pem, bytes) else Path(pem).read_bytes()


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    return address.removeprefix("ipv4:").removeprefix("dns:///").startswith(_LOOPBACK)


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
