"""Golden pairs: a few inputs and the outputs that a graph must give for them.

    inputs drawn here ─> graph on ONNX Runtime's CPU ─> golden.npz ─> compared wherever it runs

The inputs are drawn in code from gradients, rectangles and OpenCV's built-in strokes: no fonts,
no files, and so regular that a bundle's pairs take some kilobytes.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from pagesight_export.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pagesight_export.runtime import Graph, Tensor, Tensors

    Picture: TypeAlias = NDArray[np.uint8]

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The comparison of one output of one golden case."""

    graph: str
    case: str
    output: str
    difference: float
    """Largest absolute difference; for integers the share of places that differ."""
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the output is what the exporter saw."""
        return self.difference <= self.tolerance


def answer(name: str, graph: Graph, cases: Sequence[Mapping[str, Tensor]]) -> Tensors:
    """Run each case and return inputs and outputs under the names of `golden.npz`."""
    return {
        f"{name}.{number}.{tensor}": value
        for number, feeds in enumerate(cases)
        for tensor, value in {**feeds, **graph.run(feeds)}.items()
    }


def pack(arrays: Mapping[str, Tensor]) -> bytes:
    """Write an `.npz` whose bytes do not tell when it was written, as `numpy.savez` does."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            body = io.BytesIO()
            np.lib.format.write_array(body, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(member, body.getvalue())
    return packed.getvalue()


def unpack(path: Path) -> dict[str, dict[str, Tensors]]:
    """Read `golden.npz` as graph -> case -> tensor.

    Raises:
        BundleError: the file is no archive of arrays, or their names are not of three parts.
    """
    cases: dict[str, dict[str, Tensors]] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                name, case, tensor = key.split(".", 2)
                cases.setdefault(name, {}).setdefault(case, {})[tensor] = archive[key]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} cannot be read ({error}): export the bundle again") from error
    return cases


def compare(
    name: str, graph: Graph, cases: Mapping[str, Tensors], tolerance: Mapping[str, float]
) -> list[Check]:
    """Run the cases of one graph and measure how far it is from what the exporter saw."""
    checks: list[Check] = []
    for case, tensors in cases.items():
        feeds = {key: tensors[key] for key in graph.inputs if key in tensors}
        outputs = graph.run(feeds)
        checks.extend(
            Check(
                graph=name,
                case=case,
                output=output,
                difference=_difference(outputs[output], tensors[output]),
                tolerance=tolerance.get(output, 0.0),
            )
            for output in graph.outputs
            if output in tensors
        )
    if not checks:
        raise BundleError(f"the golden pairs of {name} hold no expected output: export it again")
    return checks


def _difference(output: Tensor, expected: Tensor) -> float:
    if output.shape != expected.shape:
        return float("inf")
    if np.issubdtype(expected.dtype, np.integer):
        return float(np.mean(output != expected))
    gap = np.abs(output.astype(np.float64) - expected.astype(np.float64))
    return float(np.max(np.nan_to_num(gap, nan=np.inf)))


def pages(height: int, width: int) -> list[Picture]:
    """Draw three RGB pages: a light list with a red bar, a dark form, a slope of all hues."""
    light = np.full((height, width, 3), 245, dtype=np.uint8)
    light[: height // 10] = (200, 30, 40)
    for top in range(height // 8, height - 40, height // 12):
        light[top : top + 12, width // 16 : width // 2] = 60
        light[top : top + 12, -width // 4 : -width // 16] = 150
    dark = np.full((height, width, 3), 24, dtype=np.uint8)
    for row in range(4):
        top = height // 6 + row * height // 6
        cv2.rectangle(dark, (width // 10, top), (width - width // 10, top + 48), (52, 56, 64), -1)
        _write(dark, f"field {row}", (width // 8, top + 32), (220, 220, 220))
    dark[-height // 8 : -height // 16, width // 10 : -width // 10] = (40, 110, 230)
    slope = np.zeros((height, width, 3), dtype=np.uint8)
    slope[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    slope[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    slope[..., 2] = 255 - slope[..., 0]
    return [light, dark, slope]


def lines(texts: Sequence[str], *, height: int) -> tuple[Picture, NDArray[np.int64]]:
    """Draw each text on a BGR crop; return the padded crops and the width of each."""
    crops = []
    for text in texts:
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.2, 2)
        crop = np.full((height, width + 16, 3), 255, dtype=np.uint8)
        cv2.putText(crop, text, (8, 36), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (30, 30, 30), 2)
        crops.append(crop)
    widths = np.array([crop.shape[1] for crop in crops], dtype=np.int64)
    padded = np.zeros((len(crops), height, int(widths.max()), 3), dtype=np.uint8)
    for row, crop in zip(padded, crops, strict=True):
        row[:, : crop.shape[1]] = crop
    return padded, widths


def _write(picture: Picture, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.8, colour, 2, cv2.LINE_8)
