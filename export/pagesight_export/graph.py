"""ONNX surgery shared by all exports that start from an existing graph.

    source graph ──┐
                   ├─ splice(front -> body -> back) -> prune -> deterministic bytes
    Writer ────────┘   (front: uint8 pixels -> what the body expects; back: what leaves)

Nothing here runs a graph or knows a particular model. Graphs keep the opset of their source:
a converter could change results, and no operator used here is newer than opset 11.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from pagesight_export.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

OLDEST_OPSET = 11
"""ArgMax, Clip and the reductions are written the way opsets 11 to 17 spell them."""
NEWEST_OPSET = 17
IR_VERSION = 8
"""Pinned so that the file does not change with the installed onnx; opset 17 needs no more."""

MAX_LINES = 16
"""Most lines of the grid that a row of scores is laid out as. 16 float32 values fill an AVX-512
register: one line value by value is then about as many steps as all lines by vectors."""

UINT8: int = TensorProto.UINT8
INT64: int = TensorProto.INT64
FLOAT: int = TensorProto.FLOAT


class Writer:
    """Builder of nodes and constants; each call returns the name of the tensor it makes.

    All names begin with `pagesight.`, so they never meet those of a source graph.
    """

    def __init__(self, part: str) -> None:
        """Start empty; `part` keeps the names of two writers apart."""
        self.part = part
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any]) -> str:
        """Add a constant of the array's own shape and dtype."""
        name = f"pagesight.{self.part}.constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.constant(np.array(value, dtype=np.float32))

    def shape(self, *dims: int) -> str:
        """Add an int64 vector, as `Reshape`, `Gather` and `Unsqueeze` of shapes want it."""
        return self.constant(np.array(dims, dtype=np.int64))

    def op(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add one node with one output, named after its type unless `output` says otherwise."""
        name = output or f"pagesight.{self.part}.{op_type}.{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op_type, list(inputs), [name], name=f"{name}.node", **attributes)
        )
        return name

    def largest(self, rows: str, columns: int) -> tuple[str, str]:
        """Find the largest value of each row of `[R, columns]` and its place, both `[R, 1]`.

        A row is laid out as a grid first. Over its lines `ReduceMax` works on whole vectors; the
        line of maxima is left for `TopK`, which goes value by value, as `ArgMax` does. Of equal
        values it is the leftmost of the grid.
        """
        lines = max(size for size in range(1, MAX_LINES + 1) if columns % size == 0)
        grid = self.op("Reshape", rows, self.shape(-1, lines, columns // lines))
        tops = self.op("ReduceMax", grid, axes=[1], keepdims=0)
        name = f"pagesight.{self.part}.TopK.{len(self.nodes)}"
        best, column = f"{name}.best", f"{name}.column"
        inputs = [tops, self.shape(1)]
        self.nodes.append(helper.make_node("TopK", inputs, [best, column], name=name, axis=1))
        everywhere = self.op(
            "Tile", self.op("Reshape", column, self.shape(-1, 1, 1)), self.shape(1, lines, 1)
        )
        line = self.op(
            "ArgMax", self.op("GatherElements", grid, everywhere, axis=2), axis=1, keepdims=0
        )
        before = self.op("Mul", line, self.shape(columns // lines))
        return best, self.op("Add", before, column)

    def resized(self, pixels: str, size: tuple[int, int]) -> str:
        """Bring float `[N,C,H,W]` to rows and columns by linear interpolation between pixels.

        No low-pass filter goes before it: opset 11 has none, so halve at most.
        """
        kept = self.op("Slice", self.op("Shape", pixels), self.shape(0), self.shape(2))
        wanted = self.op("Concat", kept, self.shape(*size), axis=0)
        empty = self.constant(np.empty(0, dtype=np.float32))
        return self.op(
            "Resize",
            pixels,
            empty,
            empty,
            wanted,
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )

    def unit_length(self, vectors: str, *, output: str | None = None) -> str:
        """Divide each row of `[N, D]` by its L2 norm; a row of zeros stays zero."""
        norm = self.op("ReduceL2", vectors, axes=[1], keepdims=1)
        return self.op("Div", vectors, self.op("Max", norm, self.number(1e-6)), output=output)


def load_graph(path: Path) -> onnx.ModelProto:
    """Read a one-input ONNX graph whose opset this module can extend.

    Raises:
        SourceError: the file is absent, no ONNX graph, or of an opset not supported here.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"no model at {path}: reinstall the package it belongs to") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})") from error
    return parse_graph(data, path.name)


