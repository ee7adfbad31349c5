"""Figures worked out by hand, figures from the published tables, and a slow second opinion."""

import csv
import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pagesight_server.evaluation.metrics import (
    ClassFigures,
    auroc,
    class_figures,
    fpr_at_95tpr,
    measure,
)
from pagesight_server.evaluation.prediction import Prediction

PUBLISHED = Path(__file__).parents[2] / "data" / "published_tables.tsv"
PUBLISHED_IMAGES = 2107
PUBLISHED_MICRO_F1 = {"ocr": 0.9801, "no_ocr": 0.9079}

FIGURES_THAT_DO_NOT_FOLLOW: frozenset[tuple[str, str, str]] = frozenset()
"""(table, label, column) of each published figure that its own counts contradict: none.
Every rate agrees with its counts to the last of its four digits, support is tp + fn,
and the four counts of each row add up to 2107."""


def made(
    truth: str, closed: str, score: float, *, threshold: float = 0.5, path: str = ""
) -> Prediction:
    return Prediction(
        path=path or f"{truth}/{closed}-{score}.png",
        truth=truth,
        closed_label=closed,
        score=score,
        label=closed if score >= threshold else "other",
        threshold=threshold,
    )


# Six known images of three pages, four unknown ones of two kinds.
TEST = [
    made("a", "a", 0.9),
    made("a", "a", 0.8),
    made("a", "b", 0.7),
    made("b", "b", 0.4),  # found, but rejected
    made("b", "b", 0.6),
    made("c", "a", 0.3),  # c is never answered
    made("other", "a", 0.2),
    made("other", "b", 0.6),  # accepted
    made("other_hard", "b", 0.75),  # accepted
    made("other_hard", "a", 0.1),
]


def test_class_figures_agree_with_hand_worked_ones() -> None:
    metrics = measure(TEST)
    assert metrics.n == 6
    assert metrics.per_class == {
        # tp 2, one c was taken for it, one a was taken for b
        "a": ClassFigures(
            precision=2 / 3, recall=2 / 3, f1=2 / 3, support=3, tp=2, fp=1, fn=1, tn=2
        ),
        "b": ClassFigures(precision=2 / 3, recall=1.0, f1=0.8, support=2, tp=2, fp=1, fn=0, tn=3),
        "c": ClassFigures(precision=0.0, recall=0.0, f1=0.0, support=1, tp=0, fp=0, fn=1, tn=5),
    }
    assert metrics.micro_f1 == metrics.accuracy == 4 / 6
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 0.8) / 3)


def test_confusion_counts_known_images_by_truth_and_answer() -> None:
    confusion = measure(TEST).confusion
    assert confusion.labels == ("a", "b", "c")
    assert confusion.matrix == ((2, 1, 0), (0, 2, 0), (1, 0, 0))


def test_open_set_figures_agree_with_hand_worked_ones() -> None:
    opened = measure(TEST).open_set
    # Known .9 .8 .7 .4 .6 .3 against .2: 6 wins, .6: 3 and a tie, .75: 2, .1: 6.
    assert opened.auroc == (6 + 3.5 + 2 + 6) / 24
    # 95 % of six images are all six: the limit is .3, which .6 and .75 reach.
    assert opened.fpr_at_95tpr == 2 / 4
    assert opened.false_rejection_rate == 2 / 6
    # Right: both a that were found, the b at .6, and the two rejected unknowns.
    assert opened.overall_accuracy == 5 / 10
    kinds = {name: (kind.n, kind.rejected, kind.auroc) for name, kind in opened.kinds.items()}
    assert kinds == {"other": (2, 1, 9.5 / 12), "other_hard": (2, 1, 8 / 12)}


def test_an_ordinary_label_that_begins_like_other_is_a_known_page() -> None:
    metrics = measure([made("others_page", "others_page", 0.9), made("other", "others_page", 0.1)])
    assert metrics.n == 1
    assert list(metrics.open_set.kinds) == ["other"]


def test_without_unknown_images_their_figures_are_null() -> None:
    opened = measure([p for p in TEST if p.known]).open_set
    assert (opened.auroc, opened.fpr_at_95tpr, opened.kinds) == (None, None, {})
    assert opened.false_rejection_rate == 2 / 6


def test_without_known_images_their_figures_are_null() -> None:
    metrics = measure([p for p in TEST if not p.known])
    assert (metrics.n, metrics.micro_f1, metrics.macro_f1, metrics.accuracy) == (0,) + (None,) * 3
    assert metrics.open_set.auroc is None
    assert metrics.open_set.kinds["other"].auroc is None
    assert metrics.open_set.overall_accuracy == 2 / 4


