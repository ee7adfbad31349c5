"""Strips to texts: one run of the recognition graph per batch.

    strips up to W pixels wide ──┐
    zeros right of each ─────────┴─> graph -> indices, confidences -> CTC -> text, mean confidence

Normalisation and arg-max are inside the graph, so only indices leave it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.fixed_shapes import lines_graph
from pagesight_server.inference.settings import Compute


class Text(NamedTuple):
    """The text of a strip."""

    text: str
    confidence: float
    """Mean probability of its characters, 0 to 1; 0 where there are none."""


class Recogniser:
    """Reads strips; for one thread at a time.

    Raises:
        SetupError: the graph cannot be loaded.
    """

    def __init__(self, bundle: Bundle, compute: Compute) -> None:
        recognition = bundle.manifest["input"]["recognition"]
        self._height = int(recognition["height"])
        self._blank = int(recognition["blank"])
        characters = bundle.file(recognition["characters"]).read_text("utf-8")
        self._characters: list[str] = json.loads(characters)
        path = bundle.file("recognition.onnx")
        self.graph = lines_graph(path, compute, self._height, half=bundle.half)

    def read(self, strips: Sequence[Pixels], width: int) -> list[Text]:
        """Reads strips padded to a width; one text per strip, in order.

        Args:
            strips: Each 48 x at most `width` x 3.
            width: The padded width in pixels.
        """
        crops = np.zeros((len(strips), self._height, width, 3), np.uint8)
        widths = np.empty(len(strips), np.int64)
        for slot, strip in enumerate(strips):
            widths[slot] = strip.shape[1]
            crops[slot, :, : strip.shape[1]] = strip
        outputs = self.graph.run({"crops": crops, "widths": widths})
        return [
            self._text(indices, confidences)
            for indices, confidences in zip(outputs["indices"], outputs["confidences"], strict=True)
        ]

    def warm(self, shapes: Iterable[tuple[int, int]]) -> None:
        """Runs each (batch size, width) once, so that no request waits for a first run."""
        for size, width in shapes:
            self.read([np.zeros((self._height, width, 3), np.uint8)] * size, width)

    def _text(self, indices: NDArray[np.int64], confidences: NDArray[np.float32]) -> Text:
        """Greedy CTC decoding: repeats collapse, blanks are dropped."""
        keep = indices != self._blank
        keep[1:] &= indices[1:] != indices[:-1]
        text = "".join(self._characters[i] for i in indices[keep])
        return Text(text, float(confidences[keep].mean()) if text else 0.0)
