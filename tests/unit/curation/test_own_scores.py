"""What the gallery's own pictures score, each left out."""

from __future__ import annotations

import pytest

from pagesight_server.curation.own_scores import can_be_left_out, own_scores, rows_to_examine
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.knowledge import Knowledge
from tests.support.parts import snapshot

RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
LOAN = ("我的额度", "可用额度 800 元", "去借款")
GALLERY = snapshot(
    ("loan", RED, LOAN),
    ("loan", RED, LOAN),
    ("clock", GREEN, ("Alarms", "Stopwatch")),
    ("clock", BLUE, ("Sveglie", "Cronometro")),
    ("single", (1.0, 1.0, 1.0), ("Contacts",)),
    ("other_ads", RED, ("广告",)),
    ("other_ads", RED, ("广告",)),
)
HIGH = Calibration(
    epsilon=0.05,
    pictures=4,
    guaranteed=False,
    threshold_with_text=0.9,
    threshold_without_text=0.9,
)


def test_alike_pictures_score_high_and_pictures_with_nothing_in_common_are_rejected() -> None:
    own = own_scores(Knowledge.of(GALLERY, calibration=HIGH), with_text=True)
    assert sorted(own) == ["clock", "loan"]
    loan, clock = own["loan"], own["clock"]
    # All that likeness can be: the weights of a score add up to 1.
    assert loan.scores == pytest.approx((1.0, 1.0))
    assert (loan.mean, loan.least, loan.rejected) == pytest.approx((1.0, 1.0, 0))
    assert len(clock.scores) == clock.rejected == 2
    assert clock.least <= clock.mean <= clock.greatest < 0.9


def test_without_text_the_score_is_the_cosine() -> None:
    # Half-way between red and green: its cosine with either is 1 / sqrt(2) = 0.707.
    between = snapshot(("a", RED, LOAN), ("a", (1.0, 1.0, 0.0), LOAN), ("b", BLUE, LOAN))
    own = own_scores(Knowledge.of(between, calibration=HIGH), with_text=False)
    assert own["a"].scores == pytest.approx((0.7071, 0.7071), abs=1e-3)
    assert own["a"].rejected == 2


def test_what_cannot_be_left_out_is_a_labels_only_picture_or_an_example_of_unknown_pages() -> None:
    rows = rows_to_examine(GALLERY)
    assert rows == list(range(7))
    assert can_be_left_out(GALLERY, rows) == [0, 1, 2, 3]
    assert len(rows_to_examine(GALLERY, most=3)) == 3
