"""Pixels to text lines, with an OCR bundle.

    pixels -> detect -> boxes -> upright crops -> recognise in batches by width -> lines

The steps and numbers are those of the `rapidocr` library, which this module alone
imports for the geometry of boxes and crops; the graphs are the bundle's, which
keep normalisation and arg-max inside, so that only indices leave them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rapidocr.ch_ppocr_det.main import TextDetector
from rapidocr.ch_ppocr_det.utils import DBPostProcess, DetPreProcess
from rapidocr.utils.process_img import (
    ResizeImgError,
    apply_vertical_padding,
    get_rotate_crop_image,
    map_boxes_to_original,
    resize_image_within_bounds,
)

from pagesight_server.arrays import Pixels
from pagesight_server.bundle import Bundle
from pagesight_server.runtime import Compute, Graph
from pagesight_server.text import Box, Reading, TextLine, in_reading_order

Quads = NDArray[np.float32]
"""Text regions: (regions, 4 corners clockwise from top left, xy), in pixels."""


class Reader:
    """Reads pictures; for one thread at a time.

    Raises:
        SetupError: the bundle cannot be loaded or fails its golden pairs.
    """

    def __init__(self, bundle: Bundle, compute: Compute) -> None:
        self.bundle = bundle
        numbers = bundle.manifest["preprocessing"]
        self._picture = numbers["picture"]
        self._text_score = float(numbers["result"]["text_score"])
        detection = numbers["detection"]
        self._prepare = DetPreProcess(detection["limit_side_len"], detection["limit_type"])
        self._boxes = DBPostProcess(
            **{
                key: detection[key]
                for key in (
                    "thresh",
                    "box_thresh",
                    "max_candidates",
                    "unclip_ratio",
                    "score_mode",
                    "use_dilation",
                )
            }
        )
        _, self._height, self._min_width = numbers["recognition"]["rec_img_shape"]
        self._batch = int(numbers["recognition"]["rec_batch_num"])
        recognition = bundle.manifest["input"]["recognition"]
        self._blank = int(recognition["blank"])
        characters = bundle.file(recognition["characters"]).read_text("utf-8")
        self._characters: list[str] = json.loads(characters)
        self._graphs = {
            name: Graph(bundle.file(f"{name}.onnx"), compute)
            for name in ("detection", "recognition")
        }
        bundle.check_golden(lambda graph, inputs: self._graphs[graph].run(inputs))

    def read(self, pixels: Pixels) -> Reading:
        """Reads all text of a picture; a picture without text has no lines.

        Args:
            pixels: Height x width x 3, RGB.
        """
        height_px, width_px = pixels.shape[:2]
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        try:
            picture, ratio_h, ratio_w = resize_image_within_bounds(
                bgr, self._picture["min_side_len"], self._picture["max_side_len"]
            )
        except ResizeImgError:
            # So thin that less than a pixel of it is left: nothing can stand there.
            return Reading(width_px=width_px, height_px=height_px, lines=())
        record: dict[str, Any] = {"preprocess": {"ratio_h": ratio_h, "ratio_w": ratio_w}}
        picture, record = apply_vertical_padding(
            picture, record, self._picture["width_height_ratio"], self._picture["min_height"]
        )
        quads = self._detect(picture)
        texts = self._recognise([get_rotate_crop_image(picture, quad.copy()) for quad in quads])
        original = map_boxes_to_original(quads, record, height_px, width_px) if len(quads) else []
        lines = [
            TextLine(text, confidence, _upright(quad))
            for (text, confidence), quad in zip(texts, original, strict=True)
            if text.strip() and confidence >= self._text_score
        ]
        return Reading(width_px=width_px, height_px=height_px, lines=in_reading_order(lines))

    def _detect(self, picture: NDArray[np.uint8]) -> Quads:
        resized = self._prepare.resize(picture)
        if resized is None:
            return np.empty((0, 4, 2), np.float32)
        outputs = self._graphs["detection"].run({"pixels": resized[None]})
        quads, _scores = self._boxes(outputs["probability"], picture.shape[:2])
        if len(quads) == 0:
            return np.empty((0, 4, 2), np.float32)
        ordered: Quads = TextDetector.sorted_boxes(quads).astype(np.float32)
        return ordered

    def _recognise(self, crops: Sequence[NDArray[np.uint8]]) -> list[tuple[str, float]]:
        """Reads crops in batches of like width; text and mean confidence of each, in order."""
        results: list[tuple[str, float]] = [("", 0.0)] * len(crops)
        ratios = [crop.shape[1] / crop.shape[0] for crop in crops]
        order = np.argsort(np.asarray(ratios), kind="stable").tolist()
        for start in range(0, len(order), self._batch):
            chosen = order[start : start + self._batch]
            # Sizes exactly as the library takes them: padding shows in the result.
            widest = max(self._min_width / self._height, *(ratios[i] for i in chosen))
            width = int(self._height * widest)
            batch = np.zeros((len(chosen), self._height, width, 3), np.uint8)
            widths = np.empty(len(chosen), np.int64)
            for slot, i in enumerate(chosen):
                widths[slot] = min(width, math.ceil(self._height * ratios[i]))
                size = (int(widths[slot]), self._height)
                batch[slot, :, : widths[slot]] = cv2.resize(crops[i], size)
            outputs = self._graphs["recognition"].run({"crops": batch, "widths": widths})
            for slot, i in enumerate(chosen):
                results[i] = self._text(outputs["indices"][slot], outputs["confidences"][slot])
        return results

    def _text(
        self, indices: NDArray[np.int64], confidences: NDArray[np.float32]
    ) -> tuple[str, float]:
        """Greedy CTC: repeats collapse, blanks go."""
        keep = indices != self._blank
        keep[1:] &= indices[1:] != indices[:-1]
        text = "".join(self._characters[i] for i in indices[keep])
        return text, float(confidences[keep].mean()) if text else 0.0


def _upright(quad: NDArray[np.float32]) -> Box:
    left, top = quad.min(axis=0)
    right, bottom = quad.max(axis=0)
    return Box(math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
