"""Probability map to quads around lines of text: the library's, at a fraction of its CPU time.

    probability -> mask -> contours -> smallest quads -> of those with a high mean: grown -> scaled

The network draws lines too thin, so quads grow. The library grows each as a polygon with round
corners and takes the smallest quad around that. Of an upright quad that is the quad with each side
moved out, which needs no polygon; on screenshots nearly all are upright. Tilted ones are grown by
the library. What the library does line by line in Python is done for all at once, with the GIL
released where arrays are large (docs/decisions/0021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Quads: TypeAlias = NDArray[np.float32]
"""Quadrilaterals x 4 corners x 2, x before y; corners from top left, clockwise."""

Grow: TypeAlias = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Grows one quadrilateral, 4 corners x 2, to a polygon of any number of points."""

_MIN_SIDE_PX = 3
"""Shortest side on the map, in pixels, and two more when grown."""
_MIN_GROWN_PX = 3
"""Sides up to this, on the picture, hold no text."""


class QuadFinder:
    """Finds lines of text in probability maps; safe to call from many threads.

    Args:
        thresh: Probability above which a pixel is of text, 0 to 1.
        box_thresh: Least mean probability of a quad, 0 to 1.
        max_candidates: Contours looked at.
        unclip_ratio: How far quads grow, as a multiple of area / perimeter.
        use_dilation: Whether text reaches one pixel further down and to the right.
        grow: Grows a tilted quad, as the library does.
    """

    def __init__(
        self,
        *,
        thresh: float,
        box_thresh: float,
        max_candidates: int,
        unclip_ratio: float,
        use_dilation: bool,
        grow: Grow,
    ) -> None:
        self._thresh = thresh
        self._box_thresh = box_thresh
        self._max_candidates = max_candidates
        self._unclip_ratio = unclip_ratio
        self._kernel = np.ones((2, 2), np.uint8) if use_dilation else None
        self._grow = grow

    def __call__(self, probability: NDArray[np.float32], height_px: int, width_px: int) -> Quads:
        """Finds the quads of a map, in the coordinates of the picture; none where it has no text.

        Args:
            probability: Height x width of the canvas, 0 to 1.
            height_px: Height of the picture.
            width_px: Width of the picture.
        """
        mask: NDArray[Any] = (probability > self._thresh).view(np.uint8)
        if self._kernel is not None:
            mask = cv2.dilate(mask, self._kernel)
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        quads = _smallest(contours[: self._max_candidates], _MIN_SIDE_PX)
        quads = quads[np.array(_means(probability, quads)) >= self._box_thresh]
        quads = self._grown(quads)
        canvas_px = np.array(probability.shape[::-1], np.float32)
        picture_px = np.array((width_px, height_px), np.float32)
        quads = np.clip(np.round(quads / canvas_px * picture_px), 0, picture_px - 1)
        quads = _clockwise(quads)
        across = np.linalg.norm(quads[:, 0] - quads[:, 1], axis=1)
        down = np.linalg.norm(quads[:, 0] - quads[:, 3], axis=1)
        found: Quads = quads[np.minimum(across, down) >= _MIN_GROWN_PX + 1]
        return found

    def _grown(self, quads: Quads) -> Quads:
        """The smallest quads around those grown; without what is too small even so."""
        distances = self._unclip_ratio * _area(quads) / _perimeter(quads)
        # The library's polygons have whole coordinates, cut off.
        corners = np.trunc(quads)
        upright = is_upright(corners)
        low = _rounded(corners[upright].min(axis=1) - distances[upright, None])
        high = _rounded(corners[upright].max(axis=1) + distances[upright, None])
        large = np.min(high - low, axis=1) >= _MIN_SIDE_PX + 2
        (left, top), (right, bottom) = low[large].T, high[large].T
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        tilted = [np.asarray(self._grow(quad)).reshape(-1, 1, 2) for quad in quads[~upright]]
        grown = np.moveaxis(corners, 2, 0).astype(np.float32)
        return np.concatenate((grown, _smallest(tilted, _MIN_SIDE_PX + 2)))


def is_upright(quads: Quads) -> NDArray[np.bool_]:
    """Which quads have sides along those of the picture.

    Args:
        quads: Corners from top left, clockwise.
    """
    (top_left, top_right, bottom_right, bottom_left) = np.moveaxis(quads, 1, 0)
    upright: NDArray[np.bool_] = (
        (top_left[:, 0] == bottom_left[:, 0])
        & (top_right[:, 0] == bottom_right[:, 0])
        & (top_left[:, 1] == top_right[:, 1])
        & (bottom_left[:, 1] == bottom_right[:, 1])
    )
    return upright


def _smallest(polygons: Sequence[NDArray[Any]], least_px: int) -> Quads:
    """The smallest quads around polygons, without those that have a side below `least_px`."""
    rectangles = [cv2.minAreaRect(polygon) for polygon in polygons]
    corners = [cv2.boxPoints(one) for one in rectangles if min(one[1]) >= least_px]
    return _clockwise(np.array(corners, np.float32).reshape(-1, 4, 2))


def _clockwise(quads: Quads) -> Quads:
    """The same quads with their corners in order, the upper one of the two at the left first."""
    by_x = np.argsort(quads[:, :, 0], axis=1, kind="stable")
    quads = np.take_along_axis(quads, by_x[:, :, None], axis=1)
    down = quads[:, :, 1]
    top_left = (down[:, 1] < down[:, 0]).astype(np.intp)
    top_right = 2 + (down[:, 3] < down[:, 2]).astype(np.intp)
    order = np.stack((top_left, top_right, 5 - top_right, 1 - top_left), axis=1)
    return np.take_along_axis(quads, order[:, :, None], axis=1)


def _means(probability: NDArray[np.float32], quads: Quads) -> list[float]:
    """The mean probability in each quad."""
    last = np.array(probability.shape[::-1], np.float32) - 1
    low = np.clip(np.floor(quads.min(axis=1)), 0, last)
    high = np.clip(np.ceil(quads.max(axis=1)), 0, last)
    inside = (quads - low[:, None]).astype(np.int32)
    # An upright quad is filled from its first to its last pixel: those are a slice, without a mask.
    upright = is_upright(inside)
    low[upright] += inside[upright].min(axis=1)
    high[upright] = low[upright] + np.ptp(inside[upright], axis=1)
    bounds = np.concatenate((low, high + 1), axis=1).astype(int).tolist()
    means = list[float]()
    for number, (is_whole, (left, top, right, bottom)) in enumerate(
        zip(upright.tolist(), bounds, strict=True)
    ):
        mask = None
        if not is_whole:
            mask = np.zeros((bottom - top, right - left), np.uint8)
            cv2.fillPoly(mask, [inside[number]], 1)
        means.append(cv2.mean(probability[top:bottom, left:right], mask)[0])
    return means


def _area(quads: Quads) -> NDArray[np.float64]:
    """Area of each quad in square pixels."""
    x, y = np.moveaxis(quads.astype(np.float64), 2, 0)
    area: NDArray[np.float64] = np.abs(
        (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1) / 2
    )
    return area


def _perimeter(quads: Quads) -> NDArray[np.float64]:
    """Perimeter of each quad in pixels."""
    sides = np.diff(quads.astype(np.float64), axis=1, append=quads[:, :1])
    perimeter: NDArray[np.float64] = np.hypot(sides[:, :, 0], sides[:, :, 1]).sum(axis=1)
    return perimeter


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounded to whole numbers, halves away from 0 as the library's polygons are."""
    rounded: NDArray[np.float64] = np.trunc(values + np.copysign(0.5, values))
    return rounded
