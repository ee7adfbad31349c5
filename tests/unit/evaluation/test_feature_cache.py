"""The feature cache: each image is computed once per bundles, and a damaged file is tolerated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.evaluation import FeatureFile
from pagesight_server.workflows.pipeline import Features
from tests.support.parts import BUNDLES, OTHER_BUNDLES, reading, unit

SEEN = Features(
    width_px=100, height_px=200, embedding=unit(1, 2, 2), reading=reading("额度", "首页")
)
KEY = (bytes(32), True)
CASCADE, FULL = {"reading": "cascade"}, {"reading": "full"}


class Eye:
    """Sees the same picture every time, and counts."""

    def __init__(self) -> None:
        self.looks = 0

    async def __call__(self) -> Features:
        self.looks += 1
        return SEEN


async def test_an_image_is_seen_once_and_comes_back_as_it_was(tmp_path: Path) -> None:
    eye = Eye()
    for _ in range(2):
        cache = FeatureFile(tmp_path / "features.jsonl", BUNDLES, CASCADE)
        features = await cache.get(KEY, eye)
        cache.close()
        assert features.reading == SEEN.reading
        assert (features.width_px, features.height_px) == (100, 200)
        assert features.embedding.dtype == np.float32
        assert np.array_equal(features.embedding, SEEN.embedding)
    assert eye.looks == 1


async def test_an_image_whose_text_was_not_read_is_another_entry(tmp_path: Path) -> None:
    eye = Eye()
    cache = FeatureFile(tmp_path / "features.jsonl", BUNDLES, CASCADE)
    await cache.get(KEY, eye)
    await cache.get((bytes(32), False), eye)
    cache.close()
    assert eye.looks == 2
    assert len(cache) == 2


async def test_what_other_bundles_saw_is_passed_over_and_kept(tmp_path: Path) -> None:
    eye = Eye()
    for bundles in (BUNDLES, OTHER_BUNDLES, BUNDLES):
        cache = FeatureFile(tmp_path / "features.jsonl", bundles, CASCADE)
        await cache.get(KEY, eye)
        cache.close()
    assert eye.looks == 2


async def test_what_was_read_in_another_way_is_passed_over_and_kept(tmp_path: Path) -> None:
    eye = Eye()
    for settings in (CASCADE, FULL, CASCADE):
        cache = FeatureFile(tmp_path / "features.jsonl", BUNDLES, settings)
        await cache.get(KEY, eye)
        cache.close()
    assert eye.looks == 2
    assert (len(cache), cache.others) == (1, 1)


async def test_an_entry_that_does_not_say_how_it_was_read_is_read_anew(tmp_path: Path) -> None:
    eye, path = Eye(), tmp_path / "features.jsonl"
    cache = FeatureFile(path, BUNDLES, CASCADE)
    await cache.get(KEY, eye)
    cache.close()
    row = json.loads(path.read_text("utf-8"))
    # As it was written before settings were.
    row["made_by"] = [BUNDLES.encoder, BUNDLES.ocr]
    path.write_text(json.dumps(row) + "\n", "utf-8")
    again = FeatureFile(path, BUNDLES, CASCADE)
    assert (len(again), again.others) == (0, 1)
    await again.get(KEY, eye)
    again.close()
    assert eye.looks == 2


async def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    eye, path = Eye(), tmp_path / "features.jsonl"
    cache = FeatureFile(path, BUNDLES, CASCADE)
    await cache.get(KEY, eye)
    cache.close()
    whole = path.read_text("utf-8")
    path.write_text(whole[: len(whole) // 2], "utf-8")
    for _ in range(2):
        again = FeatureFile(path, BUNDLES, CASCADE)
        await again.get(KEY, eye)
        again.close()
    assert eye.looks == 2
    assert json.loads(path.read_text("utf-8").splitlines()[-1])["sha256"] == "00" * 32


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be used for --features"):
        FeatureFile(tmp_path / "missing" / "features.jsonl", BUNDLES, CASCADE)
