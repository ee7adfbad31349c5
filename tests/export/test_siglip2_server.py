"""From a checkpoint's folder through the command line to the server, which has no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import Siglip2ImageProcessor

from pagesight_export import feeds, pictures
from pagesight_export.encoders import Reference
from pagesight_export.torch_encoder import TorchEncoder
from pagesight_server.common.errors import SetupError
from pagesight_server.inference.bundle import load
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.naflex import Naflex
from pagesight_server.inference.resize import pillow
from pagesight_server.inference.settings import Compute
from tests.export.models import PATCHES

Picture = NDArray[np.uint8]


def command(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pagesight_export", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "encoder"
    done = command("encoder", "--model", checkpoint, "--dtype", "fp32", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "cosine with the source, least" in done.stdout
    assert [path.name for path in out.parent.iterdir()] == ["encoder"]
    return out


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> Encoder:
    return Encoder(load(bundle, "encoder"), Compute(device="cpu", threads=2))


def noise(height: int, width: int) -> Picture:
    """Make the hardest picture to resample alike: no two pixels are related."""
    draw = np.random.default_rng(height * 10_007 + width)
    return draw.integers(0, 256, (height, width, 3), dtype=np.uint8)


SIZES = [
    (2400, 1080), (8000, 1080), (30, 40), (40, 30), (16, 16), (17, 4000), (4000, 17), (1, 1),
    (1920, 1080), (1080, 1920), (1334, 750), (2532, 1170), (640, 640), (333, 777), (255, 257),
    (128, 128), (129, 127), (720, 1280), (3200, 1440), (99, 1001), (3, 500), (500, 3),
]  # fmt: skip


@pytest.mark.parametrize("limit", [64, 256, 1024])
def test_the_servers_patches_are_the_source_processors(encoder: Encoder, limit: int) -> None:
    """To the byte where Pillow resizes, and but for rounding where `cykooz.resizer` does."""
    processor = Siglip2ImageProcessor(max_num_patches=limit)
    prepare = encoder._prepare
    assert isinstance(prepare, Naflex)
    exact, own = (
        Naflex(patch_size=16, max_num_patches=limit, resize=resize)
        for resize in (pillow("bilinear"), prepare.resize)
    )
    draw = np.random.default_rng(limit)
    drawn = [(int(h), int(w)) for h, w in draw.integers(1, 1500, (10, 2))]
    for height, width in SIZES + drawn:
        wanted = processor(
            images=[noise(height, width)],
            input_data_format="channels_last",
            do_rescale=False,
            do_normalize=False,
            return_tensors="np",
        )

        for naflex in (exact, own):
            found = naflex([noise(height, width)])

            assert found["shapes"].tolist() == wanted["spatial_shapes"].tolist(), (height, width)
            assert np.array_equal(found["mask"], wanted["pixel_attention_mask"].astype(bool))
            apart = np.abs(found["patches"].astype(int) - wanted["pixel_values"])
            assert apart.max() <= (2 if naflex is own else 0), (height, width)
            assert np.sum(apart > 1) <= 1 + apart.size // 50_000, (height, width)


def test_the_server_gives_the_checkpoints_embeddings(
    encoder: Encoder, reference: Reference
) -> None:
    numbers = range(0, pictures.COUNT, 5)
    found = encoder.encode([pictures.picture(number) for number in numbers])

    cosines = (found * reference.embeddings[list(numbers)]).sum(1)
    # These weights see bytes four times as large as trained ones do (models.enlarge).
    assert cosines.min() >= (0.9999 if encoder.resized_by.startswith("Pillow") else 0.999)
    assert cosines.mean() >= 0.9999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


def test_another_resampling_library_moves_a_byte_by_one_and_an_embedding_hardly(
    encoder: Encoder, source: TorchEncoder
) -> None:
    """The source's fast processor resamples with torch, not with Pillow; both round to bytes."""
    worst, cosines = 0, []
    for number in range(0, pictures.COUNT, 3):
        picture = pictures.picture(number)
        ours = feeds.prepare(source.input, source.preprocessing, [picture])
        rows, columns = ours["shapes"][0].tolist()
        channels = torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0)
        theirs = torch.nn.functional.interpolate(
            channels, size=(rows * 16, columns * 16), mode="bilinear", antialias=True
        )
        pixels = theirs[0].permute(1, 2, 0).numpy()
        blocks = pixels.reshape(rows, 16, columns, 16, 3).swapaxes(1, 2).reshape(rows * columns, -1)
        own = ours["patches"][0, : rows * columns].astype(int)
        worst = max(worst, int(np.abs(own - blocks).max()))
        swapped = {**ours, "patches": ours["patches"].copy()}
        swapped["patches"][0, : rows * columns] = blocks
        pair = [encoder._run(inputs)["embedding"][0] for inputs in (ours, swapped)]
        cosines.append(float(pair[0] @ pair[1]))

    assert worst <= 1
    # These weights see bytes four times as large as trained ones do (models.enlarge).
    assert min(cosines) >= 0.9995
    assert np.mean(cosines) >= 0.9999


def test_the_nearest_page_is_found_over_the_bundle(encoder: Encoder) -> None:
    """Enrol one picture of each of eight pages, ask with a re-compressed, cropped one of each."""
    pages = [pictures.picture(number) for number in (0, 4, 6, 9, 24, 28, 33, 48)]
    gallery = encoder.encode(pages)

    queries = encoder.encode([page[: page.shape[0] * 49 // 50] // 2 * 2 for page in pages])

    assert (queries @ gallery.T).argmax(1).tolist() == list(range(8))


def test_the_server_refuses_a_bundle_whose_weights_were_changed(
    bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "encoder"
    copy.mkdir()
    for path in bundle.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    weights = bytearray((copy / "model.onnx.data").read_bytes())
    weights[1000] ^= 1
    (copy / "model.onnx.data").write_bytes(weights)

    with pytest.raises(SetupError, match=r"model.onnx.data is not the file that was exported"):
        load(copy, "encoder")


def test_reference_embeddings_of_the_checkpoint_verify_and_others_do_not(
    bundle: Path, reference: Reference, tmp_path: Path
) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    (tmp_path / "embeddings").mkdir()
    for number in (2, 5, 30):
        Image.fromarray(pictures.picture(number)).save(tmp_path / "images" / f"{number}.png")
        np.save(tmp_path / "embeddings" / f"{number}.npy", reference.embeddings[number] * 7)

    good = command("verify", bundle, "--reference", tmp_path)
    np.save(tmp_path / "embeddings" / "30.npy", reference.embeddings[31])
    bad = command("verify", bundle, "--reference", tmp_path, "--json")

    assert good.returncode == 0, good.stderr
    assert "cosine 1.000000" in good.stdout
    assert bad.returncode == 1
    assert "30.png has cosine" in bad.stderr
    answer = json.loads(bad.stdout)
    assert [pair["ok"] for pair in answer["reference"]] == [True, False, True]


def test_the_command_line_exports_a_finer_int8_bundle_and_says_how_it_went(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "encoder"
    done = command(
        "encoder", "--model", checkpoint, "--dtype", "int8",
        "--max-num-patches", PATCHES * 2, "--out", out, "--json",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"]["parity"]["cosine_min"] >= 0.99
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["input"]["max_num_patches"] == PATCHES * 2
    assert manifest["dtype"] == "int8"