def test_no_figure_is_ever_nan() -> None:
    for predictions in (TEST, TEST[:6], TEST[6:], TEST[5:6], []):
        json.dumps(measure(predictions).to_json(), allow_nan=False)


def test_an_answer_outside_the_test_gets_a_column_but_no_class() -> None:
    metrics = measure([made("b", "b", 0.9), made("b", "a", 0.9)])
    assert list(metrics.per_class) == ["b"]
    assert metrics.confusion.labels == ("b", "a")
    assert metrics.confusion.matrix == ((1, 1), (0, 0))


def test_an_unreadable_image_counts_as_wrong_in_every_figure() -> None:
    predictions = [
        made("a", "a", 0.9),
        made("other", "a", 0.1),
        Prediction.unreadable("a/broken.png", "a", "it is broken"),
        Prediction.unreadable("other/broken.png", "other", "it is broken"),
    ]
    metrics = measure(predictions)
    assert metrics.accuracy == metrics.micro_f1 == 1 / 2
    assert (metrics.per_class["a"].fn, metrics.per_class["a"].fp) == (1, 0)
    assert metrics.confusion.labels == ("a", "")
    assert metrics.confusion.matrix == ((1, 1), (0, 0))
    opened = metrics.open_set
    assert opened.kinds["other"].rejected == 1
    assert opened.overall_accuracy == 2 / 4
    # Of the four comparisons only the two readable images are in the right order.
    assert opened.auroc == 1 / 4
    assert opened.false_rejection_rate == 0


def test_a_row_of_an_unreadable_image_contradicts_neither_its_threshold_nor_its_truth() -> None:
    for truth in ("a", "other", "other_hard"):
        row = Prediction.unreadable("x", truth, "why").to_row()
        assert (row["label"], row["closed_label"], row["error"]) == ("", "", "why")
        assert row["score"] == row["threshold"]


def test_only_rows_of_unreadable_images_carry_an_error() -> None:
    assert list(TEST[0].to_row()) == [
        "path",
        "truth",
        "closed_label",
        "score",
        "label",
        "threshold",
        "doubt",
        "review",
        "candidates",
    ]


def test_a_row_names_the_candidates_with_both_scores_and_why_a_person_should_look() -> None:
    row = replace(
        TEST[0], doubt=0.97, review=("near_threshold",), candidates=(("a", 0.5, 0.6),)
    ).to_row()
    assert (row["doubt"], row["review"]) == (0.97, ("near_threshold",))
    assert row["candidates"] == [{"label": "a", "score": 0.5, "rank_score": 0.6}]


@pytest.mark.parametrize(
    ("label", "score"),
    [
        pytest.param("a", 0.4, id="accepted below the threshold"),
        pytest.param("other", 0.5, id="rejected at the threshold"),
        pytest.param("b", 0.9, id="another page than the closest"),
        pytest.param("a", math.nan, id="no number"),
    ],
)
def test_a_prediction_that_contradicts_itself_is_refused(label: str, score: float) -> None:
    with pytest.raises(ValueError, match=r"a/1\.png"):
        Prediction(
            path="a/1.png", truth="a", closed_label="a", score=score, label=label, threshold=0.5
        )


@pytest.mark.parametrize(
    ("known", "unknown", "expected"),
    [
        pytest.param([2.0, 3.0], [0.0, 1.0], 1.0, id="apart"),
        pytest.param([0.0, 1.0], [2.0, 3.0], 0.0, id="the wrong way round"),
        pytest.param([1.0, 1.0], [1.0], 0.5, id="all tied"),
        pytest.param([1.0, 2.0, 3.0], [2.0], 0.5, id="a win, a tie, a loss"),
        pytest.param([1.0], [], None, id="nothing to compare with"),
    ],
)
def test_auroc_counts_a_tie_as_half(
    known: list[float], unknown: list[float], expected: float | None
) -> None:
    assert auroc(known, unknown) == expected


def test_fpr_takes_the_largest_score_that_95_per_cent_of_known_images_reach() -> None:
    known = [float(score) for score in range(1, 21)]
    # 19 of 20 are at or above 2; only 18 at or above 3.
    assert fpr_at_95tpr(known, [1.0, 1.9, 2.0, 30.0]) == 2 / 4
    # Tied scores are reached together.
    assert fpr_at_95tpr([1.0] * 20, [1.0, 0.9]) == 1 / 2


