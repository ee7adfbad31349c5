"""INT8 for machines without a GPU: weights as 8-bit integers, activations quantised as they come.

Dynamic, because a static range needs pictures like the operator's own. Weights are rounded for
each output channel and to 7 bits: on processors without VNNI the 8-bit products of two values
saturate, and a bundle must answer the same wherever it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from pagesight_export.torch_encoder import quiet, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def quantise(path: Path, *, keep_fp32: Sequence[str]) -> None:
    """Turn an FP32 graph's products with constant weights into INT8, in place.

    Args:
        path: The ONNX file; its data file lies beside it.
        keep_fp32: Parts of names of nodes to leave alone.
    """
    names = [node.name for node in onnx.load(path, load_external_data=False).graph.node]
    rough = path.with_name("int8.onnx")
    with quiet():
        quantize_dynamic(
            path,
            rough,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[name for name in names if any(part in name for part in keep_fp32)],
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True},
        )
    graph = onnx.load(rough)
    for stale in rough.parent.glob(f"{rough.name}*"):
        stale.unlink()
    save(graph, path)
