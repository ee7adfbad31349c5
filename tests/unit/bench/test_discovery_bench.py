"""The short version of `make bench-discovery`: a set of hand-made vectors, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pagesight_server.recognition.candidates import Query
from tests.bench.bench_discovery import PLACED, Row, hold_back, simulate, table
from tests.bench.recognition.sets import ScreenSet, TestScreenshot
from tests.support.parts import image_id, reading, snapshot, unit

LABELS = ("account", "basket", "calendar", "delivery", "exchange", "favourites")


def axis(number: int, noise: float) -> list[float]:
    values = [0.0] * 9
    values[number], values[8] = 1.0, noise
    return values


def texts(label: str, turn: int) -> tuple[str, ...]:
    return label.title(), f"All of the {label}", f"Entry {'abcdefgh'[turn]}"


@pytest.fixture(scope="module")
def screens() -> ScreenSet:
    """Six pages of four pictures in the gallery and three in the test, and four unrelated ones."""
    gallery = [
        (label, axis(number, 0.05 * turn), texts(label, turn))
        for number, label in enumerate(LABELS)
        for turn in range(4)
    ]
    asked = [
        (label, axis(number, 0.05 * turn + 0.02), texts(label, turn))
        for number, label in enumerate(LABELS)
        for turn in range(4, 7)
    ]
    # Two that are alike, and two that are like nothing.
    asked += [("other", axis(6, 0.02 * turn), ("News", "Weather")) for turn in range(2)]
    asked += [("other", axis(7, 0.0), ("Chess",)), ("other", [1.0] * 9, ("Lorem ipsum",))]
    return ScreenSet(
        name="by hand",
        snapshot=snapshot(*gallery),
        tests=tuple(
            TestScreenshot(
                path=f"{label}/{number}",
                image_id=image_id(1000 + number),
                truth=label,
                query=Query(embedding=unit(*direction), reading=reading(*lines)),
            )
            for number, (label, direction, lines) in enumerate(asked)
        ),
    )


def test_a_third_of_the_labels_is_held_back_whole_and_all_else_is_traffic(
    screens: ScreenSet,
) -> None:
    knowledge, traffic, held = hold_back(screens, seed=0)
    assert len(held) == 2
    assert set(knowledge.snapshot.labels) == set(LABELS) - held
    shown = [one.label for one in traffic]
    assert {label: shown.count(label) for label in set(shown)} == {
        **dict.fromkeys(held, 7),
        **dict.fromkeys(set(LABELS) - held, 3),
        "other": 4,
    }
    assert hold_back(screens, seed=0)[2] == held


@pytest.mark.parametrize("seed", range(3))
def test_pages_that_are_all_alike_cost_a_press_each_and_the_alike_unrelated_ones_one(
    screens: ScreenSet, seed: int
) -> None:
    knowledge, traffic, held = hold_back(screens, seed)
    row = simulate("by hand", seed, knowledge, traffic, held)
    assert (row.pages, row.pictures, row.rejected, row.unrelated) == (2, 14, 14, 4)
    assert (row.clusters, row.purity, row.found) == (3, 1.0, 1.0)
    assert (row.in_reach, row.enrolled) == (2, 2)
    assert (row.presses, row.dismissals, row.rounds) == (3, 1, 1)
    assert 0 < row.cut < 1


def test_at_a_cut_that_nothing_reaches_every_page_is_picked_out_by_hand(
    screens: ScreenSet,
) -> None:
    knowledge, traffic, held = hold_back(screens, 0)
    row = simulate("by hand", 0, knowledge, traffic, held, "1.1")
    assert (row.clusters, row.enrolled, row.presses, row.found) == (0, 0, 2, 0.0)


def test_at_a_cut_that_everything_reaches_foreign_pictures_are_taken_out(
    screens: ScreenSet,
) -> None:
    knowledge, traffic, held = hold_back(screens, 0)
    row = simulate("by hand", 0, knowledge, traffic, held, "-1")
    assert row.clusters == 1
    # 14 pictures of two pages and 4 others in one cluster: 7 of 18 are of one page.
    assert row.purity == pytest.approx(7 / 18)
    assert row.presses >= 1 + 11 + 1


def test_the_table_has_a_line_for_each_set_and_cut(screens: ScreenSet) -> None:
    knowledge, traffic, held = hold_back(screens, 0)
    rows: list[Row] = [
        simulate("by hand", 0, knowledge, traffic, held, cut) for cut in (PLACED, "0.7")
    ]
    lines = table([*rows, *rows]).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith(
        f"| by hand | {rows[0].cut:.2f} to {rows[0].cut:.2f} | 2, 2.0, 2.0 |"
    )
    assert lines[3].startswith("| by hand | 0.7 |")
    assert np.isfinite(rows[0].cut)
