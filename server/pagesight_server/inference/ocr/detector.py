"""Pixels to text regions, with the geometry of the library. The only importer of `rapidocr`.

    pixels -> within bounds -> canvas -> network -> probability -> quads
                    └──────────────────────────────> crops <──────┘ -> strips of 48 pixels height

Steps, parameters and canvas size are the library's, the graph is the bundle's: its detection
network, or its draft's, which is cheaper (docs/decisions/0019). On a smaller canvas boxes move by a
pixel, and lines are lost with that (0006).
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from rapidocr.ch_ppocr_det.utils import DBPostProcess
from rapidocr.utils.process_img import (
    ResizeImgError,
    apply_vertical_padding,
    get_rotate_crop_image,
    map_boxes_to_original,
    resize_image_within_bounds,
)

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.fixed_shapes import canvas_graph
from pagesight_server.inference.ocr.tiling import Region
from pagesight_server.inference.settings import Compute
from pagesight_server.text.reading import Box

_STEP = 32
"""The network halves its canvas five times."""
_POST = (
    "thresh",
    "box_thresh",
    "max_candidates",
    "unclip_ratio",
    "score_mode",
    "use_dilation",
)

DetectionNetwork: TypeAlias = Literal["detection", "draft_detection"]
"""A network that finds text, by its name in the manifest's `input`."""


class Detector:
    """Finds text; for one thread at a time.

    Args:
        bundle: A bundle of kind `ocr`.
        compute: Where the graph runs.
        network: Which of the bundle's networks finds text.
        max_enlarged_px: Pixels that a small picture is at most enlarged to.

    Raises:
        SetupError: the graph cannot be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        compute: Compute,
        network: DetectionNetwork = "detection",
        *,
        max_enlarged_px: int,
    ) -> None:
        numbers = bundle.manifest["preprocessing"]
        self._picture = numbers["picture"]
        self._detection = numbers["detection"]
        self._max_enlarged_px = max_enlarged_px
        self._strip_height = int(bundle.manifest["input"]["recognition"]["height"])
        self._quads = DBPostProcess(**{key: self._detection[key] for key in _POST})
        path = bundle.file(bundle.manifest["input"][network]["file"])
        self.graph = canvas_graph(path, compute, half=bundle.half)

    def find(self, pixels: Pixels) -> list[Region]:
        """Finds the text regions of a picture; an empty list where there is no text.

        Args:
            pixels: Height x width x 3, RGB.
        """
        height_px, width_px = pixels.shape[:2]
        try:
            picture, ratio_h, ratio_w = resize_image_within_bounds(
                cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR),
                self._picture["min_side_len"],
                self._picture["max_side_len"],
            )
        except ResizeImgError:
            # So thin that less than a pixel of it is left: it cannot hold text.
            return []
        record: dict[str, Any] = {"preprocess": {"ratio_h": ratio_h, "ratio_w": ratio_w}}
        picture, record = apply_vertical_padding(
            picture, record, self._picture["width_height_ratio"], self._picture["min_height"]
        )
        canvas = cv2.resize(picture, self._canvas(*picture.shape[:2]))
        outputs = self.graph.run({"pixels": canvas[None]})
        quads, _scores = self._quads(outputs["probability"], picture.shape[:2])
        if len(quads) == 0:
            return []
        quads = quads.astype(np.float32)
        strips = [self._strip(get_rotate_crop_image(picture, quad.copy())) for quad in quads]
        original = map_boxes_to_original(quads, record, height_px, width_px)
        return [Region(_upright(quad), strip) for quad, strip in zip(original, strips, strict=True)]

    def _canvas(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Width and height of the canvas that a picture is scaled to for the network."""
        sides = (height_px, width_px)
        limit = self._detection["limit_side_len"]
        if self._detection["limit_type"] == "max":
            scale = min(1.0, limit / max(sides))
        else:
            scale = max(1.0, limit / min(sides))
        if scale > 1:
            most = math.sqrt(self._max_enlarged_px / (height_px * width_px))
            scale = min(scale, max(1.0, most))
        height, width = (max(_STEP, round(int(side * scale) / _STEP) * _STEP) for side in sides)
        return width, height

    def _strip(self, crop: NDArray[np.uint8]) -> Pixels:
        """A crop scaled to the height that the recogniser takes."""
        height, width = crop.shape[:2]
        size = (math.ceil(self._strip_height * (width / height)), self._strip_height)
        strip: Pixels = cv2.resize(crop, size)
        return strip


def _upright(quad: NDArray[np.float32]) -> Box:
    """The smallest upright box around a quadrilateral."""
    left, top = quad.min(axis=0)
    right, bottom = quad.max(axis=0)
    return Box(math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
