"""The short version of `make bench-recognition`: drawn pages, built-in bundles, the one rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagesight_server.config import read_config
from pagesight_server.recognition.calibration import EPSILON
from tests.bench.recognition.methods import OURS, PUBLISHED, answers
from tests.bench.recognition.results import rule
from tests.bench.recognition.sets import Drawing, ScreenSet, TestScreenshot, open_reader, variants
from tests.samples.catalog import DEMO_LABELS

pytestmark = pytest.mark.heavy

DRAWING = Drawing(seed=1, gallery=3, test=2, other=1, labels=DEMO_LABELS)


async def read(bundles: Path, folder: Path, features: Path) -> ScreenSet:
    async with open_reader(read_config(None, {"bundles": bundles}), features) as reader:
        screen_set = await reader.read(DRAWING.name, folder)
    assert screen_set.unreadable == ()
    return screen_set


def features_kept(folder: Path) -> int:
    return (folder / "drawn-1.jsonl").read_bytes().count(b"\n")


def texts(test: TestScreenshot) -> list[str]:
    assert test.query.reading is not None
    return [line.text for line in test.query.reading.lines]


async def test_on_a_small_drawn_set_ours_is_no_worse_than_the_published_method(
    bundles: Path, tmp_path: Path
) -> None:
    folder = DRAWING.draw(tmp_path)
    screen_set = await read(bundles, folder, tmp_path)
    assert len(screen_set.snapshot.pictures) == 3 * len(DEMO_LABELS)
    for one in variants(screen_set, without_brands=True):
        by_name = {a.method: a for a in answers(one, epsilon=EPSILON, names=(OURS, PUBLISHED))}
        made = rule(by_name[OURS].predictions, by_name[PUBLISHED].predictions)
        assert made is not None
        assert made.micro_f1 >= made.published_micro_f1, one.name
        assert made.false_rejection <= made.published_false_rejection, one.name

    # A second run takes the features of the first, of gallery and test alike.
    kept = features_kept(tmp_path)
    again = await read(bundles, folder, tmp_path)
    assert features_kept(tmp_path) == kept == len(screen_set.snapshot.pictures) + len(again.tests)
    assert [texts(test) for test in again.tests] == [texts(test) for test in screen_set.tests]
