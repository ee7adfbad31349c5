"""Smaller copies of pictures, for the store and for reports."""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image

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
    picture = Image.fromarray(decode(data, limits))
    width, height = size_px
    scale = min(1.0, width / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    small = small.crop((0, 0, small.width, min(small.height, height)))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True)
    return Thumbnail(buffer.getvalue(), picture.width, max(1, round(small.height / scale)))


def shrink(data: bytes, max_side_px: int, limits: ImageLimits) -> bytes:
    """A picture no larger than `max_side_px`: the same bytes where it is, else a smaller JPEG.

    Raises:
        ImageError: as `decode`.
    """
    pixels = decode(data, limits)
    if max(pixels.shape[:2]) <= max_side_px:
        return data
    picture = Image.fromarray(pixels)
    picture.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
