"""A name server of one name, whose addresses a test may change."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType

A_RECORD = 1


class NameServer:
    """Answers every question for A records with the present addresses, for the time of a `with`."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="name-server")

    @property
    def address(self) -> str:
        """host:port, by UDP."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, caller = self._socket.recvfrom(512)
            if not query:
                return
            end = query.index(b"\0", 12) + 5  # of the question: its name, its type and its class
            (kind,) = struct.unpack(">H", query[end - 4 : end - 2])
            found = self.addresses if kind == A_RECORD else ()
            # A response, authoritative; one question, so many answers.
            header = query[:2] + struct.pack(">HHHHH", 0x8580, 1, len(found), 0, 0)
            # Each answer names the name of the question, by its place, and may be kept no time.
            answers = [
                struct.pack(">HHHIH", 0xC00C, A_RECORD, 1, 0, 4) + socket.inet_aton(address)
                for address in found
            ]
            self._socket.sendto(header + query[12:end] + b"".join(answers), caller)
