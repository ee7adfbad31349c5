"""EfficientNet-Lite0's nodes against a second writing of the network, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import helper

from pagesight_export import efficientnet, golden, graph, sources, torch_file
from pagesight_export.errors import SourceError
from pagesight_export.runtime import Graph
from pagesight_export.sources import LITE0

Floats = NDArray[np.float64]
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the 16 blocks: table 1 of Tan and Le (2019) with the repeats of B0, 1 2 2 3 3 4 1."""


@cache
def weights() -> Mapping[str, NDArray[Any]]:
    return torch_file.read(sources.weights(LITE0), LITE0.file)


def network(held: Mapping[str, NDArray[Any]]) -> Graph:
    w = graph.Writer("test")
    answer = efficientnet.features(w, "pixels", held)
    made = helper.make_graph(
        w.nodes,
        "lite0",
        [graph.tensor("pixels", graph.FLOAT, ["N", 3, "H", "W"])],
        [graph.tensor(answer, graph.FLOAT, ["N", 1280])],
        w.constants,
    )
    opset = helper.make_opsetid("", graph.OLDEST_OPSET)
    return Graph(graph.to_bytes(helper.make_model(made, opset_imports=[opset], ir_version=8)))


def answer(pixels: NDArray[np.float32]) -> NDArray[np.generic]:
    (values,) = network(weights()).run({"pixels": pixels}).values()
    return values


def convolved(x: Floats, kernel: NDArray[Any], stride: int) -> Floats:
    """Multiply the kernel with each patch of `x`, `[C,H,W]`, padded as TensorFlow's SAME."""
    side = kernel.shape[2]
    pads = [(0, 0)]
    for length in x.shape[1:]:
        missing = max((-(-length // stride) - 1) * stride + side - length, 0)
        pads.append((missing // 2, missing - missing // 2))
    patches = sliding_window_view(np.pad(x, pads), (side, side), axis=(1, 2))
    patches = patches[:, ::stride, ::stride]
    if kernel.shape[1] == 1 and len(x) == len(kernel) > 1:
        result: Floats = np.einsum("chwij,cij->chw", patches, kernel[:, 0])
    else:
        result = np.einsum("chwij,ocij->ohw", patches, kernel)
    return result


def normalised(x: Floats, held: Mapping[str, NDArray[Any]], name: str) -> Floats:
    gamma, beta, mean, variance = (
        held[f"{name}.{part}"].astype(np.float64)[:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    result: Floats = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    return result


def relu6(x: Floats) -> Floats:
    return np.clip(x, 0, 6)


def reference(pixels: Floats) -> Floats:
    """Run the network, `[3,H,W]` to `[1280]`, with its normalisations apart."""
    held = weights()
    x = convolved((pixels - 127) / 128, held["_conv_stem.weight"], 2)
    x = relu6(normalised(x, held, "_bn0"))
    for number, stride in enumerate(STRIDES):
        at, y = f"_blocks.{number}", x
        if number:
            y = convolved(y, held[f"{at}._expand_conv.weight"], 1)
            y = relu6(normalised(y, held, f"{at}._bn0"))
        y = convolved(y, held[f"{at}._depthwise_conv.weight"], stride)
        y = relu6(normalised(y, held, f"{at}._bn1"))
        y = normalised(convolved(y, held[f"{at}._project_conv.weight"], 1), held, f"{at}._bn2")
        x = x + y if x.shape == y.shape else y
    x = relu6(normalised(convolved(x, held["_conv_head.weight"], 1), held, "_bn1"))
    mean: Floats = x.mean(axis=(1, 2))
    return mean


@pytest.mark.parametrize(
    ("height", "width"), [(96, 64), pytest.param(75, 46, id="sides that stride 2 does not divide")]
)
def test_the_graph_answers_as_the_network_written_in_numpy(height: int, width: int) -> None:
    page = golden.pages(160, 96)[1][:height, :width].transpose(2, 0, 1).astype(np.float32)

    found = answer(page[None])[0]

    wanted = reference(page.astype(np.float64))
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def stem_spread(kernel: NDArray[Any]) -> float:
    """Correlate, over channels, how much the stem varies on drawn pages with |gamma|.

    Batch normalisation makes each channel's deviation |gamma| on what the network was trained on.
    """
    held = {**weights(), "_conv_stem.weight": kernel}
    stem = next(efficientnet.blocks()).convolutions[0]
    folded, _ = stem.folded(held)
    pages = [page.transpose(2, 0, 1).astype(np.float64) for page in golden.pages(448, 224)]
    outputs = [convolved((page - 127) / 128, folded, 2).reshape(32, -1) for page in pages]
    spread = np.concatenate(outputs, axis=1).std(axis=1)
    return float(np.corrcoef(spread, np.abs(held["_bn0.weight"]))[0, 1])


def test_the_stem_varies_as_its_normalisation_says_that_it_did_in_training() -> None:
    stem = weights()["_conv_stem.weight"]

    assert stem_spread(stem) > 0.8
    # As a reader takes it that ignores strides: TensorFlow's order is row, column, in, out.
    mistaken = np.ascontiguousarray(stem.transpose(2, 3, 1, 0)).reshape(stem.shape)
    assert stem_spread(mistaken) < 0.5


def test_a_network_without_a_weight_is_refused() -> None:
    held = {name: value for name, value in weights().items() if name != "_blocks.7._bn1.bias"}

    with pytest.raises(SourceError, match=r"_blocks\.7\._bn1\.bias is absent, need \(480,\)"):
        network(held)


def test_a_weight_of_another_shape_is_refused() -> None:
    held = {**weights(), "_conv_head.weight": np.zeros((1280, 320, 3, 3), np.float32)}

    with pytest.raises(SourceError, match=r"_conv_head\.weight is \(1280, 320, 3, 3\), need"):
        network(held)