def parse_graph(data: bytes, name: str) -> onnx.ModelProto:
    """Parse a one-input ONNX graph whose opset this module can extend.

    Raises:
        SourceError: it is no ONNX graph, or of an opset not supported here.
    """
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's parser has no public error class of its own
        raise SourceError(f"{name} is no ONNX graph ({error}): reinstall it") from error
    if not OLDEST_OPSET <= opset_of(model) <= NEWEST_OPSET or len(model.graph.input) != 1:
        raise SourceError(
            f"{name} has opset {opset_of(model)} and {len(model.graph.input)} inputs;"
            f" need one input and opset {OLDEST_OPSET} to {NEWEST_OPSET}"
        )
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set, 0 if the graph names none."""
    return max((entry.version for entry in model.opset_import if not entry.domain), default=0)


def residual_tap(
    model: onnx.ModelProto, *, height: int, width: int, channels: int, stride: int
) -> str:
    """Name the output of the last backbone stage, found by what it is and not by its name.

    That is the last `Add` of two computed tensors (a residual, not a bias) that has `channels`
    channels at `stride`; the neck works on fewer channels, so nothing after it matches.

    Raises:
        SourceError: no tensor of the graph is like that.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    dims = sized.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, (1, 3, height, width), strict=True):
        dim.dim_value = size
    del sized.graph.output[0].type.tensor_type.shape.dim[:]
    inferred = shape_inference.infer_shapes(sized).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in inferred.value_info
    }
    fixed = {tensor.name for tensor in model.graph.initializer}
    fixed |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    wanted = [1, channels, height // stride, width // stride]
    for node in reversed(model.graph.node):
        residual = node.op_type == "Add" and fixed.isdisjoint(node.input)
        if residual and shapes.get(node.output[0]) == wanted:
            return str(node.output[0])
    raise SourceError(
        f"no residual sum with {channels} channels at stride {stride}:"
        " this is not the detection network that the built-in encoder is made from"
    )


def splice(
    model: onnx.ModelProto,
    *,
    name: str,
    front: Writer,
    feed: str,
    back: Writer,
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Put `front` before and `back` behind a graph and keep only what the outputs need.

    Weights too small for a normal float32 become 0 (`flushed`).

    Args:
        model: The body. It is not changed.
        name: The name of the new graph.
        front: Makes `feed` from `inputs`.
        feed: The tensor that takes the place of the body's only input.
        back: Makes `outputs` from tensors of the body and of `front`.
        inputs: What the new graph takes, in order.
        outputs: What the new graph gives, in order.
    """
    body = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    old_input = model.graph.input[0].name
    for node in body:
        for position, tensor in enumerate(node.input):
            if tensor == old_input:
                node.input[position] = feed
    wanted = list(outputs)
    nodes, used = needed([*front.nodes, *body, *back.nodes], [value.name for value in wanted])
    weights = [flushed(tensor) for tensor in model.graph.initializer]
    constants = [*front.constants, *weights, *back.constants]
    graph = helper.make_graph(
        nodes, name, list(inputs), wanted, [tensor for tensor in constants if tensor.name in used]
    )
    opset = helper.make_opsetid("", opset_of(model))
    spliced = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    spliced.producer_name = "pagesight-export"
    return spliced


def flushed(weights: onnx.TensorProto) -> onnx.TensorProto:
    """Return the weights with 0 for each float32 below 1.2e-38, the least normal one.

    Training shrinks weights that nothing needs until they are denormal, a quarter of a million in
    PP-OCRv6's text detector. They change no output, and x86 processors multiply by each of them in
    microcode: two of its 83 convolutions took two thirds of its time (docs/benchmarks.md, Reading).
    """
    if weights.data_type != TensorProto.FLOAT:
        return weights
    values = numpy_helper.to_array(weights)
    tiny = (values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)
    if not tiny.any():
        return weights
    return numpy_helper.from_array(np.where(tiny, np.float32(0), values), weights.name)


def needed(
    nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]
) -> tuple[list[onnx.NodeProto], set[str]]:
    """Return the nodes that `outputs` depend on, in order, and all tensor names they touch."""
    used = set(outputs)
    reachable: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if used.isdisjoint(node.output):
            continue
        reachable.append(node)
        used.update(node.input)
    return reachable[::-1], used


def tensor(name: str, element: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """Describe a graph input or output; a dimension given as text is dynamic."""
    return helper.make_tensor_value_info(name, element, shape)


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Check a graph and serialise it; the same graph gives the same bytes everywhere."""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
