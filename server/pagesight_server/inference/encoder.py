"""Pixels to embeddings, with an encoder bundle.

any thread      pixels -> resized, or cut into patches, as the manifest says ─┐
its own thread  ┌────────────────────────────────────────────────────────────┘
                └> batch, padded where sizes are fixed -> model.onnx -> embedding of length 1

Preparing takes the CPU longer than a GPU takes for a run, so the thread that runs the model is
left to that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np

from pagesight_server.common.arrays import Embeddings, Pixels
from pagesight_server.common.errors import SetupError
from pagesight_server.inference.bundle import Bundle, Tensors
from pagesight_server.inference.naflex import Naflex
from pagesight_server.inference.onnx_session import Graph, first_run
from pagesight_server.inference.resize import Resizing, resizing
from pagesight_server.inference.settings import Compute


class Encoder:
    """Embeds pictures. Any thread may prepare them, one at a time runs them.

    Args:
        bundle: A bundle of kind `encoder`.
        compute: Where its graph runs.
        sizes: Batch sizes that the graph runs at, ascending; each is run once here, as a warm-up.
            A batch between two of them is padded to the larger. Empty: any size, and no warm-up.

    Raises:
        SetupError: the bundle asks for what this server cannot do, or fails its golden pairs.
    """

    def __init__(self, bundle: Bundle, compute: Compute, *, sizes: Sequence[int] = ()) -> None:
        self.bundle = bundle
        self._sizes = tuple(sizes)
        by = resizing(bundle.manifest["preprocessing"].get("resize"))
        self._prepare = _preprocessing(bundle, by)
        self.resized_by = by.library if by is not None else ""
        """The library that resizes pictures, with its version."""
        self._graph = Graph(bundle.file("model.onnx"), compute, half=bundle.half)
        bundle.check_golden(lambda _graph, inputs: self._run(inputs))
        # The largest first: what it takes of the GPU's memory, the others find room in.
        for size in reversed(self._sizes):
            with first_run(f"the encoder, {size} screenshots at once,"):
                self.encode([np.zeros((64, 32, 3), np.uint8)] * size)

    def prepare(self, picture: Pixels) -> Tensors:
        """The inputs of the model for one picture, a batch of one; safe to call from any thread.

        Args:
            picture: Height x width x 3, RGB.
        """
        return self._prepare([picture])

    def run(self, prepared: Sequence[Tensors]) -> Embeddings:
        """Embeds pictures that are prepared.

        Args:
            prepared: At least one and at most the largest size, each of one picture.

        Returns:
            Shape (pictures, embedding_dim), each row of length 1.
        """
        batch = {
            name: np.concatenate([inputs[name] for inputs in prepared]) for name in prepared[0]
        }
        embeddings: Embeddings = self._run(padded(batch, self._size(len(prepared))))["embedding"]
        return embeddings[: len(prepared)]

    def encode(self, pictures: Sequence[Pixels]) -> Embeddings:
        """Prepares and embeds pictures of any sizes; see `run`."""
        return self.run([self.prepare(picture) for picture in pictures])

    def _size(self, pictures: int) -> int:
        """The batch size that so many pictures run at."""
        at = bisect_left(self._sizes, pictures)
        if self._sizes and at == len(self._sizes):
            raise ValueError(f"{pictures} pictures are more than the largest size of {self._sizes}")
        return self._sizes[at] if self._sizes else pictures

    def _run(self, inputs: Tensors) -> Tensors:
        """Runs the graph, and checks the dimension of its embeddings."""
        outputs = self._graph.run(inputs)
        dimension = outputs["embedding"].shape[1]
        if dimension != self.bundle.embedding_dim:
            raise SetupError(
                f"bundle {self.bundle.id} gives embeddings of {dimension} values, its manifest "
                f"says {self.bundle.embedding_dim}: export it again"
            )
        return outputs


def padded(inputs: Tensors, size: int) -> Tensors:
    """The inputs padded to a batch of `size` with copies of the last item.

    Real pictures are valid inputs of any model, which zeros need not be.
    """
    missing = size - len(next(iter(inputs.values())))
    if missing == 0:
        return inputs
    return {
        name: np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
        for name, values in inputs.items()
    }


def _preprocessing(
    bundle: Bundle, resizing: Resizing | None
) -> Callable[[Sequence[Pixels]], Tensors]:
    """The preprocessing that the manifest names: pictures to the inputs of the graph."""
    geometry = bundle.manifest["input"]
    if resizing is not None and geometry["geometry"] == "naflex":
        return Naflex.from_manifest(geometry, resizing.resize)
    if resizing is not None and geometry["geometry"] == "fixed":
        call, height, width = resizing.resize, int(geometry["height"]), int(geometry["width"])
        return lambda pictures: {"pixels": np.stack([call(p, height, width) for p in pictures])}
    raise SetupError(
        f"bundle {bundle.id} needs preprocessing that this server does not know: geometry "
        f"{geometry['geometry']!r}, resize {bundle.manifest['preprocessing'].get('resize')}; "
        "upgrade pagesight"
    )
