"""A parity check is worth what it catches: each fault built in on purpose must stop the export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pagesight_export import checkpoints, encoders, golden, parity
from pagesight_export.encoders import Reference
from pagesight_export.errors import ExportError
from pagesight_export.folder import scratch, write
from pagesight_export.siglip2 import Positions, Tower
from pagesight_export.torch_encoder import TorchEncoder
from tests.export import models


class NoMask(Tower):
    """Lets the padding take part."""

    def bias(self, mask: Any) -> Any:
        return super().bias(mask) * 0


class Transposed(Tower):
    """Takes rows for columns."""

    def forward(self, patches: Any, mask: Any, shapes: Any) -> Any:
        return super().forward(patches, mask, shapes.flip(1))


class Aliased(Positions):
    """Interpolates between the nearest two positions, however coarse the grid."""

    def _reach(self, scale: Any) -> Any:
        return torch.ones_like(scale)


class NotInterpolated(Positions):
    """Takes the table's positions in order, as if every grid were the table's."""

    def forward(self, shapes: Any, count: Any) -> Any:
        index = torch.remainder(torch.arange(count), self.side * self.side)
        return self.table[index].unsqueeze(0).expand(shapes.shape[0], -1, -1)


def tower(kind: type[Tower]) -> Callable[[Tower], Tower]:
    return lambda right: kind(right.vision, right.scaling)


def positions(kind: type[Positions]) -> Callable[[Tower], Tower]:
    def change(right: Tower) -> Tower:
        wrong = Tower(right.vision, right.scaling)
        wrong.positions = kind(right.positions.table)
        return wrong

    return change


def unscaled(right: Tower) -> Tower:
    wrong = Tower(right.vision, right.scaling)
    wrong.scaling.scale = 1 / 256
    return wrong


def export(load: Callable[[], TorchEncoder], dtype: str, out: Path, reference: Reference) -> None:
    with scratch(out) as folder:
        draft = encoders.checkpoint_encoder(
            load, dtype=dtype, scratch=folder, progress=lambda step: None, reference=reference
        )
        write(draft, out)


FAULTS = {
    "the mask is dropped": tower(NoMask),
    "spatial shapes are transposed": tower(Transposed),
    "anti-aliasing is off": positions(Aliased),
    "positions are not interpolated": positions(NotInterpolated),
}
MUTATIONS = [
    *(
        pytest.param(mutate, dtype, id=f"{name}-{dtype}")
        for name, mutate in FAULTS.items()
        for dtype in ("fp32", "fp16", "int8")
    ),
    # 0.4 % is within what eight bits lose.
    pytest.param(unscaled, "fp32", id="pixels are divided by 256-fp32"),
]


@pytest.mark.parametrize(("mutate", "dtype"), MUTATIONS)
def test_an_export_with_a_fault_is_refused_and_leaves_nothing(
    checkpoint: Path,
    reference: Reference,
    tmp_path: Path,
    mutate: Callable[[Tower], Tower],
    dtype: str,
) -> None:
    def load() -> TorchEncoder:
        encoder = checkpoints.siglip2(str(checkpoint), max_num_patches=None)
        return replace(encoder, model=mutate(encoder.model).eval())

    out = tmp_path / "encoder"
    with pytest.raises(ExportError, match="is not its source"):
        export(load, dtype, out, reference)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dtype", "gains"),
    [
        pytest.param("fp16", {"patches": 1e7}, id="weights beyond FP16"),
        pytest.param("int8", {"attention": 30.0}, id="attention too sharp for INT8"),
    ],
)
def test_a_checkpoint_that_a_dtype_cannot_hold_is_refused(
    tmp_path: Path, dtype: str, gains: dict[str, float]
) -> None:
    folder = models.vision_checkpoint(tmp_path / "checkpoint", **gains)
    (tmp_path / "scratch").mkdir()

    with pytest.raises(ExportError, match="--dtype fp32"):
        encoders.checkpoint_encoder(
            lambda: checkpoints.siglip2(str(folder), max_num_patches=None),
            dtype=dtype,
            scratch=tmp_path / "scratch",
            progress=lambda step: None,
        )


def test_golden_pairs_hold_what_the_source_answers(
    checkpoint: Path, reference: Reference, tmp_path: Path
) -> None:
    draft = encoders.checkpoint_encoder(
        lambda: checkpoints.siglip2(str(checkpoint), max_num_patches=None),
        dtype="fp16",
        scratch=tmp_path,
        progress=lambda step: None,
        reference=reference,
    )
    packed = draft.contents["golden.npz"]
    assert isinstance(packed, bytes)
    (tmp_path / "golden.npz").write_bytes(packed)

    cases = golden.unpack(tmp_path / "golden.npz")["model"]

    assert np.array_equal(cases["1"]["embedding"], reference.embeddings[:1])
    assert draft.manifest.tolerance == {"embedding": encoders.TOLERANCE}
    assert parity.LIMITS["float16"].cosine_min == 0.999
