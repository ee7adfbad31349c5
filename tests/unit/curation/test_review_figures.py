"""Figures of decisions against tables worked out by hand."""

from __future__ import annotations

import pytest

from pagesight_server.curation.review_figures import (
    MAX_DAYS,
    DayFigures,
    LabelFigures,
    ReviewerFigures,
    cohens_kappa,
    review_figures,
)
from pagesight_server.gallery import Decision
from tests.support.parts import image_id

NOON_MS = 1_764_417_600_000  # 2025-11-29, 12:00 UTC
DAY_MS = 86_400_000


def made(
    picture: int,
    label: str,
    reviewer: str = "mei",
    *,
    shown: str = "a",
    day: int = 0,
    known_label: str = "",
    seconds: float = 0.0,
) -> Decision:
    """A decision, made so many days after the first."""
    return Decision(
        decision_id=f"{reviewer} {picture} {label} {day}",
        image_id=image_id(picture),
        label=label,
        shown_label=shown,
        reviewer=reviewer,
        decided_at_ms=NOON_MS + day * DAY_MS,
        known_label=known_label,
        seconds=seconds,
    )


def test_nothing_decided_is_nothing_told() -> None:
    figures = review_figures([])
    assert (figures.decided, figures.agreed, figures.doubly_decided) == (0, 0, 0)
    assert figures.kappa is None
    assert [len(part) for part in (figures.reviewers, figures.labels, figures.days)] == [0, 0, 0]


def test_pictures_labels_and_days_are_counted_without_known_items() -> None:
    figures = review_figures(
        [
            made(1, "a"),
            made(2, "b"),
            made(3, ""),
            made(4, "other", shown="other", day=1),
            made(5, "a", shown="other", day=1),
            made(6, "b", known_label="b", day=1),
        ]
    )
    assert (figures.decided, figures.agreed) == (5, 2)
    assert figures.labels == (
        LabelFigures(label="a", decided=3, corrected=1),
        LabelFigures(label="other", decided=2, corrected=1),
    )
    assert figures.days == (
        DayFigures(day="2025-11-29", decided=3, agreed=1),
        DayFigures(day="2025-11-30", decided=2, agreed=1),
    )


def test_a_label_of_unknown_pages_agrees_with_other() -> None:
    figures = review_figures([made(1, "other_ads", shown="other"), made(2, "other_ads")])
    assert (figures.agreed, figures.labels[0].corrected) == (1, 1)


def test_each_reviewer_has_an_accuracy_and_a_median_time() -> None:
    figures = review_figures(
        [
            made(1, "a", seconds=1.0),
            made(2, "a", seconds=4.0),
            made(3, "a"),
            made(4, "b", known_label="b", seconds=2.0),
            made(5, "b", known_label="a", seconds=30.0),
            made(6, "", known_label="a"),
            made(1, "a", "li"),
        ]
    )
    assert figures.reviewers == (
        ReviewerFigures(reviewer="li", decided=1, known_items=0, known_right=0, median_seconds=0.0),
        # The median of 1, 2, 4 and 30.
        ReviewerFigures(
            reviewer="mei", decided=3, known_items=3, known_right=1, median_seconds=3.0
        ),
    )


def test_whoever_decides_again_has_changed_their_mind() -> None:
    figures = review_figures([made(1, "b"), made(1, "a", "li"), made(1, "a", day=1)])
    assert (figures.decided, figures.agreed, figures.doubly_decided) == (1, 1, 1)
    assert figures.reviewers[1].decided == 1
    assert figures.labels == (LabelFigures(label="a", decided=2, corrected=0),)


def test_the_newest_decision_of_a_picture_says_whether_the_machine_was_right() -> None:
    figures = review_figures([made(1, "b", "li", day=1), made(1, "a", day=2)])
    assert (figures.decided, figures.agreed) == (1, 1)


def test_two_reviewers_agree_beyond_chance_as_worked_out_by_hand() -> None:
    # Observed 3/4. Chance: li says a twice and b twice, mei a once and b three times:
    # (2 * 1 + 2 * 3) / 16 = 1/2.
    told = {1: ("a", "a"), 2: ("a", "b"), 3: ("b", "b"), 4: ("b", "b")}
    decisions = [made(picture, one, "li") for picture, (one, _) in told.items()]
    decisions += [made(picture, other, "mei") for picture, (_, other) in told.items()]
    # Known items, and pictures that somebody could not tell, count for nothing.
    decisions += [made(7, "a", name, known_label="a") for name in ("li", "mei")]
    decisions += [made(8, "a", "li"), made(8, "", "mei")]
    figures = review_figures(decisions)
    assert figures.doubly_decided == 4
    assert figures.kappa == pytest.approx(0.5)


def test_of_three_reviewers_every_pair_counts_in_one_table() -> None:
    # Pairs an-li, an-mei, li-mei: of the first picture aa, ab, ab, of the second three times bb.
    # Observed 4/6; the earlier names say a 3 and b 3 times, the later ones a 1 and b 5 times:
    # (3 * 1 + 3 * 5) / 36 = 1/2.
    decisions = [made(1, "a", "an"), made(1, "a", "li"), made(1, "b", "mei")]
    decisions += [made(2, "b", name) for name in ("an", "li", "mei")]
    assert review_figures(decisions).kappa == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("pairs", "kappa"),
    [
        pytest.param([], None, id="no pairs"),
        pytest.param([("a", "a"), ("a", "a")], None, id="one label: chance explains all"),
        pytest.param([("a", "a"), ("b", "b")], 1.0, id="they always agree"),
        pytest.param([("a", "b"), ("b", "a")], -1.0, id="they never agree"),
        # Observed 1/2, chance (1 * 2 + 1 * 0) / 4 = 1/2.
        pytest.param([("a", "a"), ("b", "a")], 0.0, id="no better than chance"),
    ],
)
def test_kappa(pairs: list[tuple[str, str]], kappa: float | None) -> None:
    assert cohens_kappa(pairs) == (None if kappa is None else pytest.approx(kappa))


def test_one_picture_decided_twice_says_nothing_of_agreement() -> None:
    figures = review_figures([made(1, "a"), made(1, "b", "li")])
    assert (figures.doubly_decided, figures.kappa) == (1, None)


def test_only_the_last_days_are_told() -> None:
    days = review_figures([made(day, "a", day=day) for day in range(MAX_DAYS + 5)]).days
    assert len(days) == MAX_DAYS
    assert days[0].day == "2025-12-04"
