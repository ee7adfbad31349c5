"""Pixels to embeddings, with an encoder bundle.

pixels -> resize as the manifest says -> model.onnx -> embedding of length 1
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pagesight_server.arrays import Embeddings, Pixels
from pagesight_server.bundle import Bundle
from pagesight_server.errors import SetupError
from pagesight_server.runtime import Compute, Graph


class Encoder:
    """Embeds pictures; for one thread at a time.

    Raises:
        SetupError: the bundle asks for what this server cannot do, or fails its golden pairs.
    """

    def __init__(self, bundle: Bundle, compute: Compute) -> None:
        geometry = bundle.manifest["input"]
        resize = bundle.manifest["preprocessing"].get("resize")
        if geometry["geometry"] != "fixed" or resize != {
            "library": "opencv",
            "interpolation": "area",
        }:
            raise SetupError(
                f"bundle {bundle.id} needs preprocessing that this server does not know: "
                f"geometry {geometry['geometry']!r}, resize {resize}; upgrade pagesight"
            )
        self.bundle = bundle
        self._size = (int(geometry["width"]), int(geometry["height"]))
        self._graph = Graph(bundle.file("model.onnx"), compute)
        bundle.check_golden(lambda _graph, inputs: self._graph.run(inputs))

    def encode(self, pictures: Sequence[Pixels]) -> Embeddings:
        """Embeds a batch of pictures of any sizes.

        Args:
            pictures: At least one, each height x width x 3, RGB.

        Returns:
            Shape (pictures, embedding_dim), each row of length 1.
        """
        pixels = np.stack(
            [cv2.resize(p, self._size, interpolation=cv2.INTER_AREA) for p in pictures]
        )
        embeddings: Embeddings = self._graph.run({"pixels": pixels})["embedding"]
        return embeddings
