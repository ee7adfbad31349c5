"""What lies around a client and keeps gRPC from working: forks, gevent, proxies.

    check_process     the process a channel was opened in ──> no other may use it
    check_gevent      threads that are greenlets ──> gRPC must have been told
    proxy_of          the environment's proxy for an address, by gRPC's own rules

gRPC says none of this by itself: a channel in a fork or under gevent hangs, and behind a proxy
a server next door is "Connection refused".
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Environment variables in which gRPC looks for a proxy; the first that is set counts."""

NO_PROXY_VARIABLES = ("no_grpc_proxy", "no_proxy")

_SCHEMES = ("dns:///", "dns:", "ipv4:", "ipv6:")


def check_process(opened_in: int) -> None:
    """Refuses a channel that another process opened.

    Raises:
        RuntimeError: This process was forked from the one that opened it.
    """
    if opened_in != os.getpid():
        raise RuntimeError(
            f"this client has connected in process {opened_in} and cannot be used in its fork "
            f"{os.getpid()}, where gRPC's threads are not: make the client after the fork, or "
            "make no call with it before"
        )


def check_gevent() -> None:
    """Refuses threads that gevent has made greenlets, unless gRPC was told.

    Raises:
        RuntimeError: `init_gevent` was not called.
    """
    if not _threads_are_greenlets():
        return
    # Nothing public says whether it was called.
    from grpc._cython import cygrpc  # type: ignore[attr-defined]

    if not getattr(cygrpc, "g_gevent_activated", True):
        raise RuntimeError(
            "gevent has patched this process and gRPC does not know, so that calls would block "
            "it: call grpc.experimental.gevent.init_gevent() after gevent.monkey.patch_all() "
            "and before the first call"
        )


def check_no_gevent() -> None:
    """Refuses an event loop where threads are greenlets: the one that grpc.aio needs blocks all.

    Raises:
        RuntimeError: gevent has patched this process.
    """
    if _threads_are_greenlets():
        raise RuntimeError(
            "gevent has patched this process, in which gRPC's event loops hang: use Client, "
            "after grpc.experimental.gevent.init_gevent()"
        )


def _threads_are_greenlets() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def host_of(address: str) -> str:
    """Returns the host of "host:port", with or without gRPC's scheme; of several, all."""
    for scheme in _SCHEMES:
        address = address.removeprefix(scheme)
    if address.startswith("//"):  # a name server, and what it is asked
        address = address.rpartition("/")[2]
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] or address


def is_loopback(address: str) -> bool:
    """Tells whether an address is this machine's own."""
    if address.startswith("unix:"):
        return True
    host = host_of(address)
    if (ip := _ip(host)) is not None:
        return ip.is_loopback or ip.is_unspecified
    return host.lower() == "localhost"


def to_connect(address: str) -> str:
    """Returns the address to connect to: of one that a server listens on, this machine's."""
    host = host_of(address)
    ip = _ip(host)
    if ip is None or not ip.is_unspecified:
        return address
    return address.replace(host, "127.0.0.1" if ip.version == 4 else "::1", 1)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Proxy(NamedTuple):
    """Describes a proxy that the environment names."""

    variable: str
    """The variable that names it."""
    where: str
    """Its host and port, without the password."""


def proxy_of(address: str, environment: Mapping[str, str]) -> Proxy | None:
    """Returns the proxy that gRPC goes through to an address; None: it goes there itself."""
    variable = next((name for name in PROXY_VARIABLES if name in environment), "")
    if address.startswith("unix:") or not environment.get(variable):
        return None
    exempt = next((environment[n] for n in NO_PROXY_VARIABLES if n in environment), "")
    host = host_of(address).lower()
    if any(_covers(entry.strip().lower(), host) for entry in exempt.split(",")):
        return None
    where = urlsplit(environment[variable]).netloc.rpartition("@")[2]
    return Proxy(variable, where or environment[variable])


def _covers(entry: str, host: str) -> bool:
    """Tells whether an entry of no_proxy is an ending of the host, or a network it lies in."""
    if not entry:
        return False
    ip = _ip(host)
    if ip is not None and "/" in entry:
        try:
            return ip in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    return host.endswith(entry)
