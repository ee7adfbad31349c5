"""Pictures that callers hold in memory, as the bytes of a PNG file: lossless, and quick to make.

    PIL image    ──its own save──> PNG, and how it is to be turned
                    └──cannot──> converted to RGB or RGBA, else InvalidImageError
    numpy array  ──filter 0, zlib──> PNG      height x width, or x 3 (RGB), or x 4 (RGBA); uint8

Neither library is imported: what is given brings its own methods.
PNG: https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Protocol, TypeGuard, runtime_checkable

from pagesight._errors import InvalidImageError

_ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be turned (EXIF 2.3, 4.6.4)."""

_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
"""Grey, RGB and RGBA by their number of channels."""


@runtime_checkable
class PilImage(Protocol):
    """Stands for a `PIL.Image.Image`, which is never imported."""

    @property
    def mode(self) -> str:
        """Names the channels of a pixel, such as "RGB"."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002
        """Writes a file."""


@runtime_checkable
class PixelArray(Protocol):
    """A `numpy.ndarray` of uint8: height x width, or height x width x 3 (RGB) or 4 (RGBA)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Tells height and width in pixels, and the channels where there are several."""

    @property
    def __array_interface__(self) -> Any:
        """Describes the memory."""

    def tobytes(self) -> bytes:
        """Returns its values as bytes, row by row."""


def is_pixels(image: object) -> TypeGuard[PilImage | PixelArray]:
    """Whether it is a picture held in memory as pixels."""
    return isinstance(image, PilImage | PixelArray)


def encode(image: PilImage | PixelArray) -> bytes:
    """Returns the bytes of a PNG file.

    A PIL image is sent as it would be by its path: the server turns it as its EXIF says, of which
    nothing else is sent, and applies its colour profile.

    Raises:
        InvalidImageError: A PIL image that cannot be read or written, as one that is truncated,
            closed, or of a mode that has no RGB.
        TypeError: An array of another shape or type.
    """
    if isinstance(image, PilImage):
        return _encode_pil(image)
    return _encode_array(image)


def _encode_pil(image: Any) -> bytes:
    try:
        # Before anything else: some formats know only then how they are to be turned.
        image.load()
        options: dict[str, Any] = {"compress_level": 1, "exif": _exif(image)}
        try:
            return _saved(image, options)
        except Exception:
            # PNG has no such mode, or what the picture says of itself does not fit it.
            # Its profile is one for the colours that it had.
            return _saved(image.convert(_mode_for(image)), options | {"icc_profile": None})
    except Exception as error:  # decoders and encoders of Pillow raise whatever they meet
        why = " ".join(str(error).split()) or type(error).__name__
        raise InvalidImageError(
            f"the PIL image cannot be sent as PNG: {why}", reason="IMAGE_UNUSABLE"
        ) from error


def _mode_for(image: Any) -> str:
    """A mode of PNG for an image of a mode that PNG lacks."""
    if image.mode == "La":
        return "LA"
    if image.mode == "I" and image.getextrema()[1] > 255:
        return "I;16"  # as RGB it would be cut off at 8 bits
    return "RGBA" if getattr(image, "has_transparency_data", False) else "RGB"


def _saved(image: Any, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def _exif(image: Any) -> bytes:
    """EXIF that says how a picture is to be turned, and nothing of place, time or camera."""
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF does not spoil a picture
        return b""
    if not 2 <= orientation <= 8:
        return b""
    # TIFF 6.0: big-endian, a directory at 8 of one entry, a short; no directory follows.
    entry = struct.pack(">HHIHH", _ORIENTATION, 3, 1, orientation, 0)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


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
