"""The same picture in distinct bytes, since a server's cache is keyed by the hash of the bytes.

    JPEG   a COM segment after the APPn segments        ISO/IEC 10918-1, B.2.4.5
    PNG    a tEXt chunk after IHDR                      https://www.w3.org/TR/png-3/
    WebP   a chunk of our own at the end, after         RFC 9649, 2.7
           making a simple file an extended one

Decoders ignore these, so the pixels are equal. Nothing is decoded here.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

STAMP_LENGTH = 32
"""Length of a stamp, in characters of printable ASCII, which every format allows."""

_PNG = b"\x89PNG\r\n\x1a\n"
_ALPHA = 0x10
"""The alpha flag of a VP8X chunk."""


@dataclass(frozen=True, slots=True)
class Variants:
    """A picture file, split where a stamp is inserted."""

    _head: bytes
    _kind: bytes
    _tail: bytes

    @classmethod
    def of(cls, data: bytes) -> Variants | None:
        """Finds the place of the stamp; None for anything but a whole JPEG, PNG or WebP file."""
        try:
            if data[:2] == b"\xff\xd8":
                at = _after_app_segments(data)
                return cls(data[:at], b"JPEG", data[at:])
            if data[:8] == _PNG and data[12:16] == b"IHDR":
                at = 8 + 12 + struct.unpack(">I", data[8:12])[0]
                return cls(data[:at], b"PNG", data[at:])
            if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
                return cls(_extended(data), b"WEBP", b"")
        except (IndexError, struct.error):
            pass
        return None

    def stamped(self, stamp: bytes) -> bytes:
        """Returns the file with a stamp of `STAMP_LENGTH` bytes inserted."""
        if len(stamp) != STAMP_LENGTH:
            raise ValueError(f"a stamp has {STAMP_LENGTH} bytes, got {len(stamp)}")
        match self._kind:
            case b"JPEG":
                segment = b"\xff\xfe" + struct.pack(">H", len(stamp) + 2) + stamp
            case b"PNG":
                body = b"tEXt" + b"Comment\0" + stamp
                segment = struct.pack(">I", len(body) - 4) + body
                segment += struct.pack(">I", zlib.crc32(body))
            case _:
                segment = b"load" + struct.pack("<I", len(stamp)) + stamp
        return b"".join((self._head, segment, self._tail))


def _after_app_segments(data: bytes) -> int:
    """Returns the offset after the APPn segments: JFIF and EXIF must be first in the file."""
    at = 2
    while data[at] == 0xFF and 0xE0 <= data[at + 1] <= 0xEF:
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    if data[at] != 0xFF:
        raise IndexError
    return at


def _extended(data: bytes) -> bytes:
    """Returns an extended WebP file without its end, the size including the stamp to come."""
    end = 8 + struct.unpack("<I", data[4:8])[0]
    if end > len(data):
        raise IndexError
    chunks = data[12:end]
    kind, body = chunks[:4], chunks[8:]
    if kind == b"VP8L":
        bits = struct.unpack("<I", body[1:5])[0]
        flags = _ALPHA if bits >> 28 & 1 else 0
        chunks = _vp8x(flags, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1) + chunks
    elif kind == b"VP8 ":
        width, height = struct.unpack("<HH", body[6:10])
        chunks = _vp8x(0, width & 0x3FFF, height & 0x3FFF) + chunks
    elif kind != b"VP8X":
        raise IndexError
    size = 4 + len(chunks) + 8 + STAMP_LENGTH
    return b"RIFF" + struct.pack("<I", size) + b"WEBP" + chunks


def _vp8x(flags: int, width: int, height: int) -> bytes:
    """Returns a VP8X chunk, which makes a simple WebP file an extended one."""
    body = struct.pack("<I", flags) + struct.pack("<I", width - 1)[:3]
    return b"VP8X" + struct.pack("<I", 10) + body + struct.pack("<I", height - 1)[:3]
