"""Where `other` begins: thresholds from pictures that were left out in turn."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.calibration import (
    Calibration,
    Scores,
    calibrate,
    place_threshold,
    quantiles,
    share_above,
)
from pagesight_server.recognition.evidence import METHODS, MethodName
from pagesight_server.recognition.leave_one_out import LeftOutScores
from tests.support.parts import snapshot

HALF = Calibration(
    epsilon=0.05,
    pictures=100,
    guaranteed=True,
    threshold_with_text=0.5,
    threshold_without_text=0.25,
)


def fan(count: int) -> Snapshot:
    """`count` pictures of one label. Left out in turn, i has its neighbour at cosine c_i.

    Pairs at angles so wide that each picture's nearest is its twin: cosines 0.99, 0.98, ...
    """
    pictures = []
    for pair in range(count // 2):
        cosine = 0.99 - pair / 100
        start = [0.0] * count
        start[2 * pair] = 1.0
        twin = [0.0] * count
        twin[2 * pair], twin[2 * pair + 1] = cosine, math.sqrt(1 - cosine**2)
        pictures += [("a", start, ["text"]), ("a", twin, ["text"])]
    return snapshot(*pictures)


@pytest.mark.parametrize(
    ("pictures", "epsilon", "threshold"),
    [
        # k = floor(epsilon * (n + 1)); the cosines are in pairs, the smallest is 1 - n / 200.
        pytest.param(40, 0.05, 0.80, id="floor(2.05) = 2: the second smallest, still 0.80"),
        pytest.param(40, 0.10, 0.81, id="floor(4.1) = 4: the fourth smallest"),
        pytest.param(40, 0.20, 0.83, id="floor(8.2) = 8: the eighth smallest"),
        pytest.param(10, 0.05, 0.95, id="floor(0.55) = 0: too few, the smallest is taken"),
    ],
)
def test_the_conformal_threshold_is_the_kth_smallest_left_out_score(
    pictures: int, epsilon: float, threshold: float
) -> None:
    gallery = fan(pictures)
    found = calibrate("pagesight", gallery, METHODS["pagesight"](gallery), epsilon)
    assert found.pictures == pictures
    assert found.threshold_without_text == pytest.approx(threshold, abs=1e-5)
    # The texts are equal, so the templates are trusted most: 0.6 * (1 - 0.6) for the cosine.
    assert found.threshold_with_text == pytest.approx(0.24 * threshold + 0.76, abs=1e-5)


# a1, a2, b1, b2. Cosines: a1-a2 0.6, a2-b1 0.8, b1-b2 -1, a1-b1 = a1-b2 = 0, a2-b2 -0.8.
FOUR = snapshot(
    ("a", (1, 0), ["abcd"]),
    ("a", (3, 4), ["abcd"]),
    ("b", (0, 1), ["wxyz"]),
    ("b", (0, -1), ["wxyz"]),
)


@pytest.mark.parametrize(
    ("name", "with_text", "without"),
    [
        # Against the other page: a1 0, a2 0.8 (b1), b1 0.8 (a2), b2 0 (a1). Of two pictures the
        # 2 / (2 + 3) quantile lies 0.4 * 3 = 1.2 places up: 0.16. Without text the worst left-out
        # picture fits worse (b2, 0), so that is it. With text, which agrees within a page and not
        # between pages, the cosine weighs 0.6 * (1 - 0.6): quantile 0.24 * 0.16, worst (b1) 0.52,
        # and two labels move the threshold half of the way from one to the other.
        pytest.param(
            "pagesight", 0.0384 + (0.52 - 0.0384) / 2, 0.16, id="few pictures: by other pages"
        ),
        # Left out, without text: 0.6, 0.8, 0.8, 0. With text: a1 0.36 + 0.4 = 0.76, a2 0.76,
        # b1 0.48 (a2), b2 0 (a1).
        # The 5 % quantile lies 0.05 * 3 = 0.15 of the way to the second smallest.
        pytest.param("seed", 0.15 * 0.48, 0.15 * 0.6, id="seed: the 5 % quantile"),
    ],
)
def test_thresholds_follow_from_leaving_each_picture_out(
    name: MethodName, with_text: float, without: float
) -> None:
    found = calibrate(name, FOUR, METHODS[name](FOUR))
    assert found.pictures == 4
    assert found.threshold_with_text == pytest.approx(with_text, abs=1e-6)
    assert found.threshold_without_text == pytest.approx(without, abs=1e-6)


def test_single_pictures_and_examples_of_unknown_pages_are_not_left_out() -> None:
    gallery = snapshot(
        ("a", (1, 0), []), ("a", (4, 3), []), ("single", (0, 1), []), ("other", (0, -1), [])
    )
    found = calibrate("pagesight", gallery, METHODS["pagesight"](gallery))
    assert found.pictures == 2
    # Against the other known page: a1 0, a2 0.6, single 0.6; of one and a half pictures the
    # 1.5 / (1.5 + 3) quantile, two thirds of a place up: 0.4. Both left-out pictures fit at 0.8,
    # and there are two labels.
    assert found.threshold_without_text == pytest.approx(0.4 + 0.4 / 2)


def test_the_lead_of_an_example_counts_in_the_calibration_as_in_the_answer() -> None:
    # Left out, a1 has a2 at 0.6 and the example at 0.8: 0.6 - 0.2; a2 has a1 at 0.6, example 0.96.
    gallery = snapshot(("a", (1, 0), []), ("a", (3, 4), []), ("other", (4, 3), []))
    found = calibrate("pagesight", gallery, METHODS["pagesight"](gallery))
    assert found.threshold_without_text == pytest.approx(0.6 - 0.36)


@pytest.mark.parametrize("name", METHODS)
def test_a_gallery_of_single_pictures_has_nothing_to_leave_out(name: MethodName) -> None:
    gallery = snapshot(("a", (1, 0), ["x"]), ("b", (0, 1), ["y"]))
    found = calibrate(name, gallery, METHODS[name](gallery))
    # Each scores 0 against the other page.
    assert found == Calibration(
        epsilon=0.05,
        pictures=0,
        guaranteed=False,
        threshold_with_text=0.0,
        threshold_without_text=0.0,
        unknown_scores_with_text=(0.0, 0.0),
        unknown_scores_without_text=(0.0, 0.0),
    )


def test_single_pictures_still_tell_what_other_pages_score() -> None:
    gallery = snapshot(("a", (1, 0), []), ("b", (3, 4), []))
    found = calibrate("pagesight", gallery, METHODS["pagesight"](gallery))
    assert found.threshold_without_text == pytest.approx(0.6)


def ten_of_each(spread: float) -> Snapshot:
    """Two pages at right angles, ten pictures each; one of each lies `spread` beside the rest."""
    rest: list[tuple[str, tuple[float, ...], list[str]]] = [
        ("a", (1.0, 0.0, 0.0), []) for _ in range(9)
    ]
    rest += [("b", (0.0, 1.0, 0.0), []) for _ in range(9)]
    rest += [("a", (1.0, 0.0, spread), []), ("b", (0.0, 1.0, -spread), [])]
    return snapshot(*rest)


def test_with_pictures_enough_no_more_than_epsilon_are_rejected() -> None:
    # Against the other page 18 score 0, the two odd ones less. They fit their own at 1 / sqrt(2),
    # which k = floor(0.05 * 21) = 1 makes the upper bound; two labels take half of it.
    gallery = ten_of_each(1.0)
    found = calibrate("pagesight", gallery, METHODS["pagesight"](gallery))
    assert found.guaranteed
    assert found.threshold_without_text == pytest.approx(0.5**0.5 / 2, abs=1e-3)


def test_where_own_and_other_pages_overlap_the_guarantee_comes_first() -> None:
    # Ten pictures of each of two labels that show the very same page but for one outlier each:
    # other pages score 1.0, the outlier fits its own at 1 / sqrt(2), and k = floor(0.05 * 21) = 1.
    rest: list[tuple[str, tuple[float, ...], list[str]]] = [
        ("a", (1.0, 0.0, 0.0), []) for _ in range(9)
    ]
    rest += [("b", (1.0, 0.0, 0.0), []) for _ in range(9)]
    rest += [("a", (1.0, 1.0, 0.0), []), ("b", (1.0, 0.0, 1.0), [])]
    gallery = snapshot(*rest)
    found = calibrate("pagesight", gallery, METHODS["pagesight"](gallery))
    assert found.guaranteed
    assert found.threshold_without_text == pytest.approx(0.5**0.5, abs=1e-3)


def test_a_large_gallery_is_calibrated_on_a_fixed_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagesight_server.recognition.calibration.MAX_CALIBRATION_PICTURES", 6)
    gallery = fan(40)
    method = METHODS["pagesight"](gallery)
    first = calibrate("pagesight", gallery, method)
    assert first.pictures == 6
    assert first == calibrate("pagesight", gallery, method)


def test_a_calibration_that_was_broken_off_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pagesight_server.recognition.calibration.STEP_PICTURES", 7)
    gallery = fan(40)
    method = METHODS["pagesight"](gallery)
    steps: list[Scores] = []
    whole = calibrate("pagesight", gallery, method, step=steps.append)
    assert [(one.done, one.of) for one in steps] == [
        (7, 40), (14, 40), (21, 40), (28, 40), (35, 40), (40, 40),
    ]  # fmt: skip
    for begun in steps:
        rest: list[Scores] = []
        kept = Scores.from_json(begun.to_json())
        assert whole == calibrate("pagesight", gallery, method, begun=kept, step=rest.append)
        assert rest == [later for later in steps if later.done > begun.done]
    # What is of another calibration set says nothing of this one.
    fewer = fan(8)
    alone = calibrate("pagesight", fewer, METHODS["pagesight"](fewer))
    assert alone == calibrate("pagesight", fewer, METHODS["pagesight"](fewer), begun=steps[0])


def test_a_calibration_survives_the_store() -> None:
    assert Calibration.from_json(HALF.to_json()) == HALF


def test_a_calibration_without_scores_can_still_be_read() -> None:
    older = (
        '{"epsilon": 0.05, "pictures": 100, "guaranteed": true, '
        '"threshold_with_text": 0.5, "threshold_without_text": 0.25}'
    )
    assert Calibration.from_json(older) == HALF


def test_a_calibration_keeps_what_left_out_pictures_scored() -> None:
    found = calibrate("pagesight", fan(4), METHODS["pagesight"](fan(4)))
    # Two pairs of twins, at cosines 0.99 and 0.98.
    assert found.scores_without_text == pytest.approx([0.98, 0.98, 0.99, 0.99], abs=1e-3)
    assert Calibration.from_json(found.to_json()) == found


def test_many_scores_are_kept_as_evenly_spaced_quantiles() -> None:
    kept = quantiles([float(score) for score in range(1001)])
    assert len(kept) == 101
    assert kept[:3] == (0.0, 10.0, 20.0)
    assert kept[-1] == 1000.0
    assert quantiles([2.0, 1.0]) == (1.0, 2.0)


SCORED = replace(
    HALF,
    scores_with_text=(0.4, 0.6, 0.7, 0.8, 0.9),
    unknown_scores_with_text=(0.1, 0.2, 0.3, 0.4),
)


def test_the_share_above_a_value_counts_what_is_greater() -> None:
    assert share_above([1.0, 2.0, 2.0, 3.0], 2.0) == 0.25
    assert share_above([], 2.0) == 0.0


@pytest.mark.parametrize(
    ("own", "pseudo", "pictures", "threshold"),
    [
        # The quantile at q of 0, 0.25, 0.5, 0.75, 1 is q: n / (n + 3) of n pictures.
        pytest.param([0.9, 0.95], [0, 0.25, 0.5, 0.75, 1], [3], 0.9, id="one page: all the way"),
        pytest.param(
            [0.9, 0.95],
            [0, 0.25, 0.5, 0.75, 1],
            [3, 3, 3, 3],
            0.6,
            id="four: a quarter of the way",
        ),
        pytest.param([0.3], [0, 0.25, 0.5, 0.75, 1], [3], 0.5, id="few pictures: lean below"),
        pytest.param(
            [0.1] * 2 + [0.2] * 18,
            [0, 0.25, 0.5, 0.75, 1],
            [3] * 7,
            0.1,
            id="never above what rejects a tenth of the gallery's own: floor(0.1 * 21) = 2",
        ),
        pytest.param([0.3], [0, 0.25, 0.5, 0.75, 1], [10], 0.3, id="enough: the promise first"),
        pytest.param([], [0, 0.25, 0.5, 0.75, 1], [9], 0.75, id="nine pictures"),
        pytest.param([], [0, 0.25, 0.5, 0.75, 1], [10], 10 / 13, id="ten: no step"),
        pytest.param([], [0, 0.25, 0.5, 0.75, 1], [1], 0.25, id="nothing left out"),
    ],
)
def test_the_rule_from_both_sides_is_that_of_decision_0005(
    own: list[float], pseudo: list[float], pictures: list[int], threshold: float
) -> None:
    scores = LeftOutScores(own=tuple(own), pseudo_unknown=tuple(pseudo), looks=(), leads=())
    assert place_threshold(scores, 0.05, pictures=pictures) == pytest.approx(threshold)


def test_a_calibration_says_how_many_of_its_own_pictures_it_rejects() -> None:
    # Threshold 0.5; one of five scored less.
    assert SCORED.share_rejected(with_text=True) == pytest.approx(0.2)
    assert HALF.share_rejected(with_text=True) == 0.0
