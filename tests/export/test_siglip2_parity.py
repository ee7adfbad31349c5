"""A SigLIP 2 checkpoint's bundle answers what the checkpoint answers, whatever is thrown at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pagesight_export import checkpoints, encoders, feeds, parity, pictures
from pagesight_export.encoders import Reference
from pagesight_export.errors import ExportError, SourceError
from pagesight_export.folder import scratch, write
from pagesight_export.runtime import Graph
from pagesight_export.siglip2 import Positions
from pagesight_export.torch_encoder import TorchEncoder, write_onnx
from pagesight_export.verify import verify
from tests.export import models


def silent(step: str) -> None:
    """Take a step without a word."""


def export(checkpoint: Path, dtype: str, out: Path, reference: Reference | None) -> dict[str, Any]:
    with scratch(out) as folder:
        draft = encoders.checkpoint_encoder(
            lambda: checkpoints.siglip2(str(checkpoint), max_num_patches=None),
            dtype=dtype,
            scratch=folder,
            progress=silent,
            reference=reference,
        )
        write(draft, out)
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text("utf-8"))
    return manifest


def test_the_parity_pictures_are_many_and_of_all_shapes() -> None:
    assert pictures.COUNT >= 64
    assert {(2400, 1080), (8000, 1080), (30, 40), (40, 30)} <= set(pictures.SIZES)
    assert pictures.picture(3).shape == (40, 30, 3)


def test_the_small_checkpoint_tells_pictures_apart(reference: Reference) -> None:
    assert parity.measure(reference.embeddings, reference.embeddings).spread


@pytest.mark.parametrize(
    ("dtype", "cosine", "share"),
    [("fp32", 0.999999, 1e-5), ("fp16", 0.9999, 0.01), ("int8", 0.99, 0.2)],
)
def test_a_bundle_is_its_checkpoint_in_every_dtype(
    checkpoint: Path, reference: Reference, tmp_path: Path, dtype: str, cosine: float, share: float
) -> None:
    out = tmp_path / "encoder"

    manifest = export(checkpoint, dtype, out, reference)

    found = manifest["report"]["parity"]
    assert found["pictures"] == 72
    assert found["spread"]
    assert found["cosine_min"] >= cosine
    assert found["max_error_over_median_distance"] <= share
    assert found["top1_agreement"] >= 0.8
    assert manifest["report"]["bytes"] == sum(p.stat().st_size for p in out.glob("model.onnx*"))
    assert manifest["report"]["peak_memory_bytes"] > 10_000_000
    assert manifest["embedding_dim"] == 64
    assert verify(out).ok


def test_sizes_fall_with_the_dtype(checkpoint: Path, reference: Reference, tmp_path: Path) -> None:
    sizes = {
        dtype: export(checkpoint, dtype, tmp_path / dtype, reference)["report"]["bytes"]
        for dtype in ("fp32", "fp16", "int8")
    }

    assert sizes["int8"] < sizes["fp16"] < sizes["fp32"]


def test_two_exports_of_a_checkpoint_have_one_id(
    checkpoint: Path, reference: Reference, tmp_path: Path
) -> None:
    first = export(checkpoint, "fp32", tmp_path / "first", reference)
    second = export(checkpoint, "fp32", tmp_path / "second", reference)

    assert first["id"] == second["id"]
    assert first["id"].startswith("small-naflex@")


def test_the_embedding_of_a_picture_does_not_depend_on_its_company_or_on_the_padding(
    source: TorchEncoder, tmp_path: Path
) -> None:
    write_onnx(source, tmp_path / "model.onnx", half=False)
    graph = Graph(tmp_path / "model.onnx")
    together = feeds.prepare(
        source.input, source.preprocessing, [pictures.picture(n) for n in range(6)]
    )
    mixed = graph.run(together)["embedding"]
    for number in range(6):
        own = int(together["mask"][number].sum())
        for count in (own, own + 1, own + 40):
            patches = np.full((1, count, 768), 255, dtype=np.uint8)  # the padding is not looked at
            patches[0, :own] = together["patches"][number, :own]
            alone = graph.run(
                {
                    "patches": patches,
                    "mask": np.arange(count)[None] < own,
                    "shapes": together["shapes"][number : number + 1],
                }
            )["embedding"]
            assert np.abs(alone[0] - mixed[number]).max() < 2e-6


def resized(square: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Interpolate as the source model does.

    To one column in two steps: in one, torch's CPU kernel repeats the first row's answer in all
    rows (torch 2.13; `interpolate` of an `[1, 1, 8, 4]` ramp to 3 x 1 shows it).
    """
    way = [(height, square.shape[3]), (height, 1)] if width == 1 else [(height, width)]
    for size in way:
        square = torch.nn.functional.interpolate(
            square, size=size, mode="bilinear", align_corners=False, antialias=True
        )
    return square


