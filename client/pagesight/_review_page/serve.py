"""Serves the page on loopback until it is told to stop."""

from __future__ import annotations

import contextlib
import signal
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


class PageServer(uvicorn.Server):
    """Serves the page; `should_exit` ends it."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None] = lambda: None) -> None:
        """Notes what to serve.

        Args:
            app: The page.
            ready: Called once it is served, and signals are heard.
        """
        super().__init__(
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
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says when it is ready."""
        await super().startup(sockets)
        self._ready()


def serve(app: ASGIApp, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until Ctrl-C, SIGTERM or the terminal's end, and returns."""
    # uvicorn shuts down first, and then lets the signal have its usual effect.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # A terminal that is closed ends it as Ctrl-C does: what is decided is sent first.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    with contextlib.suppress(KeyboardInterrupt):
        PageServer(app, ready).run(sockets=[listening])
