"""Preprocessing of NaFlex encoders: patches of a grid that keeps the aspect ratio of a picture.

    picture -> grid of its aspect ratio -> resized to whole patches -> patches -> padded, masked

Every number comes from the bundle's manifest; the steps are those of the source model's
processor, without its libraries (tests/export/test_siglip2_server.py holds them together): to the
byte but for how the resizing rounds, mostly by one level (`resize.py`). Every picture has
`max_num_patches` patches, as in training: a GPU then meets one shape only, and a grid rarely leaves
more than a tenth of them empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.bundle import Tensors
from pagesight_server.inference.resize import Resize

_SCALE_STEP = 1e-5
_SCALE_MAX = 100.0
"""Precision and upper end of the bisection, as in the source processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naflex:
    """Prepares pictures of any size as inputs of a NaFlex encoder."""

    patch_size: int
    """Side of a patch in pixels."""
    max_num_patches: int
    """Patches per picture, padding included."""
    resize: Resize

    @classmethod
    def from_manifest(cls, geometry: Mapping[str, Any], resize: Resize) -> Naflex:
        """Reads the manifest's `input`.

        Raises:
            KeyError: it lacks a number.
        """
        return cls(
            patch_size=int(geometry["patch_size"]),
            max_num_patches=int(geometry["max_num_patches"]),
            resize=resize,
        )

    def __call__(self, pictures: Sequence[Pixels]) -> Tensors:
        """Prepares a batch.

        Args:
            pictures: At least one, each height x width x 3, RGB.

        Returns:
            `patches` uint8 (pictures, max_num_patches, patch_size * patch_size * 3), each patch
            row by row and RGB within, zeros beyond the picture's own; `mask` bool (pictures,
            max_num_patches), true where a patch is the picture's; `shapes` int64 (pictures, 2),
            rows and columns of its grid.
        """
        side, limit = self.patch_size, self.max_num_patches
        patches = np.empty((len(pictures), limit, side * side * 3), dtype=np.uint8)
        mask = np.zeros((len(pictures), limit), dtype=np.bool_)
        shapes = np.empty((len(pictures), 2), dtype=np.int64)
        for number, picture in enumerate(pictures):
            rows, columns = grid(
                picture.shape[0], picture.shape[1], patch_size=side, max_num_patches=limit
            )
            pixels = self.resize(picture, rows * side, columns * side)
            own = rows * columns
            blocks = patches[number, :own].reshape(rows, columns, side, side, 3)
            blocks[...] = pixels.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
            patches[number, own:] = 0
            mask[number, :own] = True
            shapes[number] = rows, columns
        return {"patches": patches, "mask": mask, "shapes": shapes}


@lru_cache(maxsize=1024)
def grid(height: int, width: int, *, patch_size: int, max_num_patches: int) -> tuple[int, int]:
    """Rows and columns of patches that a picture becomes.

    The largest scale at which both sides, rounded up to whole patches, give at most
    `max_num_patches`. The scale is bisected, step for step as the source processor does
    (`get_image_size_for_max_num_patches` in transformers): near a boundary the answer is that
    of its rounding, which no formula gives.

    Args:
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        patch_size: Side of a patch in pixels.
        max_num_patches: At most so many patches.
    """

    def patches(side: int, scale: float) -> int:
        return max(1, math.ceil(side * scale / patch_size))

    low, high = _SCALE_STEP / 10, _SCALE_MAX
    while high - low >= _SCALE_STEP:
        scale = (low + high) / 2
        if patches(height, scale) * patches(width, scale) <= max_num_patches:
            low = scale
        else:
            high = scale
    return patches(height, low), patches(width, low)
