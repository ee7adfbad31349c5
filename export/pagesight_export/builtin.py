"""The built-in encoder: a text detector's backbone, the page's colours and an ImageNet network.

    pixels uint8 [N,640,320,3] RGB
      ├─ BGR, (x/255 - mean)/std ─> backbone ─> tap [N,384,20,10] ─> mean over a 4x2 grid
      │                              ─> unit length ─> fixed random projection [N,312] ─┐
      ├─ mean over 4x4 cells ─> hue histogram, 4 bands x 18 bins, log1p [N,72] ─────────┴─> unit ┐
      │                                                                     layout, colour [N,384]
      └─ 448x224, EfficientNet-Lite0, mean ─────────────────────> unit length, objects [N,1280] ─┤
                                                                      unit, embedding [N,1664] <─┘

It exists so that a demo, the tests and small machines need neither torch nor a model hub: both
networks are inside wheels. Layout of text and boxes is what tells pages apart, and that is what a
text detector has learnt to see. It is nearly blind to colour, which is what tells brands apart,
hence the histogram; and to what is neither text nor box, such as pictures, icons and drawings,
hence the network that has learnt to tell things apart. docs/bundles.md has what each half finds.

The projection is signs from SHAKE-256 of a fixed text: the same bits on every machine and with
every version of numpy. Random signs preserve angles as well as Gaussian numbers do
(Achlioptas, Database-friendly random projections, 2003).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from pagesight_export import efficientnet, graph
from pagesight_export.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import ModelProto

HEIGHT, WIDTH = 640, 320
"""Pixels the server resizes each picture to: about the shape of a phone's screen."""
STRIDE, CHANNELS = 32, 384
"""Stride and channels of the last stage of the detector's backbone."""
GRID = (4, 2)
"""Rows and columns of the grid that the visual part is pooled to."""
PROJECTED = 312
"""Values of the text detector's part; with the colour values 384."""
BANDS, HUES = 4, 18
"""Horizontal bands of the colour part and hue bins of 20 degrees in each."""
LAYOUT = PROJECTED + BANDS * HUES
"""Values of the half that sees layout and colour."""
DIMENSION = LAYOUT + efficientnet.CHANNELS
"""Values of an embedding: 64 times 26, so that product quantisation can take 64 parts."""
OBJECTS_SIZE = (448, 224)
"""Rows and columns that EfficientNet-Lite0 sees: a page's shape, at the width it was trained on."""
CELL = 4
"""Side of the cells averaged before hues are counted: 16 times less work, fewer fringes."""
CHROMA_FLOOR = 0.03
"""Chroma (0 to 1) that counts as grey, so that JPEG noise on a grey page has no colour."""
COLOUR_WEIGHT = 0.8
"""Length of the colour part against 1 for the text detector's. Any weight from 0.4 to 1.2 finds the
same pages on real screenshots within the error of the measurement; without colour, fewer."""
PROJECTION_SEED = "pagesight built-in encoder projection 1"


