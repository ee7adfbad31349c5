"""Traffic against the calibration: shares and shifts worked out by hand."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.decision import Decision
from pagesight_server.telemetry.drift import Drift, Drifts

# Known pages scored evenly between 0 and 1; the threshold leaves out the lowest fifth.
CALIBRATION = Calibration(
    epsilon=0.05,
    pictures=10_000,
    guaranteed=True,
    threshold_with_text=0.2,
    threshold_without_text=0.2,
    scores_with_text=tuple(n / 100 for n in range(101)),
    scores_without_text=(0.0, 1.0),
)


def decision(score: float, threshold: float = 0.2) -> Decision:
    return Decision(
        label="a" if score >= threshold else "other",
        closest_label="a",
        score=score,
        threshold=threshold,
        candidates=(),
        against=None,
    )


def watched(scores: list[float], *, window: int = 1_000) -> Drift:
    drift = Drift(CALIBRATION, window=window)
    for score in scores:
        drift.add(decision(score), with_text=True)
    return drift


def evenly(low: float, high: float, count: int = 400) -> list[float]:
    return [low + (high - low) * (n + 0.5) / count for n in range(count)]


def test_traffic_like_the_calibration_has_no_shift_and_no_warning() -> None:
    found = watched(evenly(0, 1)).figures()
    assert found.answers == 400
    assert found.share_other == pytest.approx(0.2)
    assert found.score_shift == pytest.approx(0, abs=0.01)
    assert found.warning == ""


def test_accepted_scores_in_the_lower_half_are_shifted_by_one_half() -> None:
    # Accepted scores 0.2 to 0.6 fill the lower half of 0.2 to 1: all are there, half should be.
    found = watched(evenly(0.2, 0.6)).figures()
    assert found.score_shift == pytest.approx(0.5, abs=0.01)
    assert "at most 5% of known pages are rejected no longer holds" in found.warning


def test_unknown_pages_that_are_rejected_do_not_move_the_scores() -> None:
    found = watched(evenly(0.2, 1) + [0.1] * 500).figures()
    assert found.score_shift == pytest.approx(0, abs=0.01)
    assert found.share_other == pytest.approx(500 / 900)


def test_higher_scores_than_the_calibration_are_no_cause_for_a_warning() -> None:
    found = watched(evenly(0.9, 1)).figures()
    assert (found.score_shift, found.warning) == (0.0, "")


def test_few_answers_warn_of_nothing() -> None:
    assert watched(evenly(0.2, 0.3, count=99)).figures().warning == ""


def test_a_calibration_that_promised_nothing_is_not_said_to_break_a_promise() -> None:
    drift = Drift(replace(CALIBRATION, guaranteed=False))
    for score in evenly(0.2, 0.6):
        drift.add(decision(score), with_text=True)
    warning = drift.figures().warning
    assert "the threshold no longer rests on what it was placed by" in warning
    assert "5%" not in warning


def test_the_window_forgets_what_it_counted() -> None:
    found = watched([0.1] * 200 + evenly(0.2, 1, count=200), window=200).figures()
    assert (found.answers, found.share_other) == (200, 0.0)
    assert found.score_shift == pytest.approx(0, abs=0.02)


def test_more_others_than_when_the_calibration_began_are_warned_of() -> None:
    began = [0.1] * 20 + [0.9] * 180
    later = [0.1] * 100 + [0.9] * 100
    found = watched(began + later, window=200).figures()
    assert "50% of the last 200 answers are other, 10% were" in found.warning
    assert watched(began + began, window=200).figures().warning == ""


@pytest.mark.parametrize("scores", [(), (0.5,)])
def test_a_calibration_without_scores_still_counts_others(scores: tuple[float, ...]) -> None:
    drift = Drift(replace(CALIBRATION, scores_with_text=scores))
    for score in [0.1] * 100 + [0.3] * 100:
        drift.add(decision(score), with_text=True)
    found = drift.figures()
    assert (found.share_other, found.score_shift, found.warning) == (0.5, 0.0, "")


def test_nothing_answered_is_nothing_to_tell() -> None:
    found = Drift(CALIBRATION).figures()
    assert (found.answers, found.share_other, found.score_shift) == (0, 0.0, 0.0)


def test_a_threshold_above_every_score_of_the_calibration_tells_no_shift() -> None:
    drift = Drift(CALIBRATION)
    drift.add(decision(2.0, threshold=1.5), with_text=True)
    assert drift.figures().score_shift == 0.0


def test_another_calibration_begins_the_scores_anew_and_goes_on_counting_others() -> None:
    drifts = Drifts()
    for score in [0.1, 0.3, 0.3, 0.3]:
        drifts.add("a", CALIBRATION, decision(score), with_text=True)
    drifts.add("b", CALIBRATION, decision(0.9), with_text=False)
    before = drifts.of_galleries()["a"].figures()
    # All three accepted ones lie in the lowest eighth: seven eighths too low.
    assert before.share_other == 0.25
    assert before.score_shift == pytest.approx(0.875, abs=0.02)
    # The very same calibration, read back from the store, changes nothing.
    again = Calibration.from_json(CALIBRATION.to_json())
    drifts.add("a", again, decision(0.1), with_text=True)
    assert drifts.of_galleries()["a"].figures().score_shift == before.score_shift
    other = replace(CALIBRATION, threshold_with_text=0.3)
    drifts.add("a", other, decision(1.0, threshold=0.3), with_text=True)
    after = drifts.of_galleries()["a"].figures()
    assert (after.answers, after.score_shift) == (6, 0.0)
    assert after.share_other == pytest.approx(2 / 6)
    assert drifts.of_galleries()["b"].figures().answers == 1


def test_a_window_that_moves_on_forgets_answers_under_an_earlier_calibration() -> None:
    drift = Drift(CALIBRATION, window=3)
    for score in [0.1, 0.9, 0.3]:
        drift.add(decision(score), with_text=True)
    drift = drift.under(replace(CALIBRATION, threshold_with_text=0.1))
    for _ in range(3):
        drift.add(decision(1.0), with_text=True)
    found = drift.figures()
    assert (found.answers, found.share_other, found.score_shift) == (3, 0.0, 0.0)


def test_a_broken_guarantee_is_logged_once_and_its_end_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "pagesight_server.telemetry.drift")
    drifts = Drifts(window=200)

    def answered(scores: list[float]) -> list[str]:
        caplog.clear()
        for score in scores:
            drifts.add("loans", CALIBRATION, decision(score), with_text=True)
        return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]

    assert answered(evenly(0.2, 1, 100) * 3) == []
    (warning,) = answered(evenly(0.2, 0.4, 100) * 6)
    assert warning.startswith("WARNING gallery loans: screenshots fit their pages less well")
    assert "rejected no longer holds" in warning
    (end,) = answered(evenly(0.2, 1, 100) * 6)
    assert end == "INFO gallery loans: screenshots fit their pages as they should again"


def test_traffic_on_the_limit_is_logged_at_most_once_for_a_window_of_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    drifts = Drifts(window=400)
    for _ in range(20):
        # By turns all is well and nothing is, as seen at every look.
        for score in evenly(0.2, 1, 100) + evenly(0.2, 0.3, 300):
            drifts.add("loans", CALIBRATION, decision(score), with_text=True)
    assert len(caplog.records) <= 20


def test_what_is_known_of_a_gallery_is_forgotten_once_it_is_deleted() -> None:
    drifts, known = Drifts(), {"a", "b"}
    drifts.known = lambda: known
    for name in ("a", "b"):
        drifts.add(name, CALIBRATION, decision(0.9), with_text=True)
    known.remove("a")
    assert set(drifts.of_galleries()) == {"b"}
    known.add("c")
    drifts.add("c", CALIBRATION, decision(0.9), with_text=True)
    # One that is made anew under its name begins anew.
    known.add("a")
    assert set(drifts.of_galleries()) == {"b", "c"}
    drifts.add("a", CALIBRATION, decision(0.9), with_text=True)
    assert drifts.of_galleries()["a"].figures().answers == 1


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="window >= 1"):
        Drift(CALIBRATION, window=0)
