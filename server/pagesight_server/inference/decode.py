"""Decodes pictures; every limit is checked before memory is allocated.

    bytes -> size limit -> type by content -> header -> pixel limit -> pixels -> upright RGB
                                                            └─ plain JPEG: libjpeg-turbo, directly

Pillow reads every header. A JPEG that needs neither turning nor another colour space, as nearly
every screenshot in that format, is then decoded by TurboJPEG: the same pixels for under half the
time (docs/benchmarks.md), as Pillow copies rows through Python objects. Never scaled down: text
is read at full size. What TurboJPEG finds anything wrong with, Pillow judges.

Pillow's own decompression-bomb check warns where the server must refuse, so it is replaced by
limits that are applied to the header, before a single row is decoded. Pillow also warns of damaged
metadata. Pictures are decoded by many threads, which cannot silence warnings one by one: in a
program that turns warnings into errors they come as `ImageError`.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import ImageError
from pagesight_server.inference.settings import ImageLimits

FORMATS = ("JPEG", "PNG", "WEBP")
Image.MAX_IMAGE_PIXELS = None  # `_check_size` applies `ImageLimits` instead, and names the limit

MAX_JPEG_SCANS = 100
"""Scans of a progressive JPEG; encoders write about ten. One takes 75 bytes of a file and, at
49 megapixels, 60 ms: a hostile file within `max_bytes` could take hours."""


def decode(data: bytes, limits: ImageLimits) -> Pixels:
    """Decodes a JPEG, PNG or WebP picture, turned upright, without alpha.

    Args:
        data: The encoded picture.
        limits: Checked against the size of `data` and against the header of the picture.

    Returns:
        The first frame: height x width x 3, RGB, uint8. Transparent parts are white.

    Raises:
        ImageError: empty, too large, of another type, truncated or damaged.
    """
    if not data:
        raise ImageError("the picture is empty: send the bytes of a JPEG, PNG or WebP file")
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"the picture has {len(data):,} bytes, the limit is {limits.max_bytes:,}: "
            "send it smaller or re-compressed"
        )
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        # Within the data of a scan an FF is followed by 00, so this finds no others.
        raise ImageError(
            f"the JPEG has more than {MAX_JPEG_SCANS} scans: save it again, as a plain one"
        )
    if canvas := _webp_canvas(data):
        # Pillow makes the decoder, and libwebp two canvases, before telling the size.
        _check_size(*canvas, limits)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(picture.width, picture.height, limits)
            plain = _plain_jpeg(data, picture)
            if plain is not None:
                return plain
            upright = ImageOps.exif_transpose(picture)
            return np.ascontiguousarray(_to_rgb(upright))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("the bytes are no JPEG, PNG or WebP picture") from None
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ... on
        # hostile bytes; whatever it is, the picture is at fault and not the server.
        raise ImageError(f"the picture is damaged or truncated: {_one_line(error)}") from None


def _plain_jpeg(data: bytes, picture: Image.Image) -> Pixels | None:
    """The pixels of a JPEG that is upright, RGB and complete; None for any other picture.

    Args:
        data: The encoded picture.
        picture: Its header, as Pillow read it; the size was checked.
    """
    if picture.format != "JPEG" or picture.mode != "RGB":
        return None
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return None
    # Allocated by the checked size, so a file with two headers cannot take more.
    pixels: Pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    try:
        # Pillow uses the slow, exact transforms: with them both give the same pixels.
        decoded = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=False, fastupsample=False, buffer=pixels, strict=True
        )
    except ValueError:
        return None
    return pixels if decoded.shape == pixels.shape else None


def _webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP picture, from its first chunk; None for any other file.

    Layout: RFC 9649, sections 2.5 to 2.7.
    """
    head = data[:30].ljust(30, b"\0")
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8X":
            return _uint(head[24:27]) + 1, _uint(head[27:30]) + 1
        case b"VP8L":
            return (_uint(head[21:25]) & 0x3FFF) + 1, (_uint(head[21:25]) >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return _uint(head[26:28]) & 0x3FFF, _uint(head[28:30]) & 0x3FFF
        case _:
            return None


def _uint(data: bytes) -> int:
    """A little-endian unsigned integer."""
    return int.from_bytes(data, "little")


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    """Raises ImageError where a picture has too many pixels, or too few."""
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise ImageError(
            f"the picture has {width} x {height} pixels, the limits are "
            f"{limits.max_pixels:,} in all and {limits.max_side_px:,} a side"
        )
    if min(width, height) < limits.min_side_px:
        raise ImageError(
            f"the picture has {width} x {height} pixels, "
            f"at least {limits.min_side_px} a side are needed"
        )


def _to_rgb(picture: Image.Image) -> Image.Image:
    """The picture as 8-bit RGB, transparent parts on white."""
    if picture.mode in {"I", "I;16", "I;16B", "I;16L"}:
        # Pillow clips 16-bit grey to 8 bits when converting; scale it instead.
        grey = np.asarray(picture, dtype=np.uint32) >> 8
        picture = Image.fromarray(grey.astype(np.uint8))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, rgba)
    return picture.convert("RGB")


def _one_line(error: Exception) -> str:
    """The message of an error on one line of at most 200 characters, or else its type."""
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__


def read_file(path: Path, limits: ImageLimits) -> bytes:
    """Reads a picture file, unless it is larger than a picture may be.

    Raises:
        ImageError: it cannot be read or is too large.
    """
    try:
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise ImageError(f"the file has {size:,} bytes, the limit is {limits.max_bytes:,}")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror}") from None
