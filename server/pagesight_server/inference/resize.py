"""Resizing to the size that an encoder takes, as its manifest names it.

    manifest ──> library, interpolation ─┬─ opencv ───────────> OpenCV
                                         ├─ pillow, bilinear ─> cykooz.resizer, or Pillow without it
                                         └─ pillow, others ───> Pillow

`cykooz.resizer` computes what Pillow's antialiased bilinear resizing does, with SIMD, for a third
of the CPU time; values are rounded otherwise now and then, by one level (docs/decisions/0030). It
copies what it is given, twice under the GIL, so it is given bands of rows: they stay in a core's
own cache, and a large picture is never there three times. As one of the two resizes rows first and
the other columns, filters with negative weights would round further apart: they are left to Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import PIL
from PIL import Image

from pagesight_server.common.arrays import Pixels

try:
    import cykooz_resizer as cykooz
except ImportError:  # there is no wheel for this machine
    cykooz = None

Resize: TypeAlias = Callable[[Pixels, int, int], Pixels]
"""Resizes a picture to a height and a width in pixels; safe to call from any thread."""

_OPENCV = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
_PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

BAND_PIXELS = 256 * 1024
"""Pixels of a band, 768 KB: of fewer, the rows that two bands share begin to cost; of many more,
the copies leave a core's own cache, and are memory that the system maps anew each time."""


class Resizing(NamedTuple):
    """A way of resizing."""

    resize: Resize
    library: str
    """The library that does it, with its version."""


def resizing(how: Mapping[str, Any] | None) -> Resizing | None:
    """The resizing that a manifest names; None where this server has no such.

    Args:
        how: The manifest's `preprocessing.resize`.
    """
    library, interpolation = (how or {}).get("library"), str((how or {}).get("interpolation"))
    if library == "opencv" and interpolation in _OPENCV:
        return Resizing(opencv(interpolation), f"OpenCV {cv2.__version__}")
    if library == "pillow" and interpolation == "bilinear" and cykooz is not None:
        return Resizing(bilinear, _cykooz_version())
    if library == "pillow" and interpolation in _PILLOW:
        return Resizing(pillow(interpolation), f"Pillow {PIL.__version__}")
    return None


def opencv(interpolation: str) -> Resize:
    """OpenCV's resizing.

    Args:
        interpolation: "area", "linear" or "cubic".
    """
    flag = _OPENCV[interpolation]
    return lambda picture, height, width: np.asarray(
        cv2.resize(picture, (width, height), interpolation=flag), dtype=np.uint8
    )


def pillow(interpolation: str) -> Resize:
    """Pillow's resizing, antialiased.

    Args:
        interpolation: "bilinear", "bicubic" or "lanczos".
    """
    kernel = _PILLOW[interpolation]
    return lambda picture, height, width: np.asarray(
        Image.fromarray(picture).resize((width, height), kernel), dtype=np.uint8
    )


def bilinear(picture: Pixels, height: int, width: int) -> Pixels:
    """What `pillow("bilinear")` gives but for rounding, by `cykooz.resizer`.

    Args:
        picture: Height x width x 3.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
    """
    algorithm = cykooz.ResizeAlg.convolution(cykooz.FilterType.bilinear)
    rgb = cykooz.PixelType.U8x3
    # One of this call's own: a resizer that threads share lets one at a time through.
    resizer = cykooz.Resizer()
    resized: Pixels = np.empty((height, width, 3), np.uint8)
    whole_height, whole_width = picture.shape[:2]
    for band in _bands(whole_height, whole_width, height):
        rows = picture[band.first : band.last]
        box = cykooz.CropBox(0, band.crop_top, whole_width, band.crop_height)
        source = cykooz.ImageData(whole_width, len(rows), rgb, rows.tobytes())
        target = cykooz.ImageData(width, band.bottom - band.top, rgb)
        resizer.resize(source, target, cykooz.ResizeOptions(algorithm, False, box))
        pixels = np.frombuffer(target.get_buffer(), np.uint8)
        resized[band.top : band.bottom] = pixels.reshape(-1, width, 3)
    return resized


class _Band(NamedTuple):
    """Rows of a result, and those of the picture that they are made of."""

    top: int
    bottom: int
    """Rows of the result, bottom exclusive."""
    first: int
    last: int
    """Rows of the picture within the filter's reach, last exclusive."""
    crop_top: float
    crop_height: float
    """The rows of the picture that become those of the result, counted from `first`."""


def _bands(whole_height: int, whole_width: int, height: int) -> Iterator[_Band]:
    """The bands in which a picture is resized to a height."""
    scale = whole_height / height
    reach = max(1.0, scale)
    step = max(1, int(BAND_PIXELS / (whole_width * scale)))
    for top in range(0, height, step):
        bottom = min(height, top + step)
        # Multiplied first: the last row of the result ends at the last of the picture exactly.
        start, end = top * whole_height / height, bottom * whole_height / height
        first = max(0, math.floor(start + scale / 2 - reach))
        last = min(whole_height, math.ceil(end - scale / 2 + reach))
        crop_top = start - first
        yield _Band(top, bottom, first, last, crop_top, end - first - crop_top)


def _cykooz_version() -> str:
    """The version of `cykooz.resizer`, and the processor's instructions that it uses here."""
    instructions = cykooz.Resizer().cpu_extensions.name
    return f"cykooz.resizer {version('cykooz-resizer')}, {instructions}"
