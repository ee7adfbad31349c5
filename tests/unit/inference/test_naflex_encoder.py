"""The server's encoder over a NaFlex bundle small enough to write by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from pagesight_export import feeds, golden, graph
from pagesight_export.bundle import GOLDEN, Manifest
from pagesight_export.folder import Draft, write
from pagesight_export.runtime import Graph
from pagesight_server.common.errors import SetupError
from pagesight_server.inference.bundle import load
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.settings import Compute

GEOMETRY = {"geometry": "naflex", "patch_size": 2, "max_num_patches": 12}
BILINEAR = {"resize": {"library": "pillow", "interpolation": "bilinear"}}
BYTES = 2 * 2 * 3


def mean_of_patches() -> bytes:
    """Make a graph that answers the mean of a picture's own patches, of unit length."""
    w = graph.Writer("mean")
    mask = w.op("Unsqueeze", w.op("Cast", "mask", to=graph.FLOAT), axes=[2])
    total = w.op("ReduceSum", w.op("Mul", w.op("Cast", "patches", to=graph.FLOAT), mask),
                 axes=[1], keepdims=0)  # fmt: skip
    count = w.op("ReduceProd", w.op("Cast", "shapes", to=graph.FLOAT), axes=[1], keepdims=1)
    w.unit_length(w.op("Div", total, count), output="embedding")
    bool_type = 9  # onnx.TensorProto.BOOL
    made = helper.make_graph(
        w.nodes,
        "mean",
        [
            graph.tensor("patches", graph.UINT8, ["N", "P", BYTES]),
            graph.tensor("mask", bool_type, ["N", "P"]),
            graph.tensor("shapes", graph.INT64, ["N", 2]),
        ],
        [graph.tensor("embedding", graph.FLOAT, ["N", BYTES])],
        w.constants,
    )
    opset = helper.make_opsetid("", 11)
    return graph.to_bytes(helper.make_model(made, opset_imports=[opset], ir_version=8))


def bundle(folder: Path, **changes: Any) -> Path:
    model = mean_of_patches()
    pictures = [np.full((6, 4, 3), 80, dtype=np.uint8)]
    pairs = golden.answer("model", Graph(model), [feeds.prepare(GEOMETRY, BILINEAR, pictures)])
    manifest = Manifest(
        kind="encoder",
        name="mean",
        source={"checkpoint": "by hand", "revision": "1"},
        dtype="float32",
        opset=11,
        input=GEOMETRY,
        preprocessing=BILINEAR,
        embedding_dim=BYTES,
        files={},
        tolerance={"embedding": 1e-4},
        versions={},
    )
    contents = {"model.onnx": model, GOLDEN: golden.pack(pairs)}
    write(Draft(manifest=replace(manifest, **changes), contents=contents), folder)
    return folder


def encoder(folder: Path) -> Encoder:
    return Encoder(load(folder, "encoder"), Compute(device="cpu", threads=1))


def test_pictures_of_mixed_shapes_are_embedded_in_one_batch(tmp_path: Path) -> None:
    red = np.zeros((60, 40, 3), dtype=np.uint8)
    red[..., 0] = 200
    grey = np.full((10, 90, 3), 7, dtype=np.uint8)

    found = encoder(bundle(tmp_path / "encoder")).encode([red, grey])

    # Every pixel is red: four of the twelve bytes, each 1 / sqrt(4). Grey: 1 / sqrt(12).
    assert np.allclose(found[0], np.tile([0.5, 0, 0], 4), atol=1e-6)
    assert np.allclose(found[1], 12**-0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({"embedding_dim": 8}, "gives embeddings of 12 values", id="dimension"),
        pytest.param({"input": {"geometry": "spiral"}}, "'spiral'", id="geometry"),
        pytest.param(
            {"preprocessing": {"resize": {"library": "magic", "interpolation": "x"}}},
            "upgrade pagesight",
            id="resize",
        ),
        pytest.param({"preprocessing": {}}, "resize None", id="no resize"),
    ],
)
def test_a_bundle_that_this_server_cannot_serve_is_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    folder = bundle(tmp_path / "encoder", **changes)

    with pytest.raises(SetupError, match=complaint):
        encoder(folder)