def test_figures_agree_with_a_plain_recomputation_and_do_not_depend_on_order() -> None:
    dice = random.Random(7)
    predictions = [
        made(
            dice.choice(["a", "b", "c", "d", "other", "other_x"]),
            dice.choice("abcd"),
            dice.randrange(20) / 20,
            threshold=dice.choice([0.3, 0.5, 0.7]),
            path=str(i),
        )
        for i in range(300)
    ]
    metrics = measure(predictions)
    known = [p for p in predictions if not p.truth.startswith("other")]
    unknown = [p for p in predictions if p.truth.startswith("other")]
    for label, figures in metrics.per_class.items():
        assert figures.tp == sum(p.truth == label == p.closed_label for p in known)
        assert figures.fp == sum(p.truth != label == p.closed_label for p in known)
        assert figures.fn == sum(p.truth == label != p.closed_label for p in known)
        assert figures.tn == sum(label not in (p.truth, p.closed_label) for p in known)
    wins = sum((k.score > u.score) + 0.5 * (k.score == u.score) for k in known for u in unknown)
    assert metrics.open_set.auroc == pytest.approx(wins / len(known) / len(unknown))
    limit = max(
        k.score for k in known if sum(o.score >= k.score for o in known) >= 0.95 * len(known)
    )
    reached = sum(u.score >= limit for u in unknown)
    assert metrics.open_set.fpr_at_95tpr == pytest.approx(reached / len(unknown))
    rejected = sum(kind.rejected for kind in metrics.open_set.kinds.values())
    assert rejected == sum(u.label == "other" for u in unknown)
    assert measure(dice.sample(predictions, 300)) == metrics


def published() -> list[dict[str, str]]:
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_published_rates_follow_from_their_own_counts() -> None:
    wrong = set()
    for row in published():
        tp, fp, fn, tn = (int(row[name]) for name in ("tp", "fp", "fn", "tn"))
        ours = ClassFigures.of(tp=tp, fp=fp, fn=fn, tn=tn)
        off = {
            "precision": abs(ours.precision - float(row["precision"])) > 0.5e-4 + 1e-12,
            "recall": abs(ours.recall - float(row["recall"])) > 0.5e-4 + 1e-12,
            "f1": abs(ours.f1 - float(row["f1"])) > 0.5e-4 + 1e-12,
            "support": ours.support != int(row["support"]),
            "tn": tn != PUBLISHED_IMAGES - tp - fp - fn,
        }
        wrong |= {(row["table"], row["label"], column) for column, is_off in off.items() if is_off}
    assert wrong == FIGURES_THAT_DO_NOT_FOLLOW


@pytest.mark.parametrize("table", ["ocr", "no_ocr"])
def test_published_micro_f1_follows_from_the_counts(table: str) -> None:
    rows = [row for row in published() if row["table"] == table]
    tp, fp, fn, support = (
        sum(int(row[name]) for row in rows) for name in ("tp", "fp", "fn", "support")
    )
    assert len(rows) == 22
    assert support == PUBLISHED_IMAGES
    # Every image taken for another page is one false positive and one false negative.
    assert fp == fn == PUBLISHED_IMAGES - tp
    assert round(2 * tp / (2 * tp + fp + fn), 4) == PUBLISHED_MICRO_F1[table]
    assert round(tp / PUBLISHED_IMAGES, 4) == PUBLISHED_MICRO_F1[table]


def test_both_published_tables_are_of_the_same_images() -> None:
    support: dict[str, dict[str, str]] = {"ocr": {}, "no_ocr": {}}
    for row in published():
        support[row["table"]][row["label"]] = row["support"]
    assert support["ocr"] == support["no_ocr"]


@pytest.mark.parametrize("table", ["ocr", "no_ocr"])
def test_our_counting_gives_the_published_figures(table: str) -> None:
    """A set of answers with the published counts: who is taken for whom does not matter."""
    rows = {row["label"]: row for row in published() if row["table"] == table}
    pairs = Counter({(label, label): int(row["tp"]) for label, row in rows.items()})
    spare = {label: int(row["fp"]) for label, row in rows.items()}
    # The label with most misses first, so that none is left with only itself to be taken for.
    for label in sorted(rows, key=lambda name: -int(rows[name]["fn"])):
        for _ in range(int(rows[label]["fn"])):
            answer = max((name for name in spare if name != label), key=spare.__getitem__)
            spare[answer] -= 1
            pairs[label, answer] += 1
    assert set(spare.values()) == {0}
    for label, figures in class_figures(pairs).items():
        row = rows[label]
        rates = (figures.precision, figures.recall, figures.f1)
        assert rates == pytest.approx(
            [float(row[name]) for name in ("precision", "recall", "f1")], abs=0.5e-4 + 1e-12
        )
        counts = (figures.support, figures.tp, figures.fp, figures.fn, figures.tn)
        assert counts == tuple(int(row[name]) for name in ("support", "tp", "fp", "fn", "tn"))
