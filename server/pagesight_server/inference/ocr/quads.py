"""Probability map to quads around lines of text: the library's, at a fraction of its CPU time.

    probability -> mask -> contours -> rectangles ─┬─ upright, of high mean: grown ─┬─> scaled
                                                   └─ tilted, of high mean: grown ──┘

The network draws lines too thin, so quads grow. The library grows each as a polygon with round
corners and takes the smallest quad around that. Of an upright quad that is the quad with each side
moved out, which takes no polygon, and what its mean is of is a slice, which takes no mask; on
screenshots nearly all are upright, and a few numbers each. Tilted ones are grown by `pyclipper`, as
in the library (docs/decisions/0021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

Quads: TypeAlias = NDArray[np.float32]
"""Quadrilaterals x 4 corners x 2, x before y; corners from top left, clockwise."""

Rectangle: TypeAlias = tuple[tuple[float, float], tuple[float, float], float]
"""Centre, sides and angle in degrees, as OpenCV has them."""

Sides: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom of an upright rectangle, in pixels."""

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
    """

    def __init__(
        self,
        *,
        thresh: float,
        box_thresh: float,
        max_candidates: int,
        unclip_ratio: float,
        use_dilation: bool,
    ) -> None:
        self._thresh = thresh
        self._box_thresh = box_thresh
        self._max_candidates = max_candidates
        self._unclip_ratio = unclip_ratio
        self._kernel = np.ones((2, 2), np.uint8) if use_dilation else None

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
        boxes: list[Sides] = []
        tilted: list[Rectangle] = []
        for contour in contours[: self._max_candidates]:
            rectangle: Rectangle = cv2.minAreaRect(contour)
            if min(rectangle[1]) < _MIN_SIDE_PX:
                continue
            box = _upright(rectangle)
            if box is None:
                tilted.append(rectangle)
            elif self._is_text(probability, box) and (grown := self._grown(box)) is not None:
                boxes.append(grown)
        left, top, right, bottom = np.array(boxes, np.float32).reshape(-1, 4).T
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        quads: Quads = np.moveaxis(corners, 2, 0)
        if tilted:
            quads = np.concatenate((quads, self._grown_tilted(probability, tilted)))
        canvas_px = np.array(probability.shape[::-1], np.float32)
        picture_px = np.array((width_px, height_px), np.float32)
        quads = np.clip(np.round(quads / canvas_px * picture_px), 0, picture_px - 1)
        if tilted:  # rounded, two corners may have changed places
            quads[len(boxes) :] = _clockwise(quads[len(boxes) :])
        across = np.linalg.norm(quads[:, 0] - quads[:, 1], axis=1)
        down = np.linalg.norm(quads[:, 0] - quads[:, 3], axis=1)
        found: Quads = quads[np.minimum(across, down) >= _MIN_GROWN_PX + 1]
        return found

    def _is_text(self, probability: NDArray[np.float32], box: Sides) -> bool:
        """Whether the mean probability of a box's pixels, the last ones included, is enough."""
        left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
        right, bottom = left + int(box[2] - left), top + int(box[3] - top)
        inside = probability[top : bottom + 1, left : right + 1]
        return bool(cv2.mean(inside)[0] >= self._box_thresh)

    def _grown(self, box: Sides) -> Sides | None:
        """A box with each side moved out; None where it is too small even so."""
        across, down = box[2] - box[0], box[3] - box[1]
        distance = self._unclip_ratio * (across * down) / (2 * (across + down))
        # The library's polygons have whole coordinates, cut off.
        left, top = _rounded(int(box[0]) - distance), _rounded(int(box[1]) - distance)
        right, bottom = _rounded(int(box[2]) + distance), _rounded(int(box[3]) + distance)
        large = min(right - left, bottom - top) >= _MIN_SIDE_PX + 2
        return (left, top, right, bottom) if large else None

    def _grown_tilted(
        self, probability: NDArray[np.float32], rectangles: Sequence[Rectangle]
    ) -> Quads:
        """The smallest quads around those of high mean that are grown."""
        quads = _corners(rectangles)
        quads = quads[_means(probability, quads) >= self._box_thresh]
        around = [
            cv2.minAreaRect(
                _grown_round(
                    quad, self._unclip_ratio * cv2.contourArea(quad) / cv2.arcLength(quad, True)
                )
            )
            for quad in quads
        ]
        return _corners([one for one in around if min(one[1]) >= _MIN_SIDE_PX + 2])


def _upright(rectangle: Rectangle) -> Sides | None:
    """The sides of an upright rectangle; None of others."""
    if rectangle[2] % 90 != 0:
        return None
    (x, y), _, (opposite_x, opposite_y), _ = cv2.boxPoints(rectangle).tolist()
    return min(x, opposite_x), min(y, opposite_y), max(x, opposite_x), max(y, opposite_y)


def _grown_round(quad: NDArray[np.float32], distance_px: float) -> NDArray[np.int64]:
    """The polygon with round corners around one quad, points x 1 x 2, as the library grows it."""
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(quad, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return np.array(offset.Execute(distance_px), np.int64).reshape(-1, 1, 2)


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


def _corners(rectangles: Sequence[Rectangle]) -> Quads:
    """The corners of rectangles."""
    corners = [cv2.boxPoints(one) for one in rectangles]
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


def _means(probability: NDArray[np.float32], quads: Quads) -> NDArray[np.float64]:
    """The mean probability in each quad."""
    last = np.array(probability.shape[::-1], np.float32) - 1
    low = np.clip(np.floor(quads.min(axis=1)), 0, last)
    high = np.clip(np.ceil(quads.max(axis=1)), 0, last)
    inside = (quads - low[:, None]).astype(np.int32)
    bounds = np.concatenate((low, high + 1), axis=1).astype(int).tolist()
    means = np.empty(len(quads))
    for number, (left, top, right, bottom) in enumerate(bounds):
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [inside[number]], 1)
        means[number] = cv2.mean(probability[top:bottom, left:right], mask)[0]
    return means


def _rounded(value: float) -> int:
    """Rounded to a whole number, halves away from 0 as the library's polygons are."""
    return int(value + math.copysign(0.5, value))
