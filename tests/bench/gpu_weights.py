"""An encoder without its weights, to be carried to a machine that draws others of the same shape.

    bundle ──strip──> model.onnx without large weights, weights.json, manifest, golden inputs
                        └──draw, on the other machine──> weights.bin, of the same scale

So400m has 857 MB of FP16 weights, which say nothing about its speed. Small tensors stay as they
are: biases, normalisations, whatever is no matrix. `strip` needs `onnx`, `draw` numpy alone.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

RECIPE = "weights.json"
"""What weights.bin holds: a list of its tensors."""
WEIGHTS = "weights.bin"
LARGE = 64 * 1024
"""Bytes from which a tensor is left out."""
ALIGNMENT = 4096
"""ONNX Runtime maps external tensors that begin at a page."""


def strip(bundle: Path, out: Path) -> int:
    """Writes an encoder bundle without its large weights; returns how many bytes are left out.

    Args:
        bundle: Folder of an encoder bundle.
        out: Folder to write to.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    out.mkdir(parents=True, exist_ok=True)
    model = onnx.load(bundle / "model.onnx")
    recipe: list[dict[str, Any]] = []
    offset = 0
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.nbytes < LARGE or values.dtype not in (np.float32, np.float16):
            continue
        recipe.append(
            {
                "offset": offset,
                "count": int(values.size),
                "dtype": str(values.dtype),
                "scale": float(values.astype(np.float32).std()),
            }
        )
        for field in ("raw_data", "float_data", "int32_data"):
            tensor.ClearField(field)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": WEIGHTS, "offset": str(offset), "length": str(values.nbytes)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        offset += -(-values.nbytes // ALIGNMENT) * ALIGNMENT
    (out / "model.onnx").write_bytes(model.SerializeToString())
    (out / RECIPE).write_text(json.dumps({"bytes": offset, "tensors": recipe}), "utf-8")
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    for name in ("manifest.json", manifest["golden"]["file"]):
        shutil.copy(bundle / name, out / name)
    return offset


def draw(folder: Path) -> None:
    """Draws the weights that `strip` left out, unless they are there; always the same."""
    recipe = json.loads((folder / RECIPE).read_text("utf-8"))
    path = folder / WEIGHTS
    if path.is_file() and path.stat().st_size == recipe["bytes"]:
        return
    random = np.random.default_rng(7)
    with path.open("wb") as file:
        for tensor in recipe["tensors"]:
            file.seek(tensor["offset"])
            drawn = tensor["scale"] * random.standard_normal(tensor["count"], dtype=np.float32)
            file.write(drawn.astype(tensor["dtype"]).tobytes())
        file.truncate(recipe["bytes"])
