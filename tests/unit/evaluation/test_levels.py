"""Where the scores of labels lie against the threshold."""

from __future__ import annotations

from pagesight_server.curation.own_scores import OwnScores
from pagesight_server.evaluation.charts import Scale
from pagesight_server.evaluation.levels import MAX_DOTS, Band, levels
from pagesight_server.evaluation.prediction import Prediction

TO_ONE = Scale(low=0.0, high=1.0)
OWN = OwnScores(scores=(0.4, 0.9, 0.8), rejected=1)


def screenshot(truth: str, score: float) -> Prediction:
    return Prediction(
        path=f"{truth}/{score}.png",
        truth=truth,
        closed_label="a",
        score=score,
        label="a" if score >= 0.5 else "other",
        threshold=0.5,
    )


def test_a_band_reaches_from_the_least_own_score_to_the_greatest() -> None:
    band = Band.of(OWN, TO_ONE)
    assert band is not None
    assert (band.left_percent, band.width_percent, band.mean_percent) == (40.0, 50.0, 70.0)
    assert Band.of(None, TO_ONE) is None


def test_labels_with_most_false_rejections_come_first() -> None:
    predictions = [
        screenshot("a", 0.9),
        screenshot("c", 0.3),
        screenshot("c", 0.6),
        screenshot("other", 0.2),
    ]
    rows = levels(frozenset({"a", "b"}), {"b": OWN}, predictions, TO_ONE)
    assert [(row.label, row.tested, row.rejected) for row in rows] == [
        ("c", 2, 1),
        ("b", 0, 0),
        ("a", 1, 0),
    ]
    assert rows[0].dots == ((30.0, True), (60.0, False))
    assert all(row.threshold_percents == (50.0,) for row in rows)
    assert (rows[0].band, rows[1].band) == (None, Band.of(OWN, TO_ONE))


def test_of_many_screenshots_those_that_score_least_are_drawn() -> None:
    many = [screenshot("a", i / 1000) for i in reversed(range(500, 500 + MAX_DOTS + 9))]
    (row,) = levels(frozenset({"a"}), {}, many, TO_ONE)
    assert (row.tested, len(row.dots)) == (MAX_DOTS + 9, MAX_DOTS)
    assert row.dots[0] == (50.0, False)
