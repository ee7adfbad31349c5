"""Decodes pictures; every limit is checked before memory is allocated.

    bytes -> size limit -> format by content -> header -> pixel limit -> room for pixels ─┐
    ┌─────────────────────────────────────────────────────────────────────────────────────┘
    ├─ JPEG, grey or RGB: libjpeg-turbo ─┐
    ├─ still WebP: OpenCV's libwebp ─────┼─ bands -> sRGB -> on white or black -> upright RGB
    └─ all others: Pillow ───────────────┘

Pillow reads every header. Pixels come from whichever decoder takes the least memory; they are
converted in bands of rows, so that beside what a codec needs for itself there is one picture of
3 bytes a pixel. Never scaled down: text is read at full size. What TurboJPEG finds anything wrong
with, Pillow judges.

Pillow's own decompression-bomb check warns where the server must refuse, so it is replaced by
limits that are applied to the header, before a single row is decoded. Pillow also warns of damaged
metadata. Pictures are decoded by many threads, which cannot silence warnings one by one: in a
program that turns warnings into errors they come as `ImageError`.
"""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import (
    ExifTags,
    Image,
    ImageFile,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401 - see below
)

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import ImageError
from pagesight_server.inference import avif, jpeg, memory, png, tiff, webp
from pagesight_server.inference.bands import Frame, bands
from pagesight_server.inference.colour import ToSrgb, to_srgb
from pagesight_server.inference.formats import pillow_name
from pagesight_server.inference.settings import ImageLimits

# Formats are loaded now, and not by the first screenshot that a server is sent.
Image.preinit()
Image.MAX_IMAGE_PIXELS = None  # `_check_size` applies `ImageLimits` instead, and names the limit

GATE = memory.PixelGate(memory.Trimmer().after)
"""The pixels that this process is decoding; one for all threads and all kinds of calls."""

_SIXTEEN_BITS = frozenset({"I", "I;16", "I;16B", "I;16L"})
_GREY_MODES = frozenset({"1", "L", "LA", *_SIXTEEN_BITS})

_TIFF_COMPRESSIONS = frozenset(
    {"raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "tiff_ccitt"}
    | {"group3", "group4"}
)
"""Those that take time and memory by the pixel; JPEG in TIFF, for one, may have any number of
scans."""

_MAX_READS = 1_000_000
"""Reads of a file by Pillow, of which some formats need two for a few bytes: a second's worth. A
BMP of 1080 x 2400 whose runs of pixels are encoded has some 100,000."""

_TILE_WIDTH, _TILE_LENGTH = 322, 323
_BYTE_COUNTS = (279, 325)
"""Tags of the lengths of strips and of tiles. What is compressed may stand for no pixels at all, so
the same megabyte for each row of a picture took half a minute."""

_MAX_PLANES = 4
"""Planes of a TIFF that has each colour apart: CMYK, or RGB with alpha."""
_MAX_TILE_PIXELS = 1024 * 1024
"""Pixels of a TIFF's tile, which its decoder allocates whatever the size of the picture is."""


def decode(data: bytes, limits: ImageLimits) -> Pixels:
    """Decodes a picture, turned upright, in sRGB, without alpha.

    Waits while the pictures that other threads decode have `max_pixels_at_once`.

    Args:
        data: The encoded picture, in one of the formats of `limits`.
        limits: Checked against the size of `data` and against the header of the picture.

    Returns:
        The first frame: height x width x 3, RGB, uint8. Transparent parts are white, or black where
        that shows more (`ground_of`).

    Raises:
        ImageError: empty, too large, of another type, truncated or damaged.
        MemoryError: the process has no memory for it. Of WebP and AVIF, whose decoders do not
            always tell the two apart, it may be an `ImageError`.
    """
    if not data:
        raise ImageError("the picture is empty: send the bytes of a JPEG, PNG or WebP file")
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"the picture has {len(data):,} bytes, the limit is {limits.max_bytes:,}: "
            "send it smaller or re-compressed"
        )
    name = pillow_name(data, limits.formats)
    try:
        match name:
            case "JPEG":
                return _jpeg(data, limits)
            case "WEBP":
                return _webp(data, limits)
            case "PNG":
                trimmed = png.trimmed(data)
                return _by_pillow(trimmed.data, name, limits, trimmed.profile, trimmed.key)
            case "AVIF":
                return _by_pillow(avif.trimmed(data), name, limits)
            case "TIFF":
                return _by_pillow(tiff.trimmed(data), name, limits)
            case _:
                return _by_pillow(data, name, limits)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError("the picture is damaged or truncated: its header cannot be read") from None
    except Exception as error:
        if _is_out_of_memory(error):
            raise MemoryError(_one_line(error)) from error
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ... on
        # hostile bytes; whatever it is, the picture is at fault and not the server.
        raise ImageError(f"the picture is damaged or truncated: {_one_line(error)}") from None


