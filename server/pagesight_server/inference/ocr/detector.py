"""Pixels to text regions, with the geometry of the library. The only importer of `rapidocr`.

    pixels -> within bounds -> canvas -> network -> probability -> quads
                    └──────────────────────────────> crops <──────┘ -> strips of 48 pixels height

Steps, parameters and canvas size are the library's, the graph is the bundle's: its detection
network, or its draft's, which is cheaper (docs/decisions/0019). On a smaller canvas boxes move by a
pixel, and lines are lost with that (0006). Quads are the library's within a pixel, and crops of
upright ones its pixels, both without its arithmetic in Python (0021).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from rapidocr.utils.process_img import (
    ResizeImgError,
    apply_vertical_padding,
    get_rotate_crop_image,
    map_boxes_to_original,
    resize_image_within_bounds,
)

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import SetupError
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.fixed_shapes import Runs, canvas_graph
from pagesight_server.inference.ocr.quads import QuadFinder, Quads, is_upright
from pagesight_server.inference.ocr.tiling import Region
from pagesight_server.inference.onnx_session import first_run
from pagesight_server.inference.settings import Compute
from pagesight_server.text.reading import Box

_STEP = 32
"""The network halves its canvas five times."""
_TURNED_FROM = 1.5
"""Height / width from which a crop is text from top to bottom, as in the library."""
_QUADS = ("thresh", "box_thresh", "max_candidates", "unclip_ratio", "use_dilation")

DetectionNetwork: TypeAlias = Literal["detection", "draft_detection"]
"""A network that finds text, by its name in the manifest's `input`."""


class Detector:
    """Finds text; for as many threads at once as its graph is.

    Args:
        bundle: A bundle of kind `ocr`.
        compute: Where the graph runs.
        network: Which of the bundle's networks finds text.
        max_enlarged_px: Pixels that a small picture is at most enlarged to.
        graph: The network where it is shared with other detectors; None: it is loaded here.

    Raises:
        SetupError: the graph cannot be loaded, or the bundle asks for what this server cannot do.
    """

    def __init__(
        self,
        bundle: Bundle,
        compute: Compute,
        network: DetectionNetwork = "detection",
        *,
        max_enlarged_px: int,
        graph: Runs | None = None,
    ) -> None:
        steps = bundle.manifest["preprocessing"]
        self._picture, self._detection = steps["picture"], steps["detection"]
        self._max_enlarged_px = max_enlarged_px
        self._strip_height = int(bundle.manifest["input"]["recognition"]["height"])
        if (mode := self._detection["score_mode"]) != "fast":
            raise SetupError(
                f"bundle {bundle.id} scores boxes in a way that this server does not know: "
                f"{mode!r}; upgrade pagesight"
            )
        self.quads = QuadFinder(**{key: self._detection[key] for key in _QUADS})
        """Finds quads in the network's maps."""
        path = bundle.file(bundle.manifest["input"][network]["file"])
        self.graph = graph or canvas_graph(path, compute, half=bundle.half)

    def warm(self, canvases: Iterable[tuple[int, int]]) -> None:
        """Runs a canvas of each height and width once, so that no request waits for a first run.

        Raises:
            SetupError: one of them cannot be run.
        """
        for height, width in canvases:
            with first_run(f"finding text on {width} x {height} pixels"):
                self.graph.run({"pixels": np.zeros((1, height, width, 3), np.uint8)})

    def find(self, pixels: Pixels) -> list[Region]:
        """Finds the text regions of a picture; an empty list where there is no text.

        Args:
            pixels: Height x width x 3, RGB.
        """
        height_px, width_px = pixels.shape[:2]
        try:
            picture, ratio_h, ratio_w = resize_image_within_bounds(
                pixels, self._picture["min_side_len"], self._picture["max_side_len"]
            )
        except ResizeImgError:
            # So thin that less than a pixel of it is left: it cannot hold text.
            return []
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        record: dict[str, Any] = {"preprocess": {"ratio_h": ratio_h, "ratio_w": ratio_w}}
        picture, record = apply_vertical_padding(
            picture, record, self._picture["width_height_ratio"], self._picture["min_height"]
        )
        size = self._canvas(*picture.shape[:2])
        canvas = picture if size == picture.shape[1::-1] else cv2.resize(picture, size)
        outputs = self.graph.run({"pixels": canvas[None]})
        quads = self.quads(outputs["probability"][0, 0], *picture.shape[:2])
        if len(quads) == 0:
            return []
        shown = crops(picture, quads)
        boxes = _boxes(map_boxes_to_original(quads, record, height_px, width_px))
        return [
            Region.of(box, scaled(crop, self._strip_height), crop)
            for box, crop in zip(boxes, shown, strict=True)
        ]

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


def crops(picture: Pixels, quads: Quads) -> list[Pixels]:
    """What a picture shows in each quad, turned upright.

    Crops of upright quads are views of the picture: what the library's warp of them gives.

    Args:
        picture: Height x width x 3.
        quads: In pixels of the picture, whole numbers.
    """
    bounds = np.concatenate((quads[:, 0], quads[:, 2]), axis=1).astype(int).tolist()
    shown: list[Pixels] = []
    for quad, upright, (left, top, right, bottom) in zip(
        quads, is_upright(quads).tolist(), bounds, strict=True
    ):
        if not upright:
            shown.append(get_rotate_crop_image(picture, quad))
            continue
        crop = picture[top:bottom, left:right]
        turned = bottom - top >= _TURNED_FROM * (right - left)
        shown.append(np.rot90(crop) if turned else crop)
    return shown


def scaled(crop: Pixels, height_px: int) -> Pixels:
    """A crop scaled to a height."""
    height, width = crop.shape[:2]
    strip: Pixels = cv2.resize(crop, (math.ceil(height_px * (width / height)), height_px))
    return strip


def _boxes(quads: Quads) -> list[Box]:
    """The smallest upright box around each quadrilateral."""
    low, high = np.floor(quads.min(axis=1)), np.ceil(quads.max(axis=1))
    return [Box(*box) for box in np.concatenate((low, high), axis=1).astype(int).tolist()]
