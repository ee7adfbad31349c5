"""Pictures of one colour: small enough to make by the hundred, and easy to tell apart."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, TypeAlias

from PIL import Image

Colour: TypeAlias = tuple[int, int, int]

RED: Colour = (250, 10, 10)
GREEN: Colour = (10, 250, 10)
BLUE: Colour = (10, 10, 250)
GREY: Colour = (128, 128, 128)
WHITE: Colour = (255, 255, 255)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Encodes a picture; options are those of Pillow's `save`."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def solid(
    colour: Colour, *, width: int = 24, height: int = 32, kind: str = "PNG", **options: Any
) -> bytes:
    """An encoded picture of one colour, by default 24 pixels wide and 32 high."""
    return encoded(Image.new("RGB", (width, height), colour), kind, **options)


def shade(number: int) -> Colour:
    """A colour for each number; those of the first 65 536 numbers differ."""
    return (number * 7 % 256, number * 29 % 256, number // 256 % 256)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def with_chunk(data: bytes, added: bytes, *, before: bytes = b"IDAT") -> bytes:
    """A PNG with one more chunk, before the first of that kind."""
    at = data.index(before) - 4
    return data[:at] + added + data[at:]
