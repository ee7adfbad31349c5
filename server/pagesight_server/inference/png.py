"""PNG: the chunks of a file that its pixels depend on, and no others.

    bytes ──chunks──> those of the pixels, as a PNG of its own ──> Pillow
                 ├──> colour profile, and the colour that is transparent
                 └──> all else: dropped unread

A whole picture must not be refused for a comment that is too long or has a wrong checksum, and
what is dropped takes no memory, and of time no more than its checksum. What is compressed is
inflated once at most for each thing that it may say: the profile, and how the picture is turned.
Of an APNG the default image is left.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.errors import ImageError
from pagesight_server.inference.colour import MAX_PROFILE_BYTES

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_CHUNKS = 100_000
"""Chunks of a file; one of 16 MB has some thousands. Each takes 12 bytes and some microseconds."""

MAX_METADATA_BYTES = 256 * 1024
"""Longest EXIF or XMP that is looked at for how a picture is turned, compressed or not; cameras
write some tens of KB, most of it a thumbnail."""

_ORIENTED_TEXTS = (b"XML:com.adobe.xmp", b"Raw profile type exif")
"""Keywords of texts that may say how a picture is turned; the second is ImageMagick's."""

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_LONGEST_KEYWORD = 80
"""Bytes of a keyword with the zero that ends it (PNG, 11.3.4.2)."""

_GREY, _RGB, _PALETTE = 0, 2, 3
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, 4: 2, 6: 4}
"""How many samples a pixel has, by the kind of colour; 4 and 6 are grey and RGB with alpha."""

_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""The first column and row of each pass of an interlaced picture, and their steps (PNG, 8.1)."""

_INFLATED_AT_ONCE = 4096
"""Compressed bytes; deflate makes at most 1,032 of each."""


@dataclass(frozen=True, slots=True)
class Key:
    """The one colour that is transparent in a grey or RGB PNG (tRNS)."""

    values: tuple[int, ...]
    """Its samples as they are stored, one or three."""
    depth: int
    """Bits of a sample: 1 to 16."""

    def alpha(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """0 where pixels have this colour, else 255: rows x width.

        Args:
            samples: rows x width, or rows x width x 3: of 16 bits as stored where the picture is
                grey of 16 bits, otherwise of 8, to which Pillow brings every other depth.
        """
        if self.depth == 16 and samples.ndim == 3:
            # Pillow keeps the upper half alone of each sample.
            key = [value >> 8 for value in self.values]
        elif self.depth < 8:
            key = [value * 255 // (2**self.depth - 1) for value in self.values]
        else:
            key = list(self.values)
        if samples.ndim == 2:
            samples = samples[..., np.newaxis]
        alpha: NDArray[np.uint8] = np.where((samples != np.array(key)).any(axis=2), 255, 0)
        return alpha.astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What is left of a file."""

    data: bytes
    profile: bytes | None
    """The ICC profile, not checked."""
    key: Key | None


def trimmed(data: bytes) -> Trimmed:
    """Leaves of a PNG what its pixels depend on, and how it is turned.

    Args:
        data: A file that begins with the signature; it may be damaged or truncated, of which
            Pillow judges afterwards.

    Raises:
        ImageError: it has more chunks than a picture has.
    """
    view = memoryview(data)
    kept: list[memoryview] = [view[: len(SIGNATURE)]]
    profile, key, seen = None, None, set[bytes]()
    depth, kind_of_colour = 8, _RGB
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        length, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        end = at + 12 + length
        body = view[at + 8 : end - 4]
        if end > len(data) or kind == b"IEND":
            kept.append(view[at:end])
            is_bare = sum(map(len, kept)) == len(data)
            return Trimmed(data if is_bare else b"".join(kept), profile, key)
        if kind == b"IHDR" and length >= 10:
            depth, kind_of_colour = body[8], body[9]
        if kind[0] & 0x20 == 0:  # a capital: the pixels depend on it
            kept.append(view[at:end])
        elif zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(view[end - 4 : end], "big"):
            if kind == b"tRNS" and kind_of_colour in {_GREY, _RGB}:
                key = _key(body, depth, kind_of_colour)
            elif kind == b"tRNS" and kind_of_colour == _PALETTE:
                kept.append(view[at:end])
            elif (name := _metadata(kind, body)) and name not in seen:
                seen.add(name)  # whole or not: a second try would cost as much again
                if kind == b"iCCP":
                    profile = _profile(bytes(body))
                elif kind == b"eXIf" or _is_short_text(kind, body):
                    kept.append(view[at:end])
        at = end
    raise ImageError(f"the PNG has more than {MAX_CHUNKS:,} chunks: save it again")


def lacks_rows(data: bytes) -> bool:
    """Whether less is compressed in a PNG than its rows take; Pillow shows zeros for the rest.

    Args:
        data: A file that Pillow has decoded.
    """
    view, inflater = memoryview(data), zlib.decompressobj()
    at, left = len(SIGNATURE), 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        body = view[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            left = _bytes_of_rows(body)
        elif kind == b"IDAT":
            for start in range(0, len(body), _INFLATED_AT_ONCE):
                if left <= 0 or inflater.eof:  # what is behind the end is not even looked at
                    return left > 0
                left -= len(inflater.decompress(body[start : start + _INFLATED_AT_ONCE]))
        at += 12 + length
    return left > 0


def _bytes_of_rows(header: memoryview) -> int:
    """Bytes of all rows before they are compressed, each with its filter, by the header (IHDR)."""
    width, height, depth, kind_of_colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    bits = depth * _SAMPLES[kind_of_colour]
    return sum(
        rows * (1 + (columns * bits + 7) // 8)
        for left, top, across, down in (_ADAM7 if interlaced else ((0, 0, 1, 1),))
        if (columns := -((left - width) // across)) > 0 and (rows := -((top - height) // down)) > 0
    )


def _key(body: memoryview, depth: int, kind_of_colour: int) -> Key | None:
    count = 3 if kind_of_colour == _RGB else 1
    if len(body) < 2 * count:
        return None
    return Key(struct.unpack(f">{count}H", body[: 2 * count]), depth)


def _profile(body: bytes) -> bytes | None:
    """The profile in an iCCP chunk: a name, a zero, the method, then compressed."""
    _, _, rest = body.partition(b"\0")
    return _inflated(rest[1:], MAX_PROFILE_BYTES)


def _metadata(kind: bytes, body: memoryview) -> bytes:
    """What a chunk says beside its pixels, as the name of it; empty where that is not needed."""
    if kind == b"iCCP":
        return kind
    if len(body) > MAX_METADATA_BYTES:
        return b""
    if kind == b"eXIf":
        return kind
    keyword = bytes(body[:_LONGEST_KEYWORD]).partition(b"\0")[0]
    return keyword if kind in _TEXTS and keyword in _ORIENTED_TEXTS else b""


def _is_short_text(kind: bytes, body: memoryview) -> bool:
    """Whether a text can be read, and has at most `MAX_METADATA_BYTES` when it is inflated."""
    _, _, rest = bytes(body).partition(b"\0")
    if kind == b"zTXt":
        return _inflated(rest[1:], MAX_METADATA_BYTES) is not None
    if kind == b"iTXt" and rest[:1] == b"\1":
        # A flag, the method, language, translated keyword, then the text.
        return _inflated(rest[2:].split(b"\0", 2)[-1], MAX_METADATA_BYTES) is not None
    return True


def _inflated(data: bytes, most: int) -> bytes | None:
    """What zlib compressed; None where that is damaged or longer than `most`."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, most)
    except zlib.error:
        return None
    return text if inflater.eof else None
