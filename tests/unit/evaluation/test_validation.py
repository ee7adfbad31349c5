"""A threshold from labelled traffic: placed by hand-made colours, kept, followed and forgotten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.evaluation import Validation, validate
from pagesight_server.evaluation.validation import pictures_needed
from pagesight_server.gallery import Gallery
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.knowledge import (
    load_knowledge,
    outdated_calibration_warning,
    validated_calibration_key,
)
from pagesight_server.workflows.pipeline import Pipeline
from pagesight_server.workflows.registry import Registry
from tests.support.parts import BUNDLES, FakeModels, snapshot, unit
from tests.support.pictures import solid
from tests.support.stores import enrol

RED, BLUE = (255, 0, 0), (0, 0, 255)
PAGES = snapshot(("blue", (1, 1, 256), []), ("red", (256, 1, 1), []))
GALLERY = replace(
    PAGES,
    pictures=(
        PAGES.pictures[0],
        replace(PAGES.pictures[1], image_id=hashlib.sha256(solid(RED)).hexdigest()),
    ),
)


def knowledge() -> Knowledge:
    return Knowledge.of(GALLERY)


def traffic(folder: Path, shades: dict[str, list[tuple[int, int, int]]]) -> Path:
    for label, colours in shades.items():
        for n, colour in enumerate(colours):
            path = folder / label / f"{n:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(solid(colour))
    return folder


async def placed(folder: Path, *, epsilon: float = 0.1) -> Validation:
    pipeline: Pipeline = FakeModels().pipeline()
    return await validate(pipeline, knowledge(), folder, epsilon=epsilon)


def cosine(colour: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    return float(np.dot(unit(*(c + 1 for c in colour)), unit(*(c + 1 for c in other))))


REDS = [(255, 10 * n, 0) for n in range(1, 20)]
"""Ever farther from red; 19 of them."""


async def test_the_threshold_is_the_kth_smallest_score_of_known_pages(tmp_path: Path) -> None:
    validation = await placed(traffic(tmp_path, {"red": REDS}))
    # k = floor(0.1 * 20) = 2: the second farthest, 180 of green.
    expected = cosine((255, 180, 0), RED)
    calibration = validation.calibration
    assert calibration.threshold_without_text == pytest.approx(expected, abs=1e-6)
    assert (calibration.source, calibration.revision, calibration.pictures) == ("validation", 1, 19)
    assert calibration.guaranteed
    assert len(calibration.scores_with_text) == 19
    assert (validation.known, validation.unknown, validation.rejected) == (19, 0, None)


async def test_labelled_traffic_tells_close_runners_up_as_the_gallery_does(tmp_path: Path) -> None:
    # The leads were forgotten once, so that nothing asked for review any more.
    blues = [(0, 10 * n, 255) for n in range(1, 20)]
    calibration = (await placed(traffic(tmp_path, {"red": REDS, "blue": blues}))).calibration
    assert len(calibration.leads) == 38
    between = Query(embedding=unit(1.02, 0, 1), reading=None)
    known = replace(knowledge(), calibration=replace(calibration, threshold_without_text=0.5))
    candidates = known.method.weigh(between, known.method.search(between.embedding))
    decision = decide(candidates, known.calibration, with_text=False)
    assert decision.label == "red"
    assert "close_runner_up" in decision.review_reasons


async def test_the_share_of_unknown_pages_that_it_rejects_is_measured(tmp_path: Path) -> None:
    unknown = [(0, 255, 0), (200, 255, 0), (250, 5, 5)]
    validation = await placed(traffic(tmp_path, {"red": REDS, "other_colours": unknown}))
    # Green and lime are farther from both pages than the threshold; a red is not.
    assert validation.unknown == 3
    assert validation.rejected == pytest.approx(2 / 3)


async def test_too_few_pictures_are_refused_and_how_many_are_needed_is_said(tmp_path: Path) -> None:
    traffic(tmp_path, {"red": REDS, "other": [BLUE]})
    with pytest.raises(SetupError, match=r"19 usable .* 49 are needed .* at most 2%: add 30"):
        await placed(tmp_path, epsilon=0.02)


@pytest.mark.parametrize(("epsilon", "needed"), [(0.05, 19), (0.1, 9), (0.03, 33), (0.5, 1)])
def test_one_may_be_rejected_from_one_over_epsilon_less_one_pictures_on(
    epsilon: float, needed: int
) -> None:
    assert pictures_needed(epsilon) == needed


async def test_pictures_of_the_gallery_and_broken_ones_are_left_out(tmp_path: Path) -> None:
    traffic(tmp_path, {"red": [*REDS, RED]})
    (tmp_path / "red" / "broken.png").write_bytes(b"no picture")
    validation = await placed(tmp_path)
    assert (validation.known, validation.unreadable, validation.enrolled) == (19, 1, 1)


async def test_a_page_that_the_gallery_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no pictures of green: enrol some, or name the folder"):
        await placed(traffic(tmp_path, {"green": [(0, 255, 0)]}))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Gallery]:
    opened = Gallery(tmp_path / "gallery.db")
    enrol(opened, {"a": "red", "b": "red", "c": "blue"})
    yield opened
    opened.close()


def put_validation(store: Gallery, threshold: float) -> None:
    known = load_knowledge(store, "default", "pagesight", 0.05)
    fields = json.loads(known.calibration.to_json())
    fields |= {"source": "validation", "revision": known.snapshot.revision}
    fields |= {"threshold_with_text": threshold}
    key = validated_calibration_key(known.snapshot, "pagesight", 0.05)
    store.put_calibration("default", known.snapshot.revision, key, json.dumps(fields))


def test_a_threshold_from_traffic_is_used_and_kept_when_the_gallery_changes(store: Gallery) -> None:
    put_validation(store, 0.123)
    known = load_knowledge(store, "default", "pagesight", 0.05)
    assert known.calibration.threshold_with_text == 0.123
    assert outdated_calibration_warning(known) == ""
    enrol(store, {"d": "blue"})
    later = load_knowledge(store, "default", "pagesight", 0.05)
    assert later.calibration.threshold_with_text == 0.123
    assert "at revision 1, the gallery is at 2" in outdated_calibration_warning(later)
    # The gallery's own is there all the same, for when the other is forgotten.
    assert (
        store.drop_calibrations(
            "default", validated_calibration_key(later.snapshot, "pagesight", 0.05)
        )
        == 1
    )
    assert load_knowledge(store, "default", "pagesight", 0.05).calibration.source == "gallery"


def test_another_epsilon_or_method_has_its_own_threshold(store: Gallery) -> None:
    put_validation(store, 0.123)
    assert load_knowledge(store, "default", "pagesight", 0.01).calibration.source == "gallery"
    assert load_knowledge(store, "default", "seed", 0.05).calibration.source == "gallery"


async def test_a_running_server_takes_over_the_threshold_and_gives_it_up(store: Gallery) -> None:
    registry = Registry(store, BUNDLES, method="pagesight", epsilon=0.05)
    await registry.refresh()
    assert registry.get("default").calibration.source == "gallery"
    put_validation(store, 0.123)
    await registry.refresh()
    used = registry.get("default")
    assert used.calibration.threshold_with_text == 0.123
    await registry.refresh()
    assert registry.get("default") is used
    put_validation(store, 0.321)
    await registry.refresh()
    assert registry.get("default").calibration.threshold_with_text == 0.321
    store.drop_calibrations("default", validated_calibration_key(used.snapshot, "pagesight", 0.05))
    await registry.refresh()
    assert registry.get("default").calibration.source == "gallery"
