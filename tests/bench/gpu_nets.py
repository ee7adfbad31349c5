"""Small convolution networks, to see what a change of the input's shape costs.

    pixels (batch, 3, height, width) ──> 16 x (3 x 3 convolution, 64 channels, ReLU) ──> mean

Any height and width will do. Needs `onnx`, so `gpu_carry` makes them for machines without it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

LAYERS = 16
"""Convolutions of a network."""
CHANNELS = 64


def file_name(*, half: bool) -> str:
    """The name of the network that computes in FP16, or in FP32."""
    return f"convolutions-{'fp16' if half else 'fp32'}.onnx"


def write(folder: Path) -> None:
    """Writes both networks into a folder."""
    for half in (False, True):
        _write(folder / file_name(half=half), half=half)


def _write(path: Path, *, half: bool) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    draw = np.random.default_rng(7)
    nodes = [helper.make_node("Cast", ["pixels"], ["layer0"], to=kind)]
    weights = []
    for number in range(LAYERS):
        inputs = 3 if number == 0 else CHANNELS
        # He initialisation keeps the values of all layers within FP16.
        drawn = draw.standard_normal((CHANNELS, inputs, 3, 3)) * (2 / (9 * inputs)) ** 0.5
        weights.append(numpy_helper.from_array(drawn.astype(dtype), f"weights{number}"))
        nodes += [
            helper.make_node(
                "Conv",
                [f"layer{number}", f"weights{number}"],
                [f"sums{number}"],
                kernel_shape=[3, 3],
                pads=[1, 1, 1, 1],
            ),
            helper.make_node("Relu", [f"sums{number}"], [f"layer{number + 1}"]),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"layer{LAYERS}"], ["mean"]),
        helper.make_node("Cast", ["mean"], ["means"], to=TensorProto.FLOAT),
    ]
    shape = ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, ["batch", CHANNELS, 1, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
