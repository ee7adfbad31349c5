"""What each method answers on a set: ours, ours less each kind of evidence, the published one.

    ScreenSet ──evaluation.compare.experiments──> threshold, scores, labels ──> MethodAnswers

The published method keeps its own rule for the threshold, the epsilon quantile of what left-out
pictures score; so do all others keep theirs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pagesight_server.evaluation import Prediction
from pagesight_server.evaluation.compare import Experiment, experiments
from pagesight_server.gallery.snapshot import OTHER
from tests.bench.recognition.sets import ScreenSet

OURS, PUBLISHED = "pagesight", "seed"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodAnswers:
    """What one method makes of a set's test screenshots."""

    method: str
    predictions: tuple[Prediction, ...]
    """In the order of the set's tests."""
    cpu_ms: float
    """CPU milliseconds of search, evidence and decision for a screenshot that is seen and read."""


def methods(screen_set: ScreenSet, *, epsilon: float) -> list[Experiment]:
    """The methods of the table, none of them run yet.

    Args:
        screen_set: The set.
        epsilon: Share of known pages that may be rejected.
    """
    return experiments(
        screen_set.snapshot, screen_set.observations, epsilon=epsilon, kinds=(), alphas=()
    )


def answers(
    screen_set: ScreenSet, *, epsilon: float, names: Collection[str] | None = None
) -> list[MethodAnswers]:
    """Runs methods on a set, each calibrated on the set's gallery.

    Args:
        screen_set: The set.
        epsilon: Share of known pages that may be rejected.
        names: The methods; None for all of the table.
    """
    return [
        _answers(experiment, screen_set)
        for experiment in methods(screen_set, epsilon=epsilon)
        if names is None or experiment.name in names
    ]


def _answers(experiment: Experiment, screen_set: ScreenSet) -> MethodAnswers:
    scored = experiment.measure()
    if scored.labels is None or scored.threshold is None or scored.cpu_s is None:
        raise AssertionError(f"{experiment.name} answers no page")
    threshold = float(scored.threshold)
    return MethodAnswers(
        method=experiment.name,
        predictions=tuple(
            Prediction(
                path=test.path,
                truth=test.truth,
                closed_label=label,
                score=float(score),
                label=label if score >= threshold else OTHER,
                threshold=threshold,
            )
            for test, label, score in zip(
                screen_set.tests, scored.labels, scored.scores, strict=True
            )
        ),
        cpu_ms=1000 * scored.cpu_s / max(1, len(screen_set.tests)),
    )