def projection() -> NDArray[np.float32]:
    """Return the random projection, `[CHANNELS * rows * columns, PROJECTED]`, entries +-1."""
    rows = CHANNELS * GRID[0] * GRID[1]
    stream = hashlib.shake_256(PROJECTION_SEED.encode()).digest(rows * PROJECTED // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8)).reshape(rows, PROJECTED)
    return bits.astype(np.float32) * np.float32(2) - np.float32(1)


def build(
    detector: ModelProto,
    lite0: Mapping[str, NDArray[Any]],
    *,
    mean: list[float],
    std: list[float],
    colour: float = COLOUR_WEIGHT,
) -> ModelProto:
    """Make the encoder from a text detector and EfficientNet-Lite0.

    Args:
        detector: The detection network, input `[N,3,H,W]` float32 BGR.
        lite0: EfficientNet-Lite0's weights under their names in its checkpoint.
        mean: Subtracted from each BGR channel after division by 255.
        std: Divides each channel after that.
        colour: Length of the colour part against 1 for the text detector's.

    Raises:
        SourceError: the detector has no backbone stage like the one this encoder taps, or a
            weight of EfficientNet-Lite0 is absent or of another shape.
    """
    if not 0 <= colour <= 1:
        raise SourceError(f"the colour weight must be between 0 and 1, got {colour}")
    tap = graph.residual_tap(detector, height=HEIGHT, width=WIDTH, channels=CHANNELS, stride=STRIDE)
    front = graph.Writer("front")
    levels = front.op("Cast", front.op("Transpose", "pixels", perm=[0, 3, 1, 2]), to=graph.FLOAT)
    rgb = front.op("Mul", levels, front.number(1 / 255))
    bgr = front.op("Gather", rgb, front.shape(2, 1, 0), axis=1)
    feed = front.op(
        "Div",
        front.op("Sub", bgr, front.constant(_per_channel(mean))),
        front.constant(_per_channel(std)),
    )

    back = graph.Writer("back")
    visual = _visual(back, tap)
    colours = back.op("Mul", back.unit_length(_hues(back, rgb)), back.number(colour))
    layout = back.unit_length(back.op("Concat", visual, colours, axis=1))
    seen = efficientnet.features(back, back.resized(levels, OBJECTS_SIZE), lite0)
    both = back.op("Concat", layout, back.unit_length(seen), axis=1)
    back.unit_length(both, output="embedding")
    return graph.splice(
        detector,
        name="pagesight-builtin-encoder",
        front=front,
        feed=feed,
        back=back,
        inputs=[graph.tensor("pixels", graph.UINT8, ["N", HEIGHT, WIDTH, 3])],
        outputs=[graph.tensor("embedding", graph.FLOAT, ["N", DIMENSION])],
    )


def _per_channel(values: list[float]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32).reshape(3, 1, 1)


def _visual(w: graph.Writer, tap: str) -> str:
    """Turn the tapped features into `[N, PROJECTED]` of unit length."""
    kernel = [HEIGHT // STRIDE // GRID[0], WIDTH // STRIDE // GRID[1]]
    grid = w.op("AveragePool", tap, kernel_shape=kernel, strides=kernel)
    flat = w.op("Flatten", grid, axis=1)
    return w.unit_length(w.op("MatMul", w.unit_length(flat), w.constant(projection())))


def _hues(w: graph.Writer, rgb: str) -> str:
    """Count hues, `[N, BANDS * HUES]`, band by band from the top; red is in the middle of bin 0.

    The value is log1p of the pixels' summed votes. A cell votes for its `CELL * CELL` pixels
    with its chroma, which is saturation times value, and shares its vote between the two
    nearest bins: a hue on a border between bins would jump with every re-compression.
    """
    cells = w.op("AveragePool", rgb, kernel_shape=[CELL, CELL], strides=[CELL, CELL])
    red, green, blue = (w.op("Gather", cells, w.shape(i), axis=1) for i in range(3))
    top = w.op("ReduceMax", cells, axes=[1], keepdims=1)
    chroma = w.op("Sub", top, w.op("ReduceMin", cells, axes=[1], keepdims=1))
    spread = w.op("Max", chroma, w.number(1e-6))

    def sextant(first: str, second: str, offset: float) -> str:
        part = w.op("Div", w.op("Sub", first, second), spread)
        return w.op("Add", part, w.number(offset))

    hue = w.op(
        "Where",
        w.op("Equal", top, red),
        sextant(green, blue, 0),
        w.op(
            "Where",
            w.op("Equal", top, green),
            sextant(blue, red, 2),
            sextant(red, green, 4),
        ),
    )
    centres = w.constant(np.arange(HUES, dtype=np.float32).reshape(HUES, 1, 1))
    away = w.op("Abs", w.op("Sub", w.op("Mul", hue, w.number(HUES / 6)), centres))
    around = w.op("Abs", w.op("Sub", w.number(HUES), away))
    share = w.op("Relu", w.op("Sub", w.number(1), w.op("Min", away, around)))
    weight = w.op("Relu", w.op("Sub", chroma, w.number(CHROMA_FLOOR)))
    votes = w.op("Mul", share, w.op("Mul", weight, w.number(CELL * CELL)))
    area = HEIGHT // CELL * (WIDTH // CELL) // BANDS
    by_band = w.op("Reshape", votes, w.shape(-1, HUES, BANDS, area))
    counts = w.op("Transpose", w.op("ReduceSum", by_band, axes=[3], keepdims=0), perm=[0, 2, 1])
    return w.op("Log", w.op("Add", w.op("Flatten", counts, axis=1), w.number(1)))
