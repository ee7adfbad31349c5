"""Why a port cannot be listened on: gRPC says only that it could not bind.

host, port ──> addresses ──> bind one as gRPC would ──error──> what to do
"""

from __future__ import annotations

import errno
import socket

_ADVICE = {
    errno.EADDRINUSE: "another program listens there: stop it, or take another --port",
    errno.EADDRNOTAVAIL: "this machine has no such address: name one of its own with --host",
    errno.EACCES: "ports below 1024 are root's: take another --port",
}


def why_not(host: str, port: int) -> str:
    """Says why an address cannot be listened on, as far as trying it tells."""
    try:
        infos = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError:
        return "no such host: name an address of this machine with --host"
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