@pytest.mark.parametrize("side", [8, 16])
def test_positions_are_torchs_antialiased_interpolation_for_every_grid(side: int) -> None:
    table = torch.randn(side * side, 12, generator=torch.Generator().manual_seed(1))
    square = table.T.reshape(1, 12, side, side)
    grids = [(1, 1), (1, 256), (256, 1), (23, 11), (47, 21), (8, 8), (16, 16), (5, 43), (31, 33)]
    for height, width in grids:
        wanted = resized(square, height, width).reshape(12, -1).T

        found = Positions(table)(torch.tensor([[height, width]]), height * width + 3)

        assert (found[0, : height * width] - wanted).abs().max() < 3e-6, (height, width)
        assert torch.isfinite(found).all()


def test_a_finer_grid_is_recorded_and_used(checkpoint: Path) -> None:
    encoder = checkpoints.siglip2(str(checkpoint), max_num_patches=256)

    tall = feeds.prepare(encoder.input, encoder.preprocessing, [pictures.picture(0)])

    assert encoder.input["max_num_patches"] == 256
    assert tall["shapes"].tolist() == [[23, 11]]


def test_a_whole_model_gives_the_embeddings_of_its_vision_tower(
    checkpoint: Path, source: TorchEncoder, tmp_path: Path
) -> None:
    whole = models.whole_checkpoint(tmp_path / "whole", checkpoint)

    encoder = checkpoints.siglip2(str(whole), max_num_patches=None)

    picture = [pictures.picture(2)]
    assert np.abs(encoder.embed(picture) - source.embed(picture)).max() < 1e-6


def drop_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["vision_model.head.probe"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def edit(name: str, **changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        pytest.param(drop_weights, "lacks 1 weights", id="a weight is missing"),
        pytest.param(edit("config.json", model_type="siglip"), "'siglip'", id="another model"),
        pytest.param(edit("preprocessor_config.json", patch_size=14), "14 pixels", id="patches"),
        pytest.param(edit("preprocessor_config.json", do_resize=False), "resize", id="no resize"),
        pytest.param(
            lambda folder: (folder / "model.safetensors").unlink(), "complete", id="no weights"
        ),
    ],
)
def test_what_is_no_whole_naflex_checkpoint_is_refused(
    tmp_path: Path, break_it: Callable[[Path], None], complaint: str
) -> None:
    folder = models.vision_checkpoint(tmp_path / "broken")
    break_it(folder)

    with pytest.raises(SourceError, match=complaint):
        checkpoints.siglip2(str(folder), max_num_patches=None)


def test_a_hub_id_that_cannot_be_reached_says_to_pass_a_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(SourceError, match="download the checkpoint and pass its folder"):
        checkpoints.siglip2("nobody/nothing-naflex", max_num_patches=None)


def test_too_little_disk_is_found_before_anything_is_traced(source: TorchEncoder) -> None:
    asked: list[int] = []

    def no_space(size: int) -> None:
        asked.append(size)
        raise ExportError("disk full")

    with pytest.raises(ExportError, match="disk full"):
        encoders.checkpoint_encoder(
            lambda: replace(source, model=source.model),
            dtype="int8",
            scratch=Path("not made"),
            progress=silent,
            need_space=no_space,
        )
    assert asked == [source.parameters * 6]
