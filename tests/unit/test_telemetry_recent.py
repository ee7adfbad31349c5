"""The distance between what traffic scores and what the calibration expects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagesight_server.decision import Decision, Knowledge, decide
from pagesight_server.evidence import Query
from pagesight_server.pipeline import Answer
from pagesight_server.telemetry.recent import MIN_SCORES, Recent, distance
from tests.support.parts import snapshot, unit


@pytest.mark.parametrize(
    ("first", "second", "gap"),
    [
        pytest.param([1, 2, 3], [1, 2, 3], 0.0, id="the same"),
        pytest.param([1, 2], [3, 4], 1.0, id="nothing in common"),
        pytest.param([1, 2, 3, 4], [3, 4], 0.5, id="half lies below"),
    ],
)
def test_the_distance_is_the_largest_gap(
    first: list[float], second: list[float], gap: float
) -> None:
    assert distance(first, second) == gap


def answer(label: str, score: float, *, expected: tuple[float, ...]) -> Answer:
    known = Knowledge.of(snapshot(("a", (1, 0), ()), ("b", (0, 1), ())))
    calibration = replace(known.calibration, scores_without_text=expected)
    decision = known_decision(known, label, score)
    return Answer(
        decision=decision,
        knowledge=replace(known, calibration=calibration),
        query=Query(embedding=unit(1, 0), reading=None),
    )


def known_decision(known: Knowledge, label: str, score: float) -> Decision:
    query = Query(embedding=unit(1, 0), reading=None)
    hits = known.method.search(query.embedding)
    found = decide(known.method.weigh(query, hits), known.calibration, with_text=False)
    return replace(found, label=label, score=score, threshold=0.5)


def test_accepted_scores_are_held_against_those_of_the_calibration_above_the_threshold() -> None:
    recent = Recent()
    assert [recent.other_share, recent.score_drift] == [None, None]
    for _ in range(MIN_SCORES - 1):
        recent.add(answer("a", 0.6, expected=(0.1, 0.6, 0.9)))
    assert drift(recent) is None
    recent.add(answer("a", 0.6, expected=(0.1, 0.6, 0.9)))
    recent.add(answer("other", 0.2, expected=(0.1, 0.6, 0.9)))
    # All of traffic lies at 0.6, half of what is expected above the threshold of 0.5 does.
    assert drift(recent) == 0.5
    assert recent.other_share == pytest.approx(1 / (MIN_SCORES + 1))
    recent.add(answer("a", 0.6, expected=(0.7, 0.8)))
    assert drift(recent) is None


def drift(recent: Recent) -> float | None:
    return recent.score_drift
