"""Callers that send most of a message and fall silent: HTTP/2 by hand, as no client would do it.

connect ──headers──> DATA as far as the server's windows allow ──> silence, until it hangs up
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
"""The setting of this number (RFC 9113, 6.5.2)."""


class HalfSent:
    """One call that sends `sent` bytes of a message of `size` bytes, where it is let."""

    def __init__(self, size: int, sent: int) -> None:
        self._message = struct.pack(">BI", 0, size)
        self._left = sent
        self.sent = 0
        """Bytes of the message that the server took."""
        self.ended = asyncio.Event()
        """Set once the server has ended the call."""
        self._window_connection = self._window_stream = 65_535
        self._initial_window = 65_535
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self, address: str, path: str, metadata: Mapping[str, str]) -> None:
        """Begins the call, and goes on with it in the background."""
        host, port = address.rsplit(":", 1)
        reader, self._writer = await asyncio.open_connection(host, int(port))
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": address,
            "te": "trailers",
            "content-type": "application/grpc",
            **metadata,
        }
        self._writer.write(PREFACE + frame(SETTINGS, 0, 0, b""))
        self._writer.write(frame(HEADERS, END_HEADERS, 1, literals(headers)))
        self._task = asyncio.create_task(self._run(reader, self._writer))

    async def close(self) -> None:
        """Hangs up."""
        if self._writer is not None:
            self._writer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(9)
                length, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                stream = int.from_bytes(head[5:])
                payload = await reader.readexactly(length)
                self._heard(writer, kind, flags, stream, payload)
                self._send(writer)
                await writer.drain()
        self.ended.set()

    def _heard(
        self, writer: asyncio.StreamWriter, kind: int, flags: int, stream: int, payload: bytes
    ) -> None:
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                number, value = struct.unpack_from(">HI", payload, at)
                if number == INITIAL_WINDOW_SIZE:
                    self._window_stream += value - self._initial_window
                    self._initial_window = value
            writer.write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            writer.write(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            (increment,) = struct.unpack(">I", payload)
            if stream:
                self._window_stream += increment
            else:
                self._window_connection += increment
        elif kind in (RST_STREAM, GOAWAY) or (kind == HEADERS and flags & END_STREAM):
            self.ended.set()

    def _send(self, writer: asyncio.StreamWriter) -> None:
        while not self.ended.is_set():
            size = min(self._left, self._window_stream, self._window_connection, 16_384)
            if size <= 0:
                return
            # The head of the message is in its first bytes; the others say nothing.
            data = self._message[self.sent : self.sent + size].ljust(size, b"\0")
            writer.write(frame(DATA, 0, 1, data))
            self.sent += size
            self._left -= size
            self._window_stream -= size
            self._window_connection -= size


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame of HTTP/2 (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def literals(headers: Mapping[str, str]) -> bytes:
    """Header fields as literals, neither indexed nor compressed (RFC 7541, 6.2.2)."""
    block = b""
    for name, value in headers.items():
        for text in (b"\0" + _text(name), _text(value)):
            block += text
    return block


def _text(text: str) -> bytes:
    assert len(text) < 127  # longer ones would have a length of several bytes
    return bytes([len(text)]) + text.encode("ascii")
