"""Bundles as the export has them before they are on disk, of a graph that is made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import helper

from pagesight_export import golden, graph
from pagesight_export.bundle import GOLDEN, Manifest
from pagesight_export.folder import Draft
from pagesight_export.runtime import Graph


def doubling() -> bytes:
    """Make a graph that doubles two numbers."""
    w = graph.Writer("tiny")
    w.op("Mul", "pixels", w.number(2), output="embedding")
    made = helper.make_graph(
        w.nodes,
        "tiny",
        [graph.tensor("pixels", graph.FLOAT, ["N", 2])],
        [graph.tensor("embedding", graph.FLOAT, ["N", 2])],
        w.constants,
    )
    opset = helper.make_opsetid("", 11)
    return graph.to_bytes(helper.make_model(made, opset_imports=[opset], ir_version=8))


def draft(**changes: Any) -> Draft:
    """An encoder that doubles; changes are those of its manifest."""
    model = doubling()
    cases = [{"pixels": np.array([[1, 2]], dtype=np.float32)}]
    manifest = Manifest(
        kind="encoder",
        name="double",
        source={"checkpoint": "by hand", "revision": "1"},
        dtype="float32",
        opset=11,
        input={"geometry": "fixed"},
        preprocessing={"resize": {"library": "opencv", "interpolation": "area"}},
        embedding_dim=2,
        files={},
        tolerance={"embedding": 1e-3},
        versions={"numpy": "2"},
    )
    pairs = golden.pack(golden.answer("model", Graph(model), cases))
    return Draft(
        manifest=replace(manifest, **changes), contents={"model.onnx": model, GOLDEN: pairs}
    )
