"""Figures of business labels (multi-label): a page may have several, and pages may share one.

    true label ─────labels.toml──> business labels ─┐
    closest label ──labels.toml──> business labels ─┴─> counts per label ──> precision, recall, F1

Closed-set, as for pages: known images only, whatever the threshold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pagesight_server.evaluation.metrics import ClassFigures
from pagesight_server.evaluation.prediction import NO_ANSWER, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputMetrics:
    """Figures of business labels; `outputs` in `metrics.json`."""

    n: int
    """Number of known images."""
    micro_f1: float | None
    """F1 over the counts of all business labels together."""
    macro_f1: float | None
    """Mean F1 of the business labels of the test."""
    exact: float | None
    """Subset accuracy: share of known images whose set of business labels is exactly right."""
    per_class: Mapping[str, ClassFigures]
    """Figures of each business label of the test, sorted."""


NO_OUTPUTS = OutputMetrics(n=0, micro_f1=None, macro_f1=None, exact=None, per_class={})


def measure_outputs(
    predictions: Sequence[Prediction], outputs: Callable[[str], Sequence[str]]
) -> OutputMetrics:
    """The business label figures of a run.

    Args:
        predictions: Predictions of all images; unknown pages, without business labels, are ignored.
        outputs: Returns the business labels of a page, given its label.
    """
    known = [p for p in predictions if p.known]
    true: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    right: Counter[str] = Counter()
    exact = 0
    for prediction in known:
        truth = set(outputs(prediction.truth))
        answer = (
            set(outputs(prediction.closed_label))
            if prediction.closed_label != NO_ANSWER
            else set[str]()
        )
        true.update(truth)
        answered.update(answer)
        right.update(truth & answer)
        exact += truth == answer
    per_class = {}
    for name in sorted(true):
        tp = right[name]
        fp, fn = answered[name] - tp, true[name] - tp
        per_class[name] = ClassFigures.of(tp=tp, fp=fp, fn=fn, tn=len(known) - tp - fp - fn)
    total = true.total() + answered.total()
    return OutputMetrics(
        n=len(known),
        micro_f1=2 * right.total() / total if total else None,
        macro_f1=sum(c.f1 for c in per_class.values()) / len(per_class) if per_class else None,
        exact=exact / len(known) if known else None,
        per_class=per_class,
    )
