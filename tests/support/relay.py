"""A TCP relay between client and server that can fall silent, as when a host or cable is gone."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from tests.support import WAIT_S


class Relay:
    """Forwards bytes between a free loopback port and a server.

    Args:
        address: Address of the server, host:port.
    """

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self._open = 0
        self._chunks = 0
        self._threads = [threading.Thread(target=self._accept, name="relay")]

    @property
    def address(self) -> str:
        """Address that clients connect to, host:port."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def fall_silent(self) -> None:
        """Drops all further bytes of the present connections, without closing them."""
        with self._changed:
            self._silent.update(self._sockets)

    def wait_until_open(self, count: int) -> None:
        """Waits until clients have exactly `count` connections."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._open == count, WAIT_S):
                raise AssertionError(f"{self._open} connections are open, not {count}")

    def wait_for_chunks(self, count: int) -> None:
        """Waits until clients have sent something so many more times."""
        with self._changed:
            enough = self._chunks + count
            if not self._changed.wait_for(lambda: self._chunks >= enough, WAIT_S):
                raise AssertionError(f"clients sent {self._chunks} chunks, not {enough}")

    def __enter__(self) -> Relay:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Wakes the threads that wait for a connection or for bytes.
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            with self._changed:
                self._sockets += [client, server]
                self._open += 1
                self._changed.notify_all()
            for there, back in ((client, server), (server, client)):
                thread = threading.Thread(target=self._pass_on, args=(there, back), name="relay")
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        is_client = self._sockets.index(source) % 2 == 0
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if is_client:
                    with self._changed:
                        self._chunks += 1
                        self._changed.notify_all()
                if source not in self._silent:
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            if source not in self._silent:
                sink.shutdown(socket.SHUT_WR)
        if is_client:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()
