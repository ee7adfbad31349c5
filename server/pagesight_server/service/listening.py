"""Ports: reserving one for several processes, and why one cannot be listened on.

    host, port ──> addresses ──> bind one as gRPC would ──error──> what to do
                      └──> bind each, listen a moment ──> bound still, for those who share it

gRPC says only that it could not bind. And with SO_REUSEPORT alone two servers of one user would
share a port without a word, each with its own store.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from pagesight_server.common.errors import SetupError

_ADVICE = {
    errno.EADDRINUSE: "another program listens there: stop it, or take another --port",
    errno.EADDRNOTAVAIL: "this machine has no such address: name one of its own with --host",
    errno.EACCES: "ports below 1024 are root's: take another --port",
}

_NO_HOST = "no such host: name an address of this machine with --host"

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of an address that this machine lacks, such as `::1` of `localhost` without IPv6."""

_FREE_PORT_ATTEMPTS = 20
"""A port that was free a moment ago may be taken by another program, which is rare."""


def why_not(host: str, port: int) -> str:
    """Says why an address cannot be listened on, as far as trying it tells."""
    try:
        infos = _addresses(host, port)
    except OSError:
        return _NO_HOST
    for family, kind, protocol, _, address in infos:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As gRPC does: the connections of a server that has just ended do not matter.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
        except OSError as error:
            return _ADVICE.get(error.errno or 0, str(error.strerror))
    return "gRPC could not; its reason is in the log above"


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Keeps a port for processes that bind it with SO_REUSEPORT, as long as the block lasts.

    No other server can listen there meanwhile, nor reserve it; nothing is accepted by this process.

    Args:
        host: The host to listen on.
        port: The port; 0: any that is free.

    Yields:
        The port.

    Raises:
        SetupError: the address cannot be listened on.
    """
    with contextlib.ExitStack() as stack:
        try:
            number = _reserve(host, port, stack)
        except OSError as error:
            no_host = isinstance(error, socket.gaierror)
            why = _NO_HOST if no_host else _ADVICE.get(error.errno or 0, str(error.strerror))
            shown = host.strip("[]")
            shown = f"[{shown}]" if ":" in shown else shown
            raise SetupError(f"cannot listen on {shown}:{port}: {why}") from None
        yield number


def _reserve(host: str, port: int, stack: contextlib.ExitStack) -> int:
    for attempt in range(_FREE_PORT_ATTEMPTS):
        number = port or _free_port(host)
        try:
            with contextlib.ExitStack() as taken:
                _reserve_all(host, number, taken)
                stack.push(taken.pop_all())
        except OSError as error:
            again = port == 0 and error.errno == errno.EADDRINUSE
            if not again or attempt == _FREE_PORT_ATTEMPTS - 1:
                raise
        else:
            break
    return number


def _reserve_all(host: str, port: int, taken: contextlib.ExitStack) -> None:
    """Binds the port of every address of a host that this machine has."""
    absent: OSError | None = None
    bound = False
    for family, kind, protocol, _, address in _addresses(host, port):
        try:
            one = taken.enter_context(socket.socket(family, kind, protocol))
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # As gRPC does: the connections of a server that has just ended do not matter.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
            # Of two who do this at once one fails here: only one may listen without sharing.
            one.listen()
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            absent = error
            continue
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.shutdown(socket.SHUT_RD)  # No longer listening, yet bound still (Linux).
        bound = True
    if not bound and absent is not None:
        raise absent


def _free_port(host: str) -> int:
    """A port that is free on the first address of a host now."""
    family, kind, protocol, _, address = _addresses(host, 0)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.bind(address)
        port: int = probe.getsockname()[1]
        return port


def _addresses(host: str, port: int) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    return socket.getaddrinfo(  # type: ignore[return-value]
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
