"""Quads and crops, held against those of the library: `rapidocr`'s own are the expected ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rapidocr.ch_ppocr_det.utils import DBPostProcess
from rapidocr.utils.process_img import get_rotate_crop_image

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import SetupError
from pagesight_server.inference.bundle import Tensors
from pagesight_server.inference.bundle import load as load_bundle
from pagesight_server.inference.ocr.detector import Detector, crops
from pagesight_server.inference.ocr.quads import QuadFinder, Quads, is_upright
from pagesight_server.inference.settings import Compute
from tests.samples import LABELS, draw

NUMBERS: dict[str, Any] = {
    "thresh": 0.3,
    "box_thresh": 0.5,
    "max_candidates": 1000,
    "unclip_ratio": 1.6,
    "use_dilation": True,
}
"""As in the built-in bundle."""
Size = tuple[int, int]


def both(probability: NDArray[np.float32], size: Size, **numbers: Any) -> tuple[Quads, Quads]:
    """The library's quads of a map for a picture of a size, and ours."""
    numbers = NUMBERS | numbers
    library = DBPostProcess(**numbers, score_mode="fast")
    theirs, _scores = library(probability[None, None], size)
    ours = QuadFinder(**numbers)(probability, *size)
    return np.asarray(theirs, np.float32).reshape(-1, 4, 2), ours


def furthest_px(theirs: Quads, ours: Quads) -> float:
    """How far a corner is at most from where the library has it, in pixels."""
    assert len(theirs) == len(ours)
    apart = np.abs(theirs[:, None] - ours[None]).max(axis=(2, 3))
    nearest = apart.argmin(axis=1)
    assert sorted(nearest.tolist()) == list(range(len(ours))), "each was meant to be found once"
    return float(apart.min(axis=1).max())


def drawn_map(seed: int, size: Size, tilts: tuple[float, ...]) -> NDArray[np.float32]:
    """A map of 60 lines of random places, lengths and probabilities, blurred and noisy."""
    random = np.random.default_rng(seed)
    height, width = size
    probability = np.zeros(size, np.float32)
    for _ in range(60):
        centre = (random.uniform(0, width), random.uniform(0, height))
        sides = (random.uniform(2, 250), random.uniform(2, 40))
        corners = cv2.boxPoints((centre, sides, float(random.choice(tilts))))
        cv2.fillPoly(probability, [corners.astype(np.int32)], random.uniform(0.4, 1))
    probability += random.normal(0, 0.05, size).astype(np.float32)
    blurred: NDArray[np.float32] = cv2.GaussianBlur(probability.clip(0, 1), (3, 3), 0)
    return blurred


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "tilts",
    [
        pytest.param((0.0,), id="upright"),
        pytest.param((-50.0, -7.0, 2.0, 33.0, 45.0), id="tilted"),
        pytest.param((0.0, 0.0, 12.0, 90.0), id="mixed"),
    ],
)
@pytest.mark.parametrize(
    ("canvas", "picture"),
    [
        pytest.param((960, 736), (960, 736), id="as it is"),
        pytest.param((1632, 736), (1200, 540), id="enlarged for the network"),
        pytest.param((736, 736), (1111, 703), id="both ways"),
    ],
)
def test_quads_are_the_librarys_within_a_pixel(
    seed: int, tilts: tuple[float, ...], canvas: Size, picture: Size
) -> None:
    theirs, ours = both(drawn_map(seed, canvas, tilts), picture)
    assert len(theirs) > 5
    assert furthest_px(theirs, ours) <= 1
    assert np.mean(np.isin(theirs.reshape(-1, 8), ours.reshape(-1, 8)).all(axis=1)) > 0.9


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param({"use_dilation": False}, id="not dilated"),
        pytest.param({"max_candidates": 20}, id="few candidates"),
        pytest.param({"box_thresh": 0.65}, id="a high mean"),
        pytest.param({"unclip_ratio": 2.0}, id="grown more"),
    ],
)
def test_each_number_means_what_it_means_to_the_library(numbers: dict[str, Any]) -> None:
    probability = drawn_map(9, (960, 736), (0.0, 12.0))
    theirs, ours = both(probability, (960, 736), **numbers)
    usual, _ = both(probability, (960, 736))
    assert len(theirs) > 5
    assert theirs.shape != usual.shape or (theirs != usual).any(), "the number was meant to matter"
    assert furthest_px(theirs, ours) <= 1


