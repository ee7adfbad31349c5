"""What reaches an encoder's graph, and `verify --reference` over a graph that can be checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import helper
from PIL import Image
from typer.testing import CliRunner

from pagesight_export import feeds, golden, graph, pictures
from pagesight_export.bundle import GOLDEN, Manifest
from pagesight_export.cli import app
from pagesight_export.errors import BundleError, ExportError
from pagesight_export.folder import Draft, need_space, scratch, write
from pagesight_export.runtime import Graph
from pagesight_export.verify import verify

run = CliRunner().invoke
FIXED = {"geometry": "fixed", "height": 4, "width": 2}
AREA = {"resize": {"library": "opencv", "interpolation": "area"}}
PICTURE = np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3)


@pytest.mark.parametrize(
    ("library", "interpolation", "wanted"),
    [
        ("opencv", "area", cv2.resize(PICTURE, (2, 4), interpolation=cv2.INTER_AREA)),
        ("opencv", "linear", cv2.resize(PICTURE, (2, 4), interpolation=cv2.INTER_LINEAR)),
        ("opencv", "cubic", cv2.resize(PICTURE, (2, 4), interpolation=cv2.INTER_CUBIC)),
        (
            "pillow",
            "bicubic",
            np.asarray(Image.fromarray(PICTURE).resize((2, 4), Image.Resampling.BICUBIC)),
        ),
    ],
)
def test_a_fixed_encoder_gets_the_resize_that_its_manifest_names(
    library: str, interpolation: str, wanted: Any
) -> None:
    resize = {"resize": {"library": library, "interpolation": interpolation}}

    assert np.array_equal(feeds.prepare(FIXED, resize, [PICTURE])["pixels"], wanted[None])


@pytest.mark.parametrize(
    ("geometry", "preprocessing"),
    [
        pytest.param({"geometry": "round"}, AREA, id="geometry"),
        pytest.param(FIXED, {}, id="no resize"),
        pytest.param(FIXED, {"resize": {"library": "pillow", "interpolation": "area"}}, id="mix"),
    ],
)
def test_what_the_format_does_not_know_is_refused(
    geometry: dict[str, Any], preprocessing: dict[str, Any]
) -> None:
    with pytest.raises(BundleError, match=r"docs/bundles\.md|fixed or naflex"):
        feeds.prepare(geometry, preprocessing, [PICTURE])


def test_every_parity_picture_is_another_one() -> None:
    small = [n for n in range(pictures.COUNT) if max(pictures.SIZES[n % 24]) < 600]
    drawn = {pictures.picture(number).tobytes() for number in small}

    assert len(drawn) == len(small)
    assert len(set(pictures.SIZES)) * pictures.KINDS == pictures.COUNT == 72
    assert np.array_equal(pictures.picture(2), pictures.picture(2))


def mean_colour() -> bytes:
    """Make an encoder that answers a picture's mean colour, of unit length."""
    w = graph.Writer("mean")
    floats = w.op("Cast", "pixels", to=graph.FLOAT)
    w.unit_length(w.op("ReduceMean", floats, axes=[1, 2], keepdims=0), output="embedding")
    made = helper.make_graph(
        w.nodes,
        "mean",
        [graph.tensor("pixels", graph.UINT8, ["N", 4, 2, 3])],
        [graph.tensor("embedding", graph.FLOAT, ["N", 3])],
        w.constants,
    )
    opset = helper.make_opsetid("", 11)
    return graph.to_bytes(helper.make_model(made, opset_imports=[opset], ir_version=8))


def draft(**contents: Any) -> Draft:
    model = mean_colour()
    pixels = np.full((1, 4, 2, 3), 100, dtype=np.uint8)
    return Draft(
        manifest=Manifest(
            kind="encoder",
            name="mean",
            source={"checkpoint": "by hand", "revision": "1"},
            dtype="float32",
            opset=11,
            input=FIXED,
            preprocessing=AREA,
            embedding_dim=3,
            files={},
            tolerance={"embedding": 1e-3},
            versions={},
            report={"bytes": len(model)},
        ),
        contents={
            "model.onnx": model,
            GOLDEN: golden.pack(golden.answer("model", Graph(model), [{"pixels": pixels}])),
        }
        | contents,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write(draft(), tmp_path / "bundle")
    return tmp_path / "bundle"


def save_pair(
    folder: Path, name: str, colour: tuple[int, int, int], wanted: list[float] | None
) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (20, 30), colour).save(folder / f"{name}.png")
    if wanted is not None:
        np.save(folder / f"{name}.npy", np.array(wanted, dtype=np.float32))


