"""A session for each of a few shapes, so that CUDA prepares each once.

    inputs ──> a shape that holds them? ──yes──> padded to it ──> its session ──> outputs cut back
                                        └─no───> the session for any shape

ONNX Runtime keeps one cuDNN plan per convolution, that of the last shape, and makes it anew when
the shape changes (`make gpu-check ARGS='--only load'` measures that). All sessions are run once
before the server is ready. On a CPU there is nothing to prepare, and one session serves all shapes.

CUDA graphs are recorded for lines alone, in the thread that reads them: ONNX Runtime keeps them for
each thread, and while one is recorded no other thread may allocate. Canvases are searched by any of
several threads.

Written from ONNX Runtime's documentation and tested on a CPU; it has not run on a GPU yet.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from pagesight_server.inference.bundle import Tensors
from pagesight_server.inference.onnx_session import Graph, OutputShapes
from pagesight_server.inference.settings import Compute

Shape: TypeAlias = tuple[int, int]
"""Batch size and width of lines, or height and width of a canvas."""

LEAST_MB = 128
"""GPU memory that a session of a fixed shape may take whatever its shape: weights, and what cuDNN
asks for beside what the shape needs. A guess, not measured yet."""


class Runs(Protocol):
    """Runs a graph, whichever session that takes."""

    def run(self, inputs: Tensors) -> Tensors:
        """Runs the graph; inputs and outputs by their names."""


class InTurn:
    """A graph that several threads share: one of them runs it, the others wait.

    Args:
        graph: What runs it, for one thread at a time.
    """

    def __init__(self, graph: Runs) -> None:
        self._graph = graph
        self._lock = threading.Lock()

    def run(self, inputs: Tensors) -> Tensors:
        """Runs the graph; inputs and outputs by their names."""
        with self._lock:
            return self._graph.run(inputs)


class Padding(ABC):
    """How inputs are padded to the fixed shapes of a graph, and outputs cut back.

    Args:
        shapes: The fixed shapes.
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.shapes = tuple(shapes)

    @abstractmethod
    def shape_for(self, inputs: Tensors) -> Shape | None:
        """The fixed shape that inputs are padded to; None where none holds them."""

    @abstractmethod
    def pad(self, inputs: Tensors, shape: Shape) -> Tensors:
        """Returns the inputs, padded to the shape."""

    @abstractmethod
    def cut(self, outputs: Tensors, inputs: Tensors) -> Tensors:
        """The outputs of padded inputs, as those of the inputs themselves."""

    @abstractmethod
    def blank(self, shape: Shape) -> Tensors:
        """Inputs of a fixed shape for the first run."""

    def share_mb(self, shape: Shape, total_mb: int) -> int:
        """GPU memory limit of the session of a shape: its share of that of all; 0: no limit."""
        if not total_mb:
            return 0
        areas = sum(a * b for a, b in self.shapes)
        left_mb = max(0, total_mb - LEAST_MB * len(self.shapes))
        return LEAST_MB + left_mb * shape[0] * shape[1] // areas


class Lines(Padding):
    """Lines of text: batches are padded to the size that their width has.

    Args:
        shapes: The batch size of each width.
        height_px: Height of a line.
    """

    def __init__(self, shapes: Sequence[Shape], height_px: int) -> None:
        super().__init__(shapes)
        self._height_px = height_px
        self._sizes = {width: size for size, width in self.shapes}

    def shape_for(self, inputs: Tensors) -> Shape | None:
        """The shape of their width, if they are not more than its batch size."""
        lines, _, width, _ = inputs["crops"].shape
        size = self._sizes.get(width, 0)
        return (size, width) if lines <= size else None

    def pad(self, inputs: Tensors, shape: Shape) -> Tensors:
        """The lines, and the last of them again; each line is read by itself."""
        missing = shape[0] - len(inputs["crops"])
        if not missing:
            return inputs
        return {
            name: np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
            for name, values in inputs.items()
        }

    def cut(self, outputs: Tensors, inputs: Tensors) -> Tensors:
        """The outputs of the lines alone."""
        lines = len(inputs["crops"])
        return {name: values[:lines] for name, values in outputs.items()}

    def blank(self, shape: Shape) -> Tensors:
        """Returns a batch of black lines of a shape."""
        size, width = shape
        return {
            "crops": np.zeros((size, self._height_px, width, 3), np.uint8),
            "widths": np.full(size, width, np.int64),
        }