def test_an_upright_line_is_grown_by_hand() -> None:
    probability = np.zeros((64, 320), np.float32)
    probability[20:30, 100:200] = 0.9
    # Dilated to columns 100 to 200 and rows 20 to 30: 100 x 10 pixels from centre to centre, grown
    # by 1.6 * 1000 / 220 = 7.27 on each side.
    (found,) = QuadFinder(**NUMBERS)(probability, 64, 320).tolist()
    assert found == [[93, 13], [207, 13], [207, 37], [93, 37]]


@pytest.mark.parametrize("value", [0.0, 0.29, 1.0])
def test_maps_of_one_value_are_as_in_the_library(value: float) -> None:
    theirs, ours = both(np.full((96, 128), value, np.float32), (96, 128))
    assert len(theirs) == (value == 1.0)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.heavy
@pytest.mark.parametrize("network", ["detection", "draft_detection"])
def test_quads_and_crops_of_drawn_pages_are_the_librarys(bundles: Path, network: Any) -> None:
    bundle = load_bundle(bundles / "ocr", "ocr")
    if network not in bundle.manifest["input"]:
        pytest.skip("the bundle has no draft: `make setup` makes one")
    detector = Detector(bundle, Compute(), network, max_enlarged_px=10**7)
    run, maps = detector.graph.run, list[NDArray[np.float32]]()

    def recorded(inputs: Tensors) -> Tensors:
        outputs = run(inputs)
        maps.append(outputs["probability"][0, 0])
        return outputs

    detector.graph.run = recorded  # type: ignore[method-assign]
    lines, upright = 0, 0
    for number, tilt in enumerate((0, 0, 0, 5)):
        pixels = page(number, tilt)
        detector.find(pixels)
        theirs, ours = both(maps[-1], pixels.shape[:2])
        assert furthest_px(theirs, ours) <= 1
        upright += int(is_upright(ours).sum())
        for crop, quad in zip(crops(pixels, ours), ours, strict=True):
            np.testing.assert_array_equal(crop, get_rotate_crop_image(pixels, quad.copy()))
        lines += len(ours)
    assert lines > 40
    assert 10 < upright < lines - 10, "both ways were meant to be taken"


@pytest.mark.parametrize(
    "quad",
    [
        pytest.param([(7, 5), (90, 5), (90, 31), (7, 31)], id="a line"),
        pytest.param([(0, 0), (119, 0), (119, 99), (0, 99)], id="the whole"),
        pytest.param([(10, 3), (40, 3), (40, 48), (10, 48)], id="turned from 1.5 times"),
        pytest.param([(10, 3), (41, 3), (41, 48), (10, 48)], id="not yet turned"),
        pytest.param([(20, 10), (80, 22), (76, 41), (16, 29)], id="tilted"),
    ],
)
def test_crops_are_the_librarys_to_the_pixel(quad: list[tuple[int, int]]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (100, 120, 3)).astype(np.uint8)
    corners = np.array([quad], np.float32)
    (crop,) = crops(picture, corners)
    np.testing.assert_array_equal(crop, get_rotate_crop_image(picture, corners[0].copy()))


def test_a_bundle_that_scores_boxes_otherwise_is_refused(bundles: Path) -> None:
    bundle = load_bundle(bundles / "ocr", "ocr")
    manifest = json.loads(json.dumps(bundle.manifest))
    manifest["preprocessing"]["detection"]["score_mode"] = "slow"
    with pytest.raises(SetupError, match="'slow'; upgrade pagesight"):
        Detector(replace(bundle, manifest=manifest), Compute(), max_enlarged_px=10**7)


def page(number: int, tilt: float) -> Pixels:
    """A drawn page of 928 x 736 pixels, turned by some degrees: the network sees it as it is."""
    pixels = np.asarray(draw(LABELS[number], seed=number, width=736))[:928]
    turn = cv2.getRotationMatrix2D((368, 464), tilt, 1)
    turned: Pixels = cv2.warpAffine(pixels, turn, (736, 928), borderMode=cv2.BORDER_REPLICATE)
    return turned
