"""WebP: the size of a file before anything is decoded, and the pixels of still ones.

    bytes ──first chunk──> canvas, animated?
    still ──> OpenCV's libwebp: the pixels, once      animated ──> Pillow: its two canvases as well

Pillow decodes every WebP as an animation, with two canvases and two copies of the first frame, 16
bytes a pixel; libwebp alone needs 4 for a lossless picture, beside what it gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import ImageError

_ANIMATION = 0x02
"""The bit of a VP8X chunk's flags that says so (RFC 9649, 2.7.1)."""


class Canvas(NamedTuple):
    """What the first chunk of a WebP says."""

    width: int
    height: int
    is_animated: bool


def canvas(data: bytes) -> Canvas | None:
    """Size and kind of a WebP picture, from its first chunk; None for any other file.

    Layout: RFC 9649, sections 2.5 to 2.7.
    """
    head = data[:30].ljust(30, b"\0")
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8X":
            animated = bool(head[20] & _ANIMATION)
            return Canvas(_uint(head[24:27]) + 1, _uint(head[27:30]) + 1, animated)
        case b"VP8L":
            sides = _uint(head[21:25])
            return Canvas((sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1, False)
        case b"VP8 ":
            return Canvas(_uint(head[26:28]) & 0x3FFF, _uint(head[28:30]) & 0x3FFF, False)
        case _:
            return None


def _uint(data: bytes) -> int:
    """Reads a little-endian unsigned integer."""
    return int.from_bytes(data, "little")


@dataclass(frozen=True, slots=True)
class Still:
    """The pixels of a still WebP, as OpenCV has them: BGR, or BGR and alpha."""

    _stored: Pixels

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Returns rows as RGB or RGBA."""
        has_alpha = self._stored.shape[2] == 4
        order = cv2.COLOR_BGRA2RGBA if has_alpha else cv2.COLOR_BGR2RGB
        return Image.fromarray(cv2.cvtColor(self._stored[top:bottom], order))


def still(data: bytes, size: Canvas) -> Still:
    """Decodes a WebP that is not animated.

    Args:
        data: The encoded picture.
        size: What its first chunk says; checked, and compared with what is decoded.

    Raises:
        ImageError: it is damaged or truncated.
    """
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.shape[:2] != (size.height, size.width):
        raise ImageError("the picture is damaged or truncated: libwebp cannot decode it")
    return Still(stored)
