"""Who may call, and what for: TLS, mutual TLS, bearer tokens with roles.

    [security] cert, key, client_ca ──> credentials of the port
               tokens (a file)      ──> RequireRole: authorization: Bearer ... ──> role? ──> call
                                            └──> UNAUTHENTICATED, PERMISSION_DENIED

The file holds digests, so reading it gives nobody a token:

    [[token]]
    name   = "loader"                                 # in the audit
    sha256 = "9f86d081884c7d65..."                    # printf %s TOKEN | sha256sum
    roles  = ["classify", "gallery-read"]

`classify` may classify, `gallery-read` may read galleries, `gallery-write` may read and change
them. `review` may review answers, classify, read galleries and settle findings, and changes no
gallery. `admin` may do all of it and see the contract by reflection. Health is for everybody:
probes have no token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from pagesight_server.common.errors import (
    PermissionDeniedError,
    RequestError,
    SetupError,
    UnauthenticatedError,
)
from pagesight_server.config_sections import SecurityConfig
from pagesight_server.service import certificates
from pagesight_server.service.codec import Context, refuse

ROLES = ("classify", "gallery-read", "gallery-write", "review", "admin")

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""The name of the token of the present call; empty where none is asked for."""

PEER: ContextVar[str] = ContextVar("peer", default="")
"""Where the present call of GalleryService or ReviewService comes from, as gRPC writes it."""

READING = frozenset(
    {
        "ListGalleries",
        "GetGallery",
        "ListImages",
        "ListHistory",
        "GetLabels",
        "GetImage",
        "Diagnose",
        "SuggestBrands",
    }
)
"""Calls of GalleryService that change nothing."""

SETTLING = frozenset({"SettleFindings", "UnsettleFindings"})
"""Calls of GalleryService that note what a person looked at."""

_SERVICES = {
    "pagesight.v1.ClassifierService": frozenset({"classify", "review", "admin"}),
    "pagesight.v1.GalleryService": frozenset({"gallery-write", "admin"}),
    "pagesight.v1.ReviewService": frozenset({"review", "admin"}),
}
_OPEN = "grpc.health.v1.Health"


def roles_for(service: str, method: str) -> frozenset[str]:
    """The roles of which a token needs one to make a call; other services are for admins."""
    roles = _SERVICES.get(service, frozenset({"admin"}))
    if service == "pagesight.v1.GalleryService":
        if method in READING:
            return roles | {"gallery-read", "review"}
        if method in SETTLING:
            return roles | {"review"}
    return roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Describes one caller: its name, and what it may do."""

    name: str
    sha256: bytes
    roles: frozenset[str]


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Reads the file of tokens.

    Raises:
        SetupError: it cannot be read or says something that cannot be.
    """
    try:
        entries = tomllib.loads(path.read_text("utf-8-sig")).get("token", [])
        tokens = tuple(
            Token(
                name=str(entry["name"]),
                sha256=bytes.fromhex(entry["sha256"]),
                roles=frozenset(entry["roles"]),
            )
            for entry in entries
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(
            f"{path}: {error}; each [[token]] has name, sha256 in hexadecimal, and roles"
        ) from None
    if not tokens:
        raise SetupError(f"{path}: no [[token]], so nobody could call")
    for token in tokens:
        if len(token.sha256) != 32 or not token.roles or not token.roles <= set(ROLES):
            raise SetupError(
                f"{path}: token {token.name!r} needs the 64 digits of a SHA-256 and roles among "
                f"{', '.join(ROLES)}"
            )
    names = {token.name for token in tokens}
    for longer in sorted(names):
        # A reviewer is named behind the token, with a slash between.
        for shorter in names:
            if longer.startswith(f"{shorter}/"):
                raise SetupError(
                    f"{path}: the token {longer!r} is named like a reviewer of {shorter!r}: "
                    "rename one of the two"
                )
    return tokens


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def credentials(host: str, config: SecurityConfig) -> grpc.ServerCredentials | None:
    """The credentials of the port; None for a plain one.

    Raises:
        SetupError: a file cannot be read, or the network would read along.
    """
    if (config.cert is None) != (config.key is None) or (config.client_ca and not config.cert):
        raise SetupError("security.cert and security.key belong together; client_ca needs both")
    if config.cert is None or config.key is None:
        if not is_loopback(host) and not config.allow_plaintext:
            raise SetupError(
                f"{host} is not this machine alone: set security.cert and security.key, or say "
                "--allow-plaintext where something else encrypts"
            )
        return None
    pair = certificates.read_pair(config.cert, config.key)
    authorities = certificates.read_authorities(config.client_ca) if config.client_ca else None
    return grpc.ssl_server_credentials(
        [pair], authorities, require_client_auth=authorities is not None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What stands between the network and the services."""

    credentials: grpc.ServerCredentials | None
    interceptors: tuple[grpc.aio.ServerInterceptor, ...]


def edge(host: str, config: SecurityConfig) -> Edge:
    """Reads certificates and tokens.

    Raises:
        SetupError: a file cannot be used, or the network would read along.
    """
    guards = (RequireRole(read_tokens(config.tokens)),) if config.tokens else ()
    return Edge(credentials=credentials(host, config), interceptors=guards)


def open_to_all(host: str, config: SecurityConfig) -> str:
    """Says so where whoever reaches the server may do everything; empty where not."""
    if is_loopback(host) or config.tokens or config.client_ca:
        return ""
    return (
        f"whoever reaches {host} may classify, and change galleries: set security.tokens or "
        "security.client_ca"
    )


class RequireRole(grpc.aio.ServerInterceptor):
    """Lets a call through when its token has a role that may make it."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Checks a call; grpc.aio calls this in the task that then runs the call."""
        service, _, method = handler_call_details.method.strip("/").partition("/")
        handler = await continuation(handler_call_details)
        if service == _OPEN or handler is None:
            return handler
        try:
            token = self._token(handler_call_details.invocation_metadata)
            if not token.roles & roles_for(service, method):
                raise PermissionDeniedError(
                    f"token {token.name!r} has the roles {', '.join(sorted(token.roles))}, "
                    f"which may not call {handler_call_details.method}"
                )
        except RequestError as error:
            return _refusing(error)
        CALLER.set(token.name)
        return handler

    def _token(self, metadata: Sequence[tuple[str, str | bytes]]) -> Token:
        given = next((str(value) for key, value in metadata if key == "authorization"), "")
        kind, _, secret = given.partition(" ")
        digest = hashlib.sha256(secret.encode()).digest()
        # All are compared, each in constant time: how long it takes tells nothing.
        matches = [token for token in self._tokens if hmac.compare_digest(token.sha256, digest)]
        if kind.lower() != "bearer" or not matches:
            raise UnauthenticatedError(
                "this server asks for a token: send `authorization: Bearer TOKEN`"
                if not given
                else "no such token"
            )
        return matches[0]


def _refusing(error: RequestError) -> Any:
    """A handler that ends every call with an error, whatever kind of call it is.

    It says that it takes a stream, as gRPC reads the message of any other call before it asks the
    handler: twenty callers who sent 19.9 of 20 MB each, without a token, held 400 MB.
    """

    # grpc.aio takes a coroutine for a stream of replies too, one that writes none.
    async def refused(_requests: Any, context: Context) -> None:
        await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(refused)
