"""Smaller copies of pictures, for the store and for reports."""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.bands import BAND_PIXELS
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits


class Thumbnail(NamedTuple):
    """A small JPEG of the upper part of a picture."""

    data: bytes
    width_px: int
    """Width of the original."""
    height_px: int
    """Height of the part of the original that the thumbnail shows."""


def thumbnail_jpeg(
    data: bytes, size_px: tuple[int, int], limits: ImageLimits, *, quality: int
) -> Thumbnail:
    """Scales a picture down to a width and crops what is below the height.

    Args:
        data: The encoded picture.
        size_px: Greatest width and height of the thumbnail.
        limits: Limits of the picture.
        quality: JPEG quality, 1 to 95.

    Raises:
        ImageError: as `decode`.
    """
    pixels = decode(data, limits)
    width, height = size_px
    scale = min(1.0, width / pixels.shape[1])
    small = _scaled(pixels, scale)
    small = small.crop((0, 0, small.width, min(small.height, height)))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True)
    return Thumbnail(buffer.getvalue(), pixels.shape[1], max(1, round(small.height / scale)))


def shrink(data: bytes, max_side_px: int, limits: ImageLimits) -> bytes:
    """A picture no larger than `max_side_px`: the same bytes where it is, else a smaller JPEG.

    Raises:
        ImageError: as `decode`.
    """
    pixels = decode(data, limits)
    longest = max(pixels.shape[:2])
    if longest <= max_side_px:
        return data
    buffer = io.BytesIO()
    _scaled(pixels, max_side_px / longest).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _scaled(pixels: Pixels, scale: float) -> Image.Image:
    """A picture scaled down, at least one pixel each way.

    Pixels are averaged first, in bands, as far as twice the size leaves the filter enough
    (`reducing_gap` of Pillow), so that no second large picture is made.
    """
    height, width = pixels.shape[:2]
    factor = max(1, int(1 / (2 * scale)))
    reduced = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = factor * max(1, BAND_PIXELS // width // factor)
    for top in range(0, height, rows):
        band = Image.fromarray(pixels[top : top + rows]).reduce(factor)
        reduced.paste(band, (0, top // factor))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # The last averages may be of fewer pixels than the others.
    return reduced.resize(
        size, Image.Resampling.LANCZOS, box=(0, 0, width / factor, height / factor)
    )
