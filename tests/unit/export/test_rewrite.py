"""Rewritten networks say what the original says; and each rule does what it is for."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pagesight_export import golden, graph, rewrite, sources

Weights = dict[str, NDArray[Any]]
RNG = np.random.default_rng(5)
PICTURE = RNG.standard_normal((2, 3, 12, 20)).astype(np.float32)


def network(nodes: list[onnx.NodeProto], weights: Weights, *, opset: int = 11) -> onnx.ModelProto:
    """From `x`, a picture of three channels, to `y`."""
    made = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["A", "B", "C", "D"])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def some(*shape: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = RNG.standard_normal(shape, np.float32)
    return values / np.float32(np.sqrt(np.prod(shape[1:])))


def run(model: onnx.ModelProto, picture: NDArray[Any] = PICTURE) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (answer,) = session.run(None, {model.graph.input[0].name: picture})
    return np.asarray(answer)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def kernels(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Of the convolutions, in order."""
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    return [shapes[one.input[1]] for one in model.graph.node if one.op_type == "Conv"]


def same(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network rewritten, which must be valid, answer alike and leave the original alone."""
    before = model.SerializeToString()
    made = rewrite.cheaper(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(run(made), run(model), rtol=1e-5, atol=1e-5)
    return made


def unchanged(model: onnx.ModelProto) -> bool:
    made = same(model)
    return kinds(made) == kinds(model) and kernels(made) == kernels(model)


GELU = [
    node("Div", "h root", "h1"),
    node("Erf", "h1", "h2"),
    node("Add", "h2 one", "h3"),
    node("Mul", "h h3", "h4"),
    node("Mul", "h4 half", "g"),
]
GELU_NUMBERS: Weights = {
    "root": np.array(np.sqrt(2), np.float32),
    "one": np.array(1, np.float32),
    "half": np.array([0.5], np.float32),
}


def perceptron(dead: int, *more: onnx.NodeProto, hidden: int = 40) -> onnx.ModelProto:
    """Two convolutions with GELU between, of which some hidden channels are used by nothing."""
    second = some(5, hidden, 1, 1)
    second[:, RNG.permutation(hidden)[:dead]] = 1e-36
    weights = {"a": some(hidden, 3, 1, 1), "b": some(hidden), "c": second} | GELU_NUMBERS
    last = "z" if more else "y"
    nodes = [node("Conv", "x a b", "h"), *GELU, node("Conv", "g c", last), *more]
    return network(nodes, weights)


@pytest.mark.parametrize("way", ["a cast and a scale", "dequantised"])
def test_weights_in_eight_bits_become_numbers_that_the_other_rules_see(way: str) -> None:
    stored = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    weights: Weights = {"s": stored, "b": some(1, 4, 1, 1)}
    if way == "dequantised":
        weights |= {"scale": np.array(0.02, np.float32), "zero": np.array(3, np.int8)}
        decoding = [node("DequantizeLinear", "s scale zero", "a")]
        wanted = (stored.astype(np.float32) - 3) * np.float32(0.02)
    else:
        weights["scale"] = np.full((4, 1, 1, 1), 0.01, np.float32)
        decoding = [node("Cast", "s", "f", to=TensorProto.FLOAT), node("Mul", "f scale", "a")]
        wanted = stored.astype(np.float32) * np.float32(0.01)
    nodes = [*decoding, node("Conv", "x a", "h"), node("Add", "h b", "y")]

    made = same(network(nodes, weights))

    assert kinds(made) == Counter(Conv=1)
    (kernel,) = (numpy_helper.to_array(one) for one in made.graph.initializer if one.name == "a")
    np.testing.assert_array_equal(kernel, wanted)


def test_a_constant_for_each_channel_becomes_a_bias_and_identities_go() -> None:
    nodes = [
        node("Conv", "x a", "h"),
        node("Identity", "h", "h1"),
        node("Identity", "h1", "h2"),
        node("Add", "b h2", "y"),
    ]
    made = same(network(nodes, {"a": some(4, 3, 3, 3), "b": some(1, 4, 1, 1)}))
    assert kinds(made) == {"Conv": 1}


def test_a_sum_with_what_is_no_bias_stays() -> None:
    nodes = [node("Conv", "x a", "h"), node("Add", "h b", "y")]
    one_for_each_column = {"a": some(4, 3, 1, 1), "b": some(1, 1, 1, 20)}
    assert unchanged(network(nodes, one_for_each_column))
    twice = [node("Conv", "x a", "h"), node("Add", "h b", "s"), node("Mul", "h s", "y")]
    assert unchanged(network(twice, {"a": some(4, 3, 1, 1), "b": some(1, 4, 1, 1)}))


@pytest.mark.parametrize(("dead", "left"), [(0, 40), (7, 40), (8, 32), (20, 32), (30, 16)])
def test_hidden_channels_that_nothing_uses_go_as_far_as_blocks_stay_full(
    dead: int, left: int
) -> None:
    assert kernels(same(perceptron(dead))) == [(left, 3, 1, 1), (5, left, 1, 1)]


@pytest.mark.parametrize("inner", ["h", "h2", "g"])
def test_hidden_channels_that_something_else_uses_stay(inner: str) -> None:
    more = [node("ReduceMean", inner, "m", axes=[1]), node("Add", "z m", "y")]
    assert kernels(same(perceptron(30, *more))) == [(40, 3, 1, 1), (5, 40, 1, 1)]


def test_hidden_channels_of_a_convolution_in_groups_stay() -> None:
    second = np.zeros((32, 1, 3, 3), np.float32)
    weights = {"a": some(32, 3, 1, 1), "b": second}
    nodes = [node("Conv", "x a", "h"), node("Conv", "h b", "y", group=32)]
    assert unchanged(network(nodes, weights))


def test_weights_that_are_shared_change_for_one_alone() -> None:
    second = some(5, 40, 1, 1)
    second[:, :24] = 0
    nodes = [
        node("Conv", "x a", "h"),
        node("Relu", "h", "r"),
        node("Conv", "r c", "p"),
        node("Conv", "x a", "k"),
        node("Conv", "k d", "q"),
        node("Add", "p q", "y"),
    ]
    weights = {"a": some(40, 3, 1, 1), "c": second, "d": some(5, 40, 1, 1)}
    assert kernels(same(network(nodes, weights))) == [
        (16, 3, 1, 1),
        (5, 16, 1, 1),
        (40, 3, 1, 1),
        (5, 40, 1, 1),
    ]


def test_a_sum_or_product_with_itself_is_no_bias_and_a_gate() -> None:
    nodes = [
        node("Conv", "x a", "h"),
        node("Add", "h h", "s"),
        node("Mul", "s s", "p"),
        node("Add", "s p", "y"),
    ]
    made = same(network(nodes, {"a": some(4, 3, 1, 1)}))
    assert [one.op_type for one in made.graph.node] == ["Conv", "Add", "Add", "Mul"]


@pytest.mark.parametrize("product_first", [False, True])
def test_a_gate_raises_its_factor_and_not_every_pixel(product_first: bool) -> None:
    nodes = [
        node("Conv", "x a", "h"),
        node("GlobalAveragePool", "h", "m"),
        node("HardSigmoid", "m", "s"),
        node("Mul", "h s", "p"),
        node("Add", "p h" if product_first else "h p", "y"),
    ]
    made = same(network(nodes, {"a": some(4, 3, 1, 1)}))
    assert [one.op_type for one in made.graph.node][-2:] == ["Add", "Mul"]
    (raised,) = (one for one in made.graph.node if one.op_type == "Add")
    assert "h" not in raised.input


def test_a_product_that_something_else_uses_stays() -> None:
    nodes = [
        node("HardSigmoid", "x", "s"),
        node("Mul", "x s", "p"),
        node("Add", "x p", "q"),
        node("Mul", "p q", "y"),
    ]
    assert unchanged(network(nodes, {}))


def joined(first: int, second: int) -> onnx.ModelProto:
    nodes = [
        node("Conv", "x a", "h"),
        node("Relu", "h", "h1"),
        node("MaxPool", "h1", "h2", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
        node("Conv", "x b", "k"),
        node("Concat", "h2 k h1", "j", axis=1),
        node("Conv", "j c d", "y", pads=[1, 1, 1, 1], strides=[2, 2]),
    ]
    weights = {
        "a": some(first, 3, 1, 1),
        "b": some(second, 3, 1, 1),
        "c": some(7, 2 * first + second, 3, 3),
        "d": some(7),
    }
    return network(nodes, weights)


def test_a_convolution_of_joined_parts_that_fill_no_block_becomes_a_sum() -> None:
    made = same(joined(24, 8))
    assert kinds(made) == {"Conv": 5, "Relu": 1, "MaxPool": 1, "Add": 2}
    assert kernels(made)[2:] == [(7, 24, 3, 3), (7, 8, 3, 3), (7, 24, 3, 3)]


def test_joined_parts_that_fill_their_blocks_stay_joined() -> None:
    assert unchanged(joined(16, 32))


def test_joined_parts_that_were_not_convolved_stay_joined() -> None:
    nodes = [
        node("Conv", "x a", "h"),
        node("Concat", "h x", "j", axis=1),
        node("Conv", "j c", "y"),
    ]
    assert unchanged(network(nodes, {"a": some(24, 3, 1, 1), "c": some(7, 27, 1, 1)}))


def between(channels: int, side: int) -> onnx.ModelProto:
    nodes = [node("Conv", "x a b", "h"), node("Relu", "h", "r"), node("Conv", "r c", "y")]
    weights = {
        "a": some(channels, 3, 2, 2),
        "b": some(channels),
        "c": some(24, channels, side, side),
    }
    return network(nodes, weights)


def test_the_only_block_between_two_convolutions_is_filled() -> None:
    assert kernels(same(between(12, 2))) == [(16, 3, 2, 2), (24, 16, 2, 2)]


@pytest.mark.parametrize(("channels", "side"), [(12, 1), (16, 2), (24, 2)])
def test_a_block_is_not_filled_where_that_saves_nothing(channels: int, side: int) -> None:
    assert unchanged(between(channels, side))


def doubled_twice(**changed: Any) -> onnx.ModelProto:
    shape: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("ConvTranspose", "x a b", "h", **shape),
        node("Relu", "h", "r"),
        node("ConvTranspose", "r c d", "z", **(shape | changed)),
        node("Sigmoid", "z", "y"),
    ]
    return network(
        nodes, {"a": some(3, 4, 2, 2), "b": some(4), "c": some(4, 5, 2, 2), "d": some(5)}
    )


def test_two_doublings_become_convolutions_of_single_pixels() -> None:
    made = same(doubled_twice())
    assert kinds(made) == {"Conv": 2, "Relu": 1, "Sigmoid": 1, "DepthToSpace": 1}
    assert kernels(made) == [(16, 3, 1, 1), (80, 16, 1, 1)]


@pytest.mark.parametrize("changed", [{"strides": [1, 1]}, {"pads": [1, 1, 1, 1]}])
def test_transposed_convolutions_whose_squares_overlap_stay(changed: dict[str, Any]) -> None:
    assert unchanged(doubled_twice(**changed))


def scored(**changed: NDArray[Any]) -> onnx.ModelProto:
    """Each row of a picture is a line of steps."""
    nodes = [
        node("ReduceMean", "x", "m", axes=[1], keepdims=0),
        node("Transpose", "m", "t", perm=[0, 2, 1]),
        node("MatMul", "t a", "p"),
        node("Add", "p b", "s"),
        node("Softmax", "s", "z", axis=2),
        node("Unsqueeze", "z", "y", axes=[1]),
    ]
    return network(nodes, {"a": some(12, 30), "b": some(30)} | changed)


def test_classes_are_scored_in_one_product() -> None:
    made = kinds(same(scored()))
    assert made["Gemm"] == 1
    assert made["MatMul"] == made["Add"] == 0


@pytest.mark.parametrize("changed", [{"a": some(2, 12, 30)}, {"b": some(20, 30)}])
def test_scores_that_are_no_single_product_stay(changed: Weights) -> None:
    assert unchanged(scored(**changed))


@pytest.mark.parametrize("columns", [1, 17, 30, 64, 18710])
def test_the_largest_of_a_row_and_its_place_are_found(columns: int) -> None:
    w = graph.Writer("largest")
    best, place = w.largest("rows", columns)
    w.op("Identity", best, output="best")
    w.op("Identity", place, output="place")
    made = helper.make_graph(
        w.nodes,
        "largest",
        [graph.tensor("rows", graph.FLOAT, ["R", columns])],
        [graph.tensor("best", graph.FLOAT, ["R", 1]), graph.tensor("place", graph.INT64, ["R", 1])],
        w.constants,
    )
    opset = helper.make_opsetid("", graph.OLDEST_OPSET)
    model = helper.make_model(made, opset_imports=[opset], ir_version=graph.IR_VERSION)
    rows = np.random.default_rng(columns).standard_normal((40, columns), np.float32)
    session = ort.InferenceSession(graph.to_bytes(model), providers=["CPUExecutionProvider"])
    values, places = session.run(None, {"rows": rows})
    np.testing.assert_array_equal(places[:, 0], rows.argmax(axis=1))
    np.testing.assert_array_equal(values[:, 0], rows.max(axis=1))


@cache
def detector() -> onnx.ModelProto:
    return graph.load_graph(sources.locate("rapidocr").detection)


def test_the_text_detector_is_rewritten_and_finds_text_where_it_did() -> None:
    made = rewrite.cheaper(detector())
    before, after = kinds(detector()), kinds(made)
    assert before["ConvTranspose"] == 2
    assert after["ConvTranspose"] == after["Identity"] == 0
    assert after["Concat"] == before["Concat"] - 1
    shapes = kernels(made)
    assert {(576, 384, 1, 1), (288, 384, 1, 1)} <= set(shapes), "dead channels"
    assert {(16, 24, 2, 2), (24, 16, 2, 2)} <= set(shapes), "a filled block"
    page = golden.pages(256, 192)[1].transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
    wanted = run(detector(), page)
    assert wanted.max() > 0.9, "the page has text"
    np.testing.assert_allclose(run(made, page), wanted, atol=2e-5)
