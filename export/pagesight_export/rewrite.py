"""Algebraic rewriting of a convolution network: the same function at less cost.

    network -> weights decoded -> biases -> dead channels -> gates -> concatenations -> blocks
            -> last layers, classes

ONNX Runtime convolves blocks of 16 channels (8 where a processor has no AVX-512) and undoes that
layout for whatever has no kernel for it: a concatenation of 24 and 24 channels, a sum of a tensor
and its own product, a transposed convolution. Each rule is an identity of arithmetic, so only the
rounding of sums differs; where its pattern is not found it does nothing. What they save is in
docs/benchmarks.md, Reading.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from pagesight_export.net import Net, option, partner

BLOCK = 16
"""Channels of a block of ONNX Runtime's NCHWc layout on AVX-512."""

NOTHING = 1e-30
"""Sum of the absolute weights of a channel below which it changes no float32 sum: activations
would have to exceed 1e22 to move a sum of order 1 by its last bit."""

POINTWISE = frozenset({"Add", "Div", "Erf", "Mul", "Relu"})
"""Operators of activation functions: with scalar operands, they are elementwise."""

DECODING = frozenset({"Cast", "DequantizeLinear", "Mul"})
"""Operators that turn stored integers into weights."""


def cheaper(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network that computes the same in less time.

    Args:
        model: The network; it is not changed.
    """
    net = Net(model)
    for rule in RULES:
        rule(net)
    return net.model()


def decode_weights(net: Net) -> None:
    """Compute weights that are stored in fewer bits: integers, a cast and a scale.

    ONNX Runtime would do it when a session is made, but the other rules look at weights.
    """
    for node in list(net.nodes):
        if node.op_type not in DECODING or any(name not in net.weights for name in node.input):
            continue
        (value,) = ReferenceEvaluator(node).run(
            None, {name: net.weights[name] for name in node.input}
        )
        net.weights[node.output[0]] = np.asarray(value)
        net.nodes.remove(node)


def join_biases(net: Net) -> None:
    """Fuse a constant for each channel that is added to a convolution into its bias."""
    for conv in [*net.of("Conv"), *net.of("ConvTranspose")]:
        add = net.only_user(conv.output[0], "Add")
        if add is None or len(conv.input) > 2:
            continue
        name = partner(add, conv.output[0])
        bias = net.weights.get(name)
        if bias is None or bias.ndim != 4 or bias.size != bias.shape[1]:
            continue
        net.change(conv, 2, bias.reshape(-1))
        conv.output[0] = add.output[0]
        net.nodes.remove(add)


def drop_dead_channels(net: Net) -> None:
    """Remove channels that the next convolution multiplies by zero."""
    for after in net.of("Conv"):
        kernel = net.kernel(after)
        before = _source(net, after.input[0])
        if kernel is None or before is None:
            continue
        alive = np.abs(kernel).sum(axis=(0, 2, 3)) > NOTHING
        spare = np.flatnonzero(~alive)[: -np.count_nonzero(alive) % BLOCK]
        kept = np.union1d(np.flatnonzero(alive), spare)
        if len(kept) < len(alive):
            for place, name in enumerate(list(before.input)[1:], 1):
                net.change(before, place, net.weights[name][kept])
            net.change(after, 1, kernel[:, kept])


def join_gates(net: Net) -> None:
    """Turn `x + x s` into `x (s + 1)`: s has a value for each channel, x for each pixel."""
    for add in net.of("Add"):
        for x, product in (list(add.input), list(add.input)[::-1]):
            times = net.maker(product)
            if times is None or times.op_type != "Mul" or x not in times.input:
                continue
            if net.only_user(product, "Add") is None:
                continue
            gate = partner(times, x)
            raised = helper.make_node("Add", [gate], [f"{product}.raised"])
            net.change(raised, 1, np.ones((), np.float32))
            scaled = helper.make_node("Mul", [x, raised.output[0]], list(add.output))
            net.replace(add, raised, scaled)
            break


def split_concatenations(net: Net) -> None:
    """Turn a convolution of concatenated convolutions into a sum of convolutions.

    Where all parts fill their blocks, ONNX Runtime keeps its layout anyway and nothing changes.
    """
    for concat in net.of("Concat"):
        conv = net.only_user(concat.output[0], "Conv")
        parts = [_convolution(net, name) for name in concat.input]
        kernel = net.kernel(conv) if conv is not None else None
        sizes = [len(net.weights[part.input[1]]) for part in parts if part is not None]
        if conv is None or kernel is None or len(sizes) < len(parts):
            continue
        if not any(size % BLOCK for size in sizes):
            continue
        nodes: list[onnx.NodeProto] = []
        for name, part in zip(
            concat.input, np.split(kernel, np.cumsum(sizes)[:-1], axis=1), strict=True
        ):
            one = onnx.NodeProto.FromString(conv.SerializeToString())
            one.input[0] = name
            one.name = one.output[0] = f"{conv.output[0]}.of.{name}"
            net.change(one, 1, part)
            if nodes:
                del one.input[2:]
            sum_ = [nodes[-1].output[0], one.output[0]] if nodes else []
            nodes.append(one)
            if sum_:
                nodes.append(helper.make_node("Add", sum_, [f"{one.output[0]}.sum"]))
        nodes[-1].output[0] = conv.output[0]
        net.replace(conv, *nodes)


def fill_blocks(net: Net) -> None:
    """Pad the channels between two convolutions to one block with zeros, the later not 1 x 1.

    ONNX Runtime convolves fewer channels than a block in the unblocked layout, at several times
    the cost.
    """
    for after in net.of("Conv"):
        kernel = net.kernel(after)
        before = _source(net, after.input[0])
        if kernel is None or before is None:
            continue
        if kernel.shape[1] >= BLOCK or kernel.shape[2:] == (1, 1):
            continue
        missing = (0, BLOCK - kernel.shape[1])
        for place, name in enumerate(list(before.input)[1:], 1):
            weights = net.weights[name]
            net.change(before, place, np.pad(weights, [missing, *[(0, 0)] * (weights.ndim - 1)]))
        net.change(after, 1, np.pad(kernel, [(0, 0), missing, (0, 0), (0, 0)]))


def flatten_last_layers(net: Net) -> None:
    """Turn two transposed convolutions that each double a picture into 1 x 1 ones, reordered.

    Each pixel of the small picture becomes a square of 4 x 4 that depends on no other pixel: the
    first convolution computes the channels of its four quarters, the second each pixel of each
    quarter.
    """
    for first in net.of("ConvTranspose"):
        relu = net.only_user(first.output[0], "Relu")
        second = net.only_user(relu.output[0], "ConvTranspose") if relu else None
        sigmoid = net.only_user(second.output[0], "Sigmoid") if second else None
        if second is None or sigmoid is None or not all(map(_doubles, (first, second))):
            continue
        wide, narrow = net.weights[first.input[1]], net.weights[second.input[1]]
        inner, outer = narrow.shape[:2]
        quarters = wide.transpose(2, 3, 1, 0).reshape(4 * inner, -1, 1, 1)
        places = np.zeros((2, 2, 2, 2, outer, 2, 2, inner), np.float32)
        for down, right in np.ndindex(2, 2):
            places[down, :, right, :, :, down, right] = narrow.transpose(2, 3, 1, 0)
        for node, kernel, times in (
            (first, quarters, 4),
            (second, places.reshape(16 * outer, 4 * inner, 1, 1), 16),
        ):
            net.change(node, 1, kernel)
            net.change(node, 2, np.tile(net.weights[node.input[2]], times))
            node.op_type = "Conv"
            del node.attribute[:]
        squares = f"{sigmoid.output[0]}.squares"
        reordered = helper.make_node("DepthToSpace", [squares], list(sigmoid.output), blocksize=4)
        sigmoid.output[0] = squares
        net.replace(sigmoid, sigmoid, reordered)


def flatten_classes(net: Net) -> None:
    """Turn the classifier of every time step of every line into one matrix product.

    The source network has a product for each line, and a pass over all scores for the bias.
    """
    for product in net.of("MatMul"):
        add = net.only_user(product.output[0], "Add")
        if add is None or net.only_user(add.output[0], "Softmax") is None:
            continue
        name = partner(add, product.output[0])
        steps, kernel = product.input[0], net.weights.get(product.input[1])
        bias = net.weights.get(name)
        if kernel is None or bias is None or kernel.ndim != 2 or bias.ndim != 1:
            continue
        of = f"{add.output[0]}."
        flat = helper.make_node("Reshape", [steps], [of + "flat"])
        net.change(flat, 1, np.array([-1, len(kernel)]))
        scores = helper.make_node("Gemm", [flat.output[0], product.input[1], name], [of + "scores"])
        shape = helper.make_node("Shape", [steps], [of + "shape"])
        outer = helper.make_node("Slice", [shape.output[0]], [of + "outer"])
        net.change(outer, 1, np.array([0]))
        net.change(outer, 2, np.array([-1]))
        full = helper.make_node("Concat", [outer.output[0]], [of + "full"], axis=0)
        net.change(full, 1, np.array([len(bias)]))
        back = helper.make_node("Reshape", [scores.output[0], full.output[0]], list(add.output))
        net.replace(add, flat, scores, shape, outer, full, back)


RULES = (
    decode_weights,
    join_biases,
    drop_dead_channels,
    join_gates,
    split_concatenations,
    fill_blocks,
    flatten_last_layers,
    flatten_classes,
)


def _source(net: Net, tensor: str) -> onnx.NodeProto | None:
    """Return the convolution that activations alone separate from a tensor, if unshared."""
    derived, sources, waiting = {tensor}, set[str](), [tensor]
    while waiting:
        name = waiting.pop()
        node = net.maker(name)
        if node is None:
            if name not in net.weights or net.weights[name].size != 1:
                return None
        elif node.op_type in POINTWISE:
            waiting.extend(each for each in node.input if each not in derived)
            derived.update(node.output)
        elif net.kernel(node) is not None:
            sources.add(name)
        else:
            return None
    inner = (derived | sources) - {tensor}
    leave = any(user.output[0] not in derived for name in inner for user in net.users(name))
    if len(sources) != 1 or leave or len(net.users(tensor)) != 1:
        return None
    return net.maker(sources.pop())


def _convolution(net: Net, tensor: str) -> onnx.NodeProto | None:
    """Return the convolution that a tensor comes from, through rectifiers and pooling."""
    node = net.maker(tensor)
    while node is not None and node.op_type in {"Relu", "MaxPool"}:
        node = net.maker(node.input[0])
    return node if node is not None and net.kernel(node) is not None else None


def _doubles(node: onnx.NodeProto) -> bool:
    """Return whether a transposed convolution maps each pixel to a 2 x 2 square, with a bias."""
    plain = all(
        list(option(node, name, usual)) == usual
        for name, usual in (("pads", [0] * 4), ("dilations", [1, 1]), ("output_padding", [0, 0]))
    )
    sides = [list(option(node, name, ())) for name in ("kernel_shape", "strides")]
    return plain and sides == [[2, 2]] * 2 and option(node, "group", 1) == 1 and len(node.input) > 2
