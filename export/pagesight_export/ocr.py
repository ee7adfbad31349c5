"""OCR graphs that take bytes and give answers: what surrounds the networks goes inside.

    detection    pixels uint8 [N,H,W,3] BGR -> normalise -> network -> probability [N,1,H,W]
                                                 (written anew: `rewrite.py`)

    recognition  crops uint8 [N,48,W,3] BGR -> normalise ─┐
                 widths int64 [N] ─> columns < width ─────┴─> 0 elsewhere -> network [N,T,C]
                                    (written anew)  └─ largest ─┬─> indices [N,T]
                                                                └─> confidences [N,T]

The network's own output is T x C numbers for each crop, C being every Chinese character: about
100 MB for one screenshot. With the best of them found inside, a few kilobytes leave the graph.

The library pads a crop with zeros *after* normalising, and no byte normalises to zero, so the
caller says how wide each crop is and the graph writes the zeros. Normalisation is spelled
operation by operation as in the library, so that the network sees the same bits.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from pagesight_export import graph, rewrite
from pagesight_export.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto

CROP_HEIGHT = 48
"""Height in pixels that the PP-OCR recognition networks are made for."""


def detection(network: ModelProto, *, mean: Sequence[float], std: Sequence[float]) -> ModelProto:
    """Put `(x * (1/255) - mean) / std` in front of a text detection network, and make it cheaper.

    Args:
        network: Input `[N,3,H,W]` float32 BGR, output the probability of text `[N,1,H,W]`.
        mean: For each channel, B first.
        std: For each channel, B first.
    """
    w = graph.Writer("front")
    scaled = w.op("Mul", _channels_first(w, "pixels"), w.number(1 / 255))
    per_channel = (np.array(values, dtype=np.float32).reshape(3, 1, 1) for values in (mean, std))
    centred = w.op("Sub", scaled, w.constant(next(per_channel)))
    feed = w.op("Div", centred, w.constant(next(per_channel)))
    back = graph.Writer("back")
    back.op("Identity", network.graph.output[0].name, output="probability")
    return graph.splice(
        rewrite.cheaper(network),
        name="pagesight-ocr-detection",
        front=w,
        feed=feed,
        back=back,
        inputs=[graph.tensor("pixels", graph.UINT8, ["N", "H", "W", 3])],
        outputs=[graph.tensor("probability", graph.FLOAT, ["N", 1, "H", "W"])],
    )


def recognition(network: ModelProto) -> ModelProto:
    """Put `(x / 255 - 0.5) / 0.5` and padding in front of a recogniser, CTC's best class behind.

    Args:
        network: Input `[N,3,48,W]` float32 BGR, output class probabilities `[N,T,C]`.
    """
    w = graph.Writer("front")
    centred = w.op("Sub", w.op("Div", _channels_first(w, "crops"), w.number(255)), w.number(0.5))
    normalised = w.op("Div", centred, w.number(0.5))
    width = w.op("Gather", w.op("Shape", "crops"), w.constant(np.array(2, dtype=np.int64)), axis=0)
    index = w.op(
        "Range",
        w.constant(np.array(0, dtype=np.int64)),
        width,
        w.constant(np.array(1, dtype=np.int64)),
    )
    limits = w.op("Reshape", "widths", w.shape(-1, 1, 1, 1))
    inside = w.op("Less", index, limits)
    feed = w.op("Where", inside, normalised, w.number(0))
    back = graph.Writer("back")
    scores = network.graph.output[0]
    classes = scores.type.tensor_type.shape.dim[2].dim_value
    rows = back.op("Reshape", scores.name, back.shape(-1, classes))
    best, place = back.largest(rows, classes)
    count = back.op("Slice", back.op("Shape", "crops"), back.shape(0), back.shape(1))
    shape = back.op("Concat", count, back.shape(-1), axis=0)
    back.op("Reshape", best, shape, output="confidences")
    back.op("Reshape", place, shape, output="indices")
    return graph.splice(
        rewrite.cheaper(network),
        name="pagesight-ocr-recognition",
        front=w,
        feed=feed,
        back=back,
        inputs=[
            graph.tensor("crops", graph.UINT8, ["N", CROP_HEIGHT, "W", 3]),
            graph.tensor("widths", graph.INT64, ["N"]),
        ],
        outputs=[
            graph.tensor("indices", graph.INT64, ["N", "T"]),
            graph.tensor("confidences", graph.FLOAT, ["N", "T"]),
        ],
    )


def characters(network: ModelProto) -> list[str]:
    """Return the text of each class: `""` for the CTC blank, the table, and a space.

    The table is the metadata entry `character`, one a line; blank first and space last is the
    libraries' own convention (`CTCLabelDecode.get_character`).

    Raises:
        SourceError: there is no table, or it has not as many entries as the network classes.
    """
    entries = [entry.value for entry in network.metadata_props if entry.key == "character"]
    if len(entries) != 1:
        raise SourceError("the recognition model carries no character table: reinstall its package")
    table = ["", *entries[0].splitlines(), " "]
    classes = network.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    if classes != len(table):
        raise SourceError(
            f"the recognition model has {classes} classes but names {len(table)} characters:"
            " reinstall its package"
        )
    return table


def characters_file(table: Sequence[str]) -> bytes:
    """Write the table as a JSON list: some characters are white space, so lines would not do."""
    return (json.dumps(list(table), ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _channels_first(w: graph.Writer, pixels: str) -> str:
    """Turn uint8 NHWC into float32 NCHW, values 0 to 255."""
    return w.op("Cast", w.op("Transpose", pixels, perm=[0, 3, 1, 2]), to=graph.FLOAT)
