"""Pictures that callers hold in memory, as the bytes of a PNG file: lossless, and quick to make.

    PIL image    ──its own save──> PNG
    numpy array  ──filter 0, zlib──> PNG      height x width, or x 3 (RGB), or x 4 (RGBA); uint8

Neither library is imported: what is given brings its own methods.
PNG: https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Protocol, TypeGuard, runtime_checkable

_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
"""Grey, RGB and RGBA by their number of channels."""


@runtime_checkable
class PilImage(Protocol):
    """A `PIL.Image.Image`."""

    @property
    def mode(self) -> str:
        """Such as "RGB"."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002
        """Writes a file."""


@runtime_checkable
class PixelArray(Protocol):
    """A `numpy.ndarray` of uint8: height x width, or height x width x 3 (RGB) or 4 (RGBA)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, channels."""

    @property
    def __array_interface__(self) -> Any:
        """Describes the memory."""

    def tobytes(self) -> bytes:
        """Its values, row by row."""


def is_pixels(image: object) -> TypeGuard[PilImage | PixelArray]:
    """Whether it is a picture held in memory as pixels."""
    return isinstance(image, PilImage | PixelArray)


def encode(image: PilImage | PixelArray) -> bytes:
    """Returns the bytes of a PNG file.

    Raises:
        TypeError: An array of another shape or type.
    """
    if isinstance(image, PilImage):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", compress_level=1)
        return buffer.getvalue()
    return _encode_array(image)


def _encode_array(array: PixelArray) -> bytes:
    shape, kind = tuple(array.shape), array.__array_interface__["typestr"]
    channels = shape[2] if len(shape) == 3 else 1
    if kind != "|u1" or len(shape) not in {2, 3} or channels not in _COLOUR_TYPES or 0 in shape:
        raise TypeError(
            "an image array is uint8 of height x width, or x 3 (RGB) or x 4 (RGBA), "
            f"not {kind} of {' x '.join(map(str, shape))}"
        )
    height, width = shape[:2]
    data, row = memoryview(array.tobytes()), width * channels
    # Each row begins with the number of its filter: none.
    rows = b"".join(b"\0" + data[at : at + row] for at in range(0, height * row, row))
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows, 1)), _chunk(b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
