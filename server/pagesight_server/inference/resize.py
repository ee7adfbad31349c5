"""Resizing to the size that an encoder takes, as its manifest names it.

    manifest ──> library, interpolation ─┬─ opencv ───────────> OpenCV
                                         ├─ pillow, bilinear ─> cykooz.resizer, or Pillow without it
                                         └─ pillow, others ───> Pillow

`cykooz.resizer` computes what Pillow's antialiased bilinear resizing does, with SIMD, for a fifth
of the CPU time; values are rounded otherwise now and then, by one level (docs/decisions/0030). One
makes the horizontal pass first and the other the vertical one, so that filters with negative
weights would round further apart: they are left to Pillow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    lower = _vertical_pass(picture, height)
    resized: Pixels = cv2.transpose(_vertical_pass(cv2.transpose(lower), width))
    return resized


def _vertical_pass(picture: Pixels, height: int) -> Pixels:
    """A picture resized to a height, its width as it is."""
    resized = np.empty((height, *picture.shape[1:]), np.uint8)
    options = cykooz.ResizeOptions(cykooz.ResizeAlg.convolution(cykooz.FilterType.bilinear))
    # One of this call's own: a resizer that threads share lets one at a time through.
    cykooz.Resizer().resize_pil(_grey(np.ascontiguousarray(picture)), _grey(resized), options)
    return resized


def _grey(pixels: Pixels) -> Image.Image:
    """The memory of an array as Pillow's grey picture, three times as wide: nothing is copied.

    A vertical pass weighs the bytes of one column, whatever they mean.
    """
    height, width, channels = pixels.shape
    return Image.frombuffer("L", (width * channels, height), pixels, "raw", "L", 0, 1)


def _cykooz_version() -> str:
    """The version of `cykooz.resizer`, and the processor's instructions that it uses here."""
    instructions = cykooz.Resizer().cpu_extensions.name
    return f"cykooz.resizer {version('cykooz-resizer')}, {instructions}"
