"""Strips to texts: one run of a recognition graph per batch.

    strips up to W pixels wide ──┐
    zeros right of each ─────────┴─> graph -> indices, confidences -> CTC -> text, mean confidence

Normalisation and arg-max are inside the graph, so only indices leave it. A bundle has one network
for it, or a second one, the draft, that reads faster and worse.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.fixed_shapes import lines_graph
from pagesight_server.inference.onnx_session import first_run
from pagesight_server.inference.settings import Compute

Network: TypeAlias = Literal["recognition", "draft"]
"""A recognition network, by its name in the manifest's `input`."""


DRAFT_SPEED = 4
"""Columns that a draft reads in the time of one of the recognition network; 3.8 to 4.1 were
measured (`make bench-cascade`)."""


class Shape(NamedTuple):
    """What the strips of a batch have in common."""

    width: int
    """The width in pixels that they are padded to."""
    network: Network = "recognition"
    """The network that reads them."""

    @property
    def cost(self) -> int:
        """What one of its strips takes, in columns of the recognition network."""
        return self.width if self.network == "recognition" else -(-self.width // DRAFT_SPEED)


class Text(NamedTuple):
    """Holds the text of a strip."""

    text: str
    confidence: float
    """Mean probability of its characters, 0 to 1; 0 where there are none."""


class Recogniser:
    """Reads strips with one network; for as many threads at once as its graph is.

    Args:
        bundle: A bundle of kind `ocr`.
        compute: Where the graph runs.
        network: Which of the bundle's networks reads.

    Raises:
        SetupError: the graph cannot be loaded.
    """

    def __init__(self, bundle: Bundle, compute: Compute, network: Network = "recognition") -> None:
        described = bundle.manifest["input"][network]
        self._height = int(described["height"])
        self._blank = int(described["blank"])
        characters = bundle.file(described["characters"]).read_text("utf-8")
        self._characters: list[str] = json.loads(characters)
        path = bundle.file(described["file"])
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
        return decode_ctc(outputs["indices"], outputs["confidences"], self._characters, self._blank)

    def warm(self, shapes: Iterable[tuple[int, int]]) -> None:
        """Runs each (batch size, width) once, so that no request waits for a first run.

        Raises:
            SetupError: one of them cannot be run.
        """
        for size, width in shapes:
            with first_run(f"{size} lines of {width} pixels at once"):
                self.read([np.zeros((self._height, width, 3), np.uint8)] * size, width)


def decode_ctc(
    indices: NDArray[np.int64],
    confidences: NDArray[np.float32],
    characters: Sequence[str],
    blank: int,
) -> list[Text]:
    """Greedy CTC decoding: repeats collapse, blanks are dropped.

    Args:
        indices: Of the characters, shape (lines, steps).
        confidences: Of each, 0 to 1, in the same shape.
        characters: By index.
        blank: The index that stands for none.
    """
    keep = indices != blank
    keep[:, 1:] &= indices[:, 1:] != indices[:, :-1]
    read = list(map(characters.__getitem__, indices[keep].tolist()))
    kept = confidences[keep]
    texts, start = [], 0
    for end in np.cumsum(np.count_nonzero(keep, axis=1)).tolist():
        text = "".join(read[start:end])
        # As `mean` has it, to the bit, in half the time; `add.reduceat` sums in another order.
        total = np.add.reduce(kept[start:end])
        texts.append(Text(text, float(total / np.float32(end - start)) if text else 0.0))
        start = end
    return texts


class Reader:
    """Reads strips with each network of a bundle that is in use; for as many threads as they are.

    Args:
        recognisers: The recogniser of each network.
    """

    def __init__(self, recognisers: Mapping[Network, Recogniser]) -> None:
        self._recognisers = dict(recognisers)

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        """Reads strips; one text per strip, in order.

        Args:
            strips: Each 48 x at most `shape.width` x 3.
            shape: The network, and the width in pixels that they are padded to.
        """
        return self._recognisers[shape.network].read(strips, shape.width)

    def warm(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Runs each (batch size, width) once with each network, in the thread that will read.

        Raises:
            SetupError: one of them cannot be run.
        """
        for recogniser in self._recognisers.values():
            recogniser.warm(shapes)
