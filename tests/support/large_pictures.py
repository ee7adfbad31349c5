"""The largest pictures of every format, each in a few bytes: what a hostile caller would send."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.support.colours import DISPLAY_P3

TURNED = Image.Exif()
TURNED[274] = 6


def _of(mode: str, kind: str, **options: Any) -> Callable[[int, int], bytes]:
    def make(side_px: int, shade: int) -> bytes:
        bands = len(Image.new(mode, (1, 1)).getbands())
        colour = (shade, *(0,) * (bands - 1)) if bands > 1 else shade % (2 if mode == "1" else 256)
        picture = Image.new(mode, (side_px, side_px), colour)
        # Not all alike, or a decoder might do with less than it can need.
        picture.paste(0, (0, 0, side_px // 2, side_px // 3))
        frames = {"append_images": [picture.rotate(180)]} if options.get("save_all") else {}
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options, **frames)
        return buffer.getvalue()

    return make


def _half_transparent(side_px: int, shade: int) -> bytes:
    alpha = np.full((side_px, side_px), 128, np.uint8)
    alpha[::7] = 255
    picture = Image.new("RGB", (side_px, side_px), (shade, 9, 9))
    picture.putalpha(Image.fromarray(alpha))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


KINDS: dict[str, Callable[[int, int], bytes]] = {
    "PNG": _of("RGB", "PNG"),
    "PNG with alpha": _of("RGBA", "PNG"),
    "PNG, half transparent": _half_transparent,
    "PNG of a palette, one colour transparent": _of("P", "PNG", transparency=0),
    "PNG of 16-bit grey": _of("I;16", "PNG"),
    "PNG in black and white": _of("1", "PNG"),
    "PNG to be turned": _of("RGB", "PNG", exif=TURNED),
    "PNG in Display P3": _of("RGB", "PNG", icc_profile=DISPLAY_P3),
    "JPEG": _of("RGB", "JPEG"),
    "JPEG, progressive": _of("RGB", "JPEG", progressive=True),
    "JPEG, grey": _of("L", "JPEG"),
    "JPEG, CMYK": _of("CMYK", "JPEG"),
    "JPEG to be turned": _of("RGB", "JPEG", exif=TURNED),
    "JPEG in Display P3": _of("RGB", "JPEG", icc_profile=DISPLAY_P3),
    "WebP": _of("RGB", "WEBP", method=0),
    "WebP, lossless": _of("RGB", "WEBP", lossless=True, method=0),
    "WebP with alpha": _of("RGBA", "WEBP", method=0),
    "WebP with alpha, lossless": _of("RGBA", "WEBP", lossless=True, method=0),
    "WebP with alpha, animated": _of("RGBA", "WEBP", method=0, save_all=True),
    "GIF": _of("P", "GIF"),
    "BMP": _of("1", "BMP"),
    "TIFF": _of("RGB", "TIFF", compression="tiff_lzw"),
    "TIFF with alpha, to be turned": _of("RGBA", "TIFF", compression="tiff_lzw", exif=TURNED),
    "AVIF with alpha": _of("RGBA", "AVIF", speed=10),
}
"""Makes a picture of so many pixels a side; another number gives other bytes."""