class _File(io.BytesIO):
    """A file that is not read in any number of pieces."""

    _left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns the next bytes.

        Raises:
            ImageError: it was called too often.
        """
        self._left -= 1
        if self._left < 0:
            raise ImageError("the picture is in too many pieces: save it as PNG or JPEG")
        return super().read(size)


def _opened(data: bytes, name: str) -> Image.Image:
    """A picture whose header was read by Pillow, in the format of that name."""
    return Image.open(_File(data), formats=(name,))


def _jpeg(data: bytes, limits: ImageLimits) -> Pixels:
    layout = jpeg.layout(data)
    if layout.scans == 0:
        # Pillow would look for one from byte to byte, behind an end mark as well.
        raise ImageError("the picture is damaged or truncated: it has no pixels")
    data = layout.mended(data)
    whole = data if layout.has_end else data + jpeg.END
    with _opened(whole, "JPEG") as picture:
        _check_size(picture.width, picture.height, limits)
        frame = Frame(picture.height, picture.width, _orientation(picture))
        mode, transform = picture.mode, _transform(picture.info.get("icc_profile"), picture.mode)
    with GATE.holding(frame.height * frame.width, limits.max_pixels_at_once):
        pixels, is_whole = None, layout.has_end
        if mode == "RGB" or (mode == "L" and transform is None):
            pixels = jpeg.pixels_of(whole, frame)
        elif not layout.has_end:
            is_whole = jpeg.is_whole(whole, frame, mode)
        if pixels is not None:
            if transform is not None:
                for top, bottom in bands(*pixels.shape[:2]):
                    pixels[top:bottom] = transform.of_array(pixels[top:bottom])
            return pixels
    # With an end mark that is not its own, Pillow would show a truncated picture.
    return _by_pillow(whole if is_whole else data, "JPEG", limits)


def _webp(data: bytes, limits: ImageLimits) -> Pixels:
    canvas = webp.canvas(data)
    if canvas is not None:
        # Pillow makes the decoder, and libwebp two canvases, before telling the size.
        _check_size(canvas.width, canvas.height, limits)
    if canvas is None or canvas.is_animated:
        return _by_pillow(data, "WEBP", limits)
    with _opened(data, "WEBP") as picture:
        orientation, transform = _orientation(picture), _transform(_profile(picture), "RGB")
    del picture  # and its canvases
    frame = Frame(canvas.height, canvas.width, orientation)
    with GATE.holding(frame.height * frame.width, limits.max_pixels_at_once):
        stored = webp.still(data, canvas)
        return frame.written(lambda top, bottom: _srgb(stored.rows(top, bottom), transform))


def _by_pillow(
    data: bytes,
    name: str,
    limits: ImageLimits,
    profile: bytes | None = None,
    key: png.Key | None = None,
) -> Pixels:
    """The upright pixels of a picture that Pillow decodes.

    Args:
        data: The encoded picture.
        name: Its format, as Pillow calls it.
        limits: For its header.
        profile: The ICC profile, where Pillow is not to look for it.
        key: The colour that is transparent, where Pillow is not to look for it.
    """
    with _opened(data, name) as picture:
        _check_size(picture.width, picture.height, limits)
        if name == "TIFF":
            _check_tiff(picture, len(data))
        with GATE.holding(picture.width * picture.height, limits.max_pixels_at_once):
            picture.load()
            if name == "PNG" and _ends_blank(picture) and png.lacks_rows(data):
                raise ImageError(
                    "the picture is damaged or truncated: some of its rows are not there"
                )
            # Some formats tell only now, and a TIFF is turned by now.
            frame = Frame(picture.height, picture.width, _orientation(picture))
            transform = _transform(profile or _profile(picture), picture.mode)

            def rows(top: int, bottom: int) -> Image.Image:
                band = picture.crop((0, top, picture.width, bottom))
                return _srgb(_eight_bits(band, key), transform)

            return frame.written(rows)


def _ends_blank(picture: Image.Image) -> bool:
    """Whether a row is all zeros that is stored last: the last one, or if interlaced the last odd.

    Those that a PNG lacks are. To inflate it once more takes up to a third of the time of decoding,
    so others are spared it.
    """
    width, height = picture.size
    ends = (picture.crop((0, row, width, row + 1)) for row in (height - 2, height - 1))
    return any(not np.asarray(end).any() for end in ends)


def _eight_bits(band: Image.Image, key: png.Key | None) -> Image.Image:
    """Rows of 16 bits as of 8, and with an alpha channel where one colour is transparent."""
    samples = np.asarray(band) if band.mode in _SIXTEEN_BITS else None
    if samples is not None:
        # Pillow clips 16-bit grey to 8 bits when converting; scale it instead.
        band = Image.fromarray((samples.clip(0, 0xFFFF) >> 8).astype(np.uint8))
    if key is not None:
        band = band.convert("L") if band.mode == "1" else band
        alpha = key.alpha(np.asarray(band) if samples is None else samples)
        band.putalpha(Image.fromarray(alpha))
    return band


def _srgb(band: Image.Image, transform: ToSrgb | None) -> Image.Image:
    """Rows in any mode of 8 bits as RGB, or RGBA where they have transparent parts."""
    rgba = band.convert("RGBA") if band.has_transparency_data else None
    if transform is None:
        return rgba or band.convert("RGB")
    if rgba is None:
        return transform(band.convert(transform.mode))
    # By way of RGBA: what is transparent in a palette keeps its colour.
    converted = transform(rgba.convert("RGB").convert(transform.mode))
    converted.putalpha(rgba.getchannel("A"))
    return converted


def _profile(picture: Image.Image) -> bytes | None:
    profile = picture.info.get("icc_profile")
    return profile if isinstance(profile, bytes) else None


def _transform(profile: bytes | None, mode: str) -> ToSrgb | None:
    """What a profile asks for; None where it is not one for pictures of this mode."""
    transform = to_srgb(profile) if profile else None
    if transform is None:
        return None
    takes = "L" if mode in _GREY_MODES else "CMYK" if mode == "CMYK" else "RGB"
    return transform if transform.mode == takes else None


def _orientation(picture: Image.Image) -> int:
    """How a picture is to be turned, by its EXIF; 1, as it is stored, where that is damaged.

    Each number in it costs Pillow some microseconds, so one that is too long is not looked at.
    """
    if len(picture.info.get("exif") or b"") > png.MAX_METADATA_BYTES:
        return 1
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:
        # A whole picture is not refused for its metadata, whatever Pillow finds wrong with them.
        return 1


def _check_tiff(picture: Image.Image, size: int) -> None:
    """Raises ImageError where a TIFF could take more than its pixels account for.

    Args:
        picture: Its header.
        size: Bytes of the file.
    """
    compression = picture.info.get("compression", "raw")
    if compression not in _TIFF_COMPRESSIONS:
        raise ImageError(
            f"the picture is a TIFF compressed as {compression}: save it as PNG or JPEG"
        )
    tags: dict[int, Any] = picture.tag_v2  # type: ignore[attr-defined]
    tile = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))
    if tile > max(_MAX_TILE_PIXELS, picture.width * picture.height):
        raise ImageError("the picture is a TIFF of too large tiles: save it as PNG or JPEG")
    pieces: list[ImageFile._Tile] = picture.tile  # type: ignore[attr-defined]
    boxes = (piece.extents for piece in pieces if piece.extents)
    areas = ((right - left) * (low - top) for left, top, right, low in boxes)
    is_over = sum(areas) > _MAX_PLANES * picture.width * picture.height
    lengths = (tags.get(tag, 0) for tag in _BYTE_COUNTS)
    length = sum(sum(each) if isinstance(each, tuple) else each for each in lengths)
    if is_over or (compression != "raw" and length > size):
        raise ImageError("the picture is a TIFF of overlapping strips: save it as PNG or JPEG")


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


def _is_out_of_memory(error: Exception) -> bool:
    """Whether the system or OpenCV had no memory to give, of which a picture is not at fault."""
    if isinstance(error, cv2.error):
        # Its attributes belong to the class, and so to whichever thread failed last.
        return f"({cv2.Error.StsNoMem}:" in str(error)
    return isinstance(error, OSError) and error.errno == errno.ENOMEM


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
