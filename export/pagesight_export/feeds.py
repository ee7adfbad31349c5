"""Preprocessing: decoded pictures to a graph's inputs, as a bundle's manifest says.

    fixed    picture ─ resize ─> pixels [N,H,W,3]
    naflex   picture ─ grid ─ resize ─ patches ─ padding ─> patches [N,P,D], mask, shapes

The server has its own of this, since the two share files and not code; docs/bundles.md is what
both follow, and a test holds them to the same bytes. Parity is measured through here, so a
resize or a grid that differs from the source framework's shows up as lost cosine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from pagesight_export.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pagesight_export.golden import Picture
    from pagesight_export.runtime import Tensors

_OPENCV = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
_PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_SCALE_STEP = 1e-5
"""Where the source processor's search for a scale stops (`get_image_size_for_max_num_patches`)."""


def prepare(
    geometry: Mapping[str, Any], preprocessing: Mapping[str, Any], pictures: Sequence[Picture]
) -> Tensors:
    """Make one batch of inputs.

    Args:
        geometry: The manifest's `input`.
        preprocessing: The manifest's `preprocessing`.
        pictures: RGB uint8, each height x width x 3.

    Raises:
        BundleError: the geometry or the resize is none that the format knows.
    """
    resize = preprocessing.get("resize", {})
    if geometry.get("geometry") == "fixed":
        height, width = int(geometry["height"]), int(geometry["width"])
        return {"pixels": np.stack([_resize(p, height, width, resize) for p in pictures])}
    if geometry.get("geometry") == "naflex":
        return _naflex(geometry, resize, pictures)
    raise BundleError(f"an encoder's geometry is fixed or naflex, not {geometry.get('geometry')!r}")


def grid(height: int, width: int, *, patch_size: int, max_num_patches: int) -> tuple[int, int]:
    """Return the rows and columns of patches that a picture of this size becomes.

    The largest common scale at which both sides, rounded up to whole patches, give at most
    `max_num_patches`; found by the source processor's own bisection, because its result near a
    boundary is that of its rounding.
    """

    def patches(side: int, scale: float) -> int:
        return max(1, math.ceil(side * scale / patch_size))

    low, high = _SCALE_STEP / 10, 100.0
    while high - low >= _SCALE_STEP:
        scale = (low + high) / 2
        if patches(height, scale) * patches(width, scale) <= max_num_patches:
            low = scale
        else:
            high = scale
    return patches(height, low), patches(width, low)


def _naflex(
    geometry: Mapping[str, Any], resize: Mapping[str, Any], pictures: Sequence[Picture]
) -> Tensors:
    size, limit = int(geometry["patch_size"]), int(geometry["max_num_patches"])
    patches = np.zeros((len(pictures), limit, size * size * 3), dtype=np.uint8)
    mask = np.zeros((len(pictures), limit), dtype=np.bool_)
    shapes = np.empty((len(pictures), 2), dtype=np.int64)
    for number, picture in enumerate(pictures):
        rows, columns = grid(*picture.shape[:2], patch_size=size, max_num_patches=limit)
        pixels = _resize(picture, rows * size, columns * size, resize)
        blocks = pixels.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
        patches[number, : rows * columns] = blocks.reshape(rows * columns, -1)
        mask[number, : rows * columns] = True
        shapes[number] = rows, columns
    return {"patches": patches, "mask": mask, "shapes": shapes}


def _resize(
    picture: Picture, height: int, width: int, resize: Mapping[str, Any]
) -> NDArray[np.uint8]:
    library, interpolation = resize.get("library"), str(resize.get("interpolation"))
    if library == "opencv" and interpolation in _OPENCV:
        resized = cv2.resize(picture, (width, height), interpolation=_OPENCV[interpolation])
        return np.asarray(resized, dtype=np.uint8)
    if library == "pillow" and interpolation in _PILLOW:
        image = Image.fromarray(picture).resize((width, height), _PILLOW[interpolation])
        return np.asarray(image, dtype=np.uint8)
    raise BundleError(f"no bundle resizes with {library} {interpolation}: see docs/bundles.md")