class Canvases(Padding):
    """Canvases of text detection: those of common phones as they are, others padded to them.

    Padding repeats the last row and column. It moves boxes by about a pixel: over six drawn pages
    every line was found, with a mean intersection over union of 0.96 with the box without padding
    (edges up to the next multiple of 256 pixels; zeros instead: 0.91).
    """

    LARGEST = 1.25
    """Area that padding may make of 1: beyond it, a change of shape is the lesser cost."""

    def shape_for(self, inputs: Tensors) -> Shape | None:
        """The smallest canvas that holds them and is not much larger."""
        _, height, width, _ = inputs["pixels"].shape
        holding = [
            (h, w)
            for h, w in self.shapes
            if h >= height and w >= width and h * w <= self.LARGEST * height * width
        ]
        return min(holding, key=lambda shape: shape[0] * shape[1], default=None)

    def pad(self, inputs: Tensors, shape: Shape) -> Tensors:
        """The canvas, its last row and column repeated."""
        pixels = inputs["pixels"]
        below, right = shape[0] - pixels.shape[1], shape[1] - pixels.shape[2]
        if not below and not right:
            return inputs
        return {"pixels": np.pad(pixels, ((0, 0), (0, below), (0, right), (0, 0)), mode="edge")}

    def cut(self, outputs: Tensors, inputs: Tensors) -> Tensors:
        """The probabilities of the canvas alone."""
        _, height, width, _ = inputs["pixels"].shape
        return {name: values[..., :height, :width] for name, values in outputs.items()}

    def blank(self, shape: Shape) -> Tensors:
        """Returns a black canvas of a shape."""
        return {"pixels": np.zeros((1, *shape, 3), np.uint8)}


class ShapedGraph:
    """Runs a graph in a session for each fixed shape; for one thread at a time.

    Args:
        padding: The shapes, and how inputs come to have them.
        any_shape: Runs inputs that none of them holds.
        make: Makes the session of a shape.
    """

    def __init__(self, padding: Padding, any_shape: Runs, make: Callable[[Shape], Runs]) -> None:
        self._padding = padding
        self._any_shape = any_shape
        self._sessions = {shape: make(shape) for shape in padding.shapes}

    def run(self, inputs: Tensors) -> Tensors:
        """Runs the graph; inputs and outputs by their names."""
        shape = self._padding.shape_for(inputs)
        if shape is None:
            return self._any_shape.run(inputs)
        outputs = self._sessions[shape].run(self._padding.pad(inputs, shape))
        return self._padding.cut(outputs, inputs)


def lines_graph(path: Path, compute: Compute, height_px: int, *, half: bool = False) -> Runs:
    """A recognition graph, in a session for each width where shapes are fixed.

    Args:
        path: The ONNX file.
        compute: Where it runs, and the fixed shapes.
        height_px: Height of a line.
        half: Whether it computes in FP16.

    Raises:
        SetupError: it cannot be loaded, or not on the configured device.
    """
    fixed = compute.fixed
    padding = Lines(fixed.lines, height_px) if fixed else None
    recorded = fixed is not None and fixed.cuda_graphs and compute.device == "cuda"
    return _graph(path, compute, padding, half, recorded=recorded)


def canvas_graph(path: Path, compute: Compute, *, half: bool = False) -> Runs:
    """A detection graph, in a session for each canvas where shapes are fixed.

    Args:
        path: The ONNX file.
        compute: Where it runs, and the fixed shapes.
        half: Whether it computes in FP16.

    Raises:
        SetupError: it cannot be loaded, or not on the configured device.
    """
    fixed = compute.fixed
    return _graph(path, compute, Canvases(fixed.canvases) if fixed else None, half)


def _graph(
    path: Path, compute: Compute, padding: Padding | None, half: bool, *, recorded: bool = False
) -> Runs:
    any_shape = Graph(path, compute, half=half)
    if padding is None:
        return any_shape

    def outputs(shape: Shape) -> OutputShapes:
        found = any_shape.run(padding.blank(shape))
        return {name: (values.shape, values.dtype) for name, values in found.items()}

    def make(shape: Shape) -> Runs:
        limited = replace(compute, gpu_memory_mb=padding.share_mb(shape, compute.gpu_memory_mb))
        return Graph(path, limited, half=half, recorded=outputs(shape) if recorded else None)

    return ShapedGraph(padding, any_shape, make)