def test_reference_embeddings_side_by_side_verify_whatever_their_length(
    bundle: Path, tmp_path: Path
) -> None:
    save_pair(tmp_path / "pairs", "red", (200, 0, 0), [9, 0, 0])
    save_pair(tmp_path / "pairs", "grey", (50, 50, 50), [1, 1, 1])

    result = run(app, ["verify", str(bundle), "--reference", str(tmp_path / "pairs")])

    assert result.exit_code == 0, result.output
    assert result.output.count("cosine 1.000000") == 2


def test_a_reference_of_another_checkpoint_fails_naming_the_worst_picture(
    bundle: Path, tmp_path: Path
) -> None:
    save_pair(tmp_path / "pairs", "red", (200, 0, 0), [9, 0, 0])
    save_pair(tmp_path / "pairs", "blue", (0, 0, 200), [1, 0, 1])

    result = run(app, ["verify", str(bundle), "--reference", str(tmp_path / "pairs")])

    assert result.exit_code == 1
    assert "blue.png has cosine 0.707107, need 0.9999" in result.output


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        pytest.param(lambda folder: None, "no folder", id="no folder"),
        pytest.param(lambda folder: folder.mkdir(), "no .png", id="no pictures"),
        pytest.param(
            lambda folder: save_pair(folder, "red", (1, 2, 3), [1, 2]), "(2,)", id="another length"
        ),
        pytest.param(
            lambda folder: save_pair(folder, "red", (1, 2, 3), None),
            "red.npy cannot be read",
            id="no embedding",
        ),
    ],
)
def test_a_reference_that_cannot_be_used_is_refused_in_one_line(
    bundle: Path, tmp_path: Path, prepare: Any, complaint: str
) -> None:
    prepare(tmp_path / "pairs")

    result = run(app, ["verify", str(bundle), "--reference", str(tmp_path / "pairs")])

    assert result.exit_code == 1
    assert complaint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_checkpoint_needs_torch_and_the_message_says_how_to_get_it(tmp_path: Path) -> None:
    out = tmp_path / "encoder"

    result = run(app, ["encoder", "--model", "some/checkpoint", "--out", str(out)])

    assert result.exit_code == 1
    assert "make export ARGS='encoder --model some/checkpoint'" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="neither"),
        pytest.param(["--builtin", "--model", "x"], id="both"),
        pytest.param(["--builtin", "--dtype", "fp16"], id="a dtype of the built-in"),
    ],
)
def test_the_encoder_must_be_named_once(tmp_path: Path, arguments: list[str]) -> None:
    result = run(app, ["encoder", *arguments, "--out", str(tmp_path / "encoder")])

    assert result.exit_code == 1
    assert "--model" in result.stderr


def test_a_large_file_is_moved_from_the_scratch_folder_and_nothing_else_stays(
    tmp_path: Path,
) -> None:
    out = tmp_path / "encoder"
    with scratch(out) as folder:
        (folder / "model.onnx.data").write_bytes(b"weights" * 1000)
        (folder / "model.onnx.data").chmod(0o600)
        made = draft(**{"model.onnx.data": folder / "model.onnx.data"})
        assert made.size == made.new_bytes + 7000
        write(made, out)

    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
    assert (out / "model.onnx.data").stat().st_size == 7000
    assert (out / "model.onnx.data").stat().st_mode & 0o777 == 0o644
    assert verify(out).ok


def test_a_scratch_folder_is_refused_where_the_bundle_would_be(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "holiday.jpg").write_bytes(b"")

    with pytest.raises(ExportError, match="choose another --out"), scratch(tmp_path / "encoder"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_a_scratch_folder_goes_away_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch(tmp_path / "encoder"):
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []


def test_space_for_a_model_is_asked_for_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="free some space"):
        need_space(tmp_path, 2**60)


PEAKS = """
from pagesight_export import memory
memory.restart_peak()
first = bytearray(200_000_000)
del first
memory.restart_peak()
anew = memory.peak_bytes()
second = bytearray(b"x") * 300_000_000
print(anew, memory.peak_bytes())
"""


def test_peak_memory_begins_anew_and_sees_what_is_taken() -> None:
    # In a process of its own, which holds some 15 MB beside: in this one the kernel may take back
    # mapped files meanwhile, so that the peak rises by less than what was taken.
    child = subprocess.run(
        [sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True
    )
    anew, peak = map(int, child.stdout.split())
    assert peak >= 290_000_000
    if sys.platform == "linux":
        assert anew < 150_000_000
