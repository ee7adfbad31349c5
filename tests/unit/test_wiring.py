"""The parts put together, with the built-in bundles."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from pagesight_server import wiring
from pagesight_server.common import packages
from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import SetupError
from pagesight_server.config import Config, read_config
from pagesight_server.inference.bundle import Tensors
from tests.support.pictures import GREEN, RED, encoded, solid


def settings(bundles: Path, **compute: object) -> Config:
    return read_config(None, {"bundles": bundles, "compute": compute})


async def test_a_screenshot_that_comes_again_is_counted(bundles: Path) -> None:
    async with wiring.models(settings(bundles)) as models:
        pipeline = models.pipeline(lambda _name: pytest.fail("nothing is looked up"), remember=8)
        for colour in (RED, GREEN, RED, RED):
            await pipeline.extract_features(solid(colour))
        caches = models.caches(pipeline)
    assert caches["screenshots"] == (2, 2, 2)
    assert caches["lines"].hits == 0


async def test_the_encoders_thread_only_runs_the_model(bundles: Path) -> None:
    async with wiring.models(settings(bundles)) as models:
        threads: list[str] = []

        def prepare(pixels: Pixels) -> Tensors:
            threads.append(threading.current_thread().name)
            return models.prepare(pixels)

        pixels = np.full((400, 200, 3), 200, np.uint8)
        embedding = await replace(models, prepare=prepare).encode(pixels)
        np.testing.assert_array_equal(embedding, await models.encode(pixels))
    (thread,) = threads
    assert not thread.startswith(("encoder", "MainThread"))


@pytest.mark.parametrize(("setting", "reading"), [(None, "cascade"), ("full", "full")])
async def test_a_bundle_with_a_draft_reads_in_a_cascade_unless_it_is_told_not_to(
    bundles: Path, setting: str | None, reading: str
) -> None:
    if not (bundles / "ocr" / "draft.onnx").is_file():
        pytest.skip("the bundle has no draft: `make setup` makes one")
    async with wiring.models(settings(bundles, reading=setting)) as models:
        assert models.ocr.reading == reading
        pipeline = models.pipeline(lambda _name: pytest.fail("nothing is looked up"))
        page = np.full((400, 400, 3), 255, np.uint8)
        cv2.putText(page, "Balance", (20, 200), cv2.FONT_HERSHEY_SIMPLEX, 2, (20, 20, 60), 4)
        features = await pipeline.extract_features(encoded(Image.fromarray(page)))
        assert features.reading is not None
        assert [line.text for line in features.reading.lines] == ["Balance"]
        assert sum(models.lines().values()) == 1


async def test_switched_off_nothing_is_remembered(bundles: Path) -> None:
    async with wiring.models(settings(bundles)) as models:
        pipeline = models.pipeline(lambda _name: pytest.fail("nothing is looked up"))
        for _ in range(2):
            await pipeline.extract_features(solid(RED), ocr=False)
        assert models.caches(pipeline)["screenshots"] == (0, 2, 0)


async def test_fixed_batch_sizes_change_no_embedding(bundles: Path) -> None:
    seen = []
    for sizes in ([], [2, 4]):
        async with wiring.models(settings(bundles, batch_sizes=sizes)) as models:
            pipeline = models.pipeline(lambda _name: pytest.fail("nothing is looked up"))
            seen.append((await pipeline.extract_features(solid(RED), ocr=False)).embedding)
    assert float(seen[0] @ seen[1]) > 0.9999


async def test_packages_that_overwrite_each_other_end_the_start(
    bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "version", lambda _name: "1.31.1")
    with pytest.raises(SetupError, match="onnxruntime and onnxruntime-gpu are both installed"):
        async with wiring.models(settings(bundles)):
            pass


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA is installed"
)
async def test_a_gpu_that_was_asked_for_and_is_not_there_ends_the_start(bundles: Path) -> None:
    with pytest.raises(SetupError, match="CUDAExecutionProvider is not in this onnxruntime"):
        async with wiring.models(settings(bundles, device="cuda")):
            pass
