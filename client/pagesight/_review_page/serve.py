"""Serves the page on loopback until it is told to stop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

HOST = "127.0.0.1"
CLOSE_AFTER_S = 2
"""How long requests under way may take at the end."""


def listen(port: int) -> socket.socket:
    """Opens the port; 0 is any that is free.

    Raises:
        OSError: It is taken.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError:
        listening.close()
        raise
    return listening


def server_of(app: ASGIApp) -> uvicorn.Server:
    """Returns what serves the page; `should_exit` ends it."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=CLOSE_AFTER_S,
        )
    )


def serve(app: ASGIApp, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until Ctrl-C or SIGTERM."""
    ready()
    # uvicorn shuts down first, and then lets the signal have its usual effect.
    with contextlib.suppress(KeyboardInterrupt):
        server_of(app).run(sockets=[listening])
