"""The figures of `metrics.json`, from predictions alone, so that anyone can recompute them.

    known images    ── closed_label ──> per class, confusion, micro and macro F1
    known + unknown ── score ─────────> AUROC, FPR at 95 % TPR
                    ── label ─────────> false rejection, rejected per kind, overall accuracy

A rate with an empty denominator (without unknown images, say) is None and never NaN. How
unreadable images are counted follows from their predictions: see `prediction`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pagesight_server.evaluation.prediction import NO_ANSWER, Prediction
from pagesight_server.gallery.snapshot import OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """One class against all others (one-vs-rest), over known images."""

    precision: float
    recall: float
    f1: float
    support: int
    """Images whose true label is this class."""
    tp: int
    """True positives."""
    fp: int
    """False positives."""
    fn: int
    """False negatives."""
    tn: int
    """True negatives."""

    @staticmethod
    def of(*, tp: int, fp: int, fn: int, tn: int) -> ClassFigures:
        """The rates that follow from the counts; 0 for a class that was never answered."""
        return ClassFigures(
            precision=tp / (tp + fp) if tp else 0.0,
            recall=tp / (tp + fn) if tp else 0.0,
            f1=2 * tp / (2 * tp + fp + fn) if tp else 0.0,
            support=tp + fn,
            tp=tp,
            fp=fp,
            fn=fn,
            tn=tn,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Confusion matrix of the known images."""

    labels: tuple[str, ...]
    """The true labels, then labels that were only answered, then "" if any image had no answer."""
    matrix: tuple[tuple[int, ...], ...]
    """Counts: matrix[i][j] images of labels[i] were answered labels[j]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFigures:
    """Figures of one kind of unknown page."""

    n: int
    """Images of this kind."""
    rejected: int
    """Images of this kind that were answered `other`."""
    auroc: float | None
    """All known images against those of this kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSet:
    """Open-set figures: how well known pages are separated from unknown ones."""

    auroc: float | None
    """Known against unknown images, 0 to 1; 0.5 is chance."""
    fpr_at_95tpr: float | None
    """Share of unknown images accepted at the threshold that accepts 95 % of known ones."""
    false_rejection_rate: float | None
    """Share of known images that were answered `other`."""
    overall_accuracy: float | None
    """Share of all images answered right, `other` being right for unknown ones."""
    kinds: Mapping[str, KindFigures]
    """Figures of each kind of unknown page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Holds all figures of one run."""

    n: int
    """Number of known images."""
    micro_f1: float | None
    """F1 over all classes together. As every known image has exactly one answer, it equals the
    accuracy; an unreadable image counts as a wrong answer, of no class."""
    macro_f1: float | None
    """Mean F1 of the classes of the test."""
    accuracy: float | None
    """Share of known images whose closest label is right."""
    per_class: Mapping[str, ClassFigures]
    """Figures of each class of the test, sorted by label."""
    confusion: Confusion
    open_set: OpenSet

    def to_json(self) -> dict[str, object]:
        """Returns the object that stands in `metrics.json`."""
        return asdict(self)


def measure(predictions: Sequence[Prediction]) -> Metrics:
    """All figures of a run; they do not depend on the order of the predictions."""
    known = [p for p in predictions if p.known]
    pairs = Counter((p.truth, p.closed_label) for p in known)
    per_class = class_figures(pairs)
    accuracy = _share(sum(n for (truth, answer), n in pairs.items() if truth == answer), len(known))
    return Metrics(
        n=len(known),
        micro_f1=accuracy,
        macro_f1=sum(c.f1 for c in per_class.values()) / len(per_class) if per_class else None,
        accuracy=accuracy,
        per_class=per_class,
        confusion=confusion(pairs),
        open_set=open_set(predictions),
    )


def class_figures(pairs: Mapping[tuple[str, str], int]) -> dict[str, ClassFigures]:
    """Counts and rates of each class of the test.

    Args:
        pairs: The number of images of each pair of true label and answer.
    """
    total = sum(pairs.values())
    support: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    for (truth, answer), count in pairs.items():
        support[truth] += count
        answered[answer] += count
    figures = {}
    for label in sorted(support):
        tp = pairs.get((label, label), 0)
        fp, fn = answered[label] - tp, support[label] - tp
        figures[label] = ClassFigures.of(tp=tp, fp=fp, fn=fn, tn=total - tp - fp - fn)
    return figures


def confusion(pairs: Mapping[tuple[str, str], int]) -> Confusion:
    """The confusion matrix, from the number of images of each pair of true label and answer."""
    truths = {truth for truth, _ in pairs}
    untested = {answer for _, answer in pairs} - truths
    labels = [*sorted(truths), *sorted(untested - {NO_ANSWER}), *sorted(untested & {NO_ANSWER})]
    return Confusion(
        labels=tuple(labels),
        matrix=tuple(tuple(pairs.get((i, j), 0) for j in labels) for i in labels),
    )


def open_set(predictions: Sequence[Prediction]) -> OpenSet:
    """Open-set figures of a run."""
    known = [p for p in predictions if p.known]
    unknown = [p for p in predictions if not p.known]
    known_scores = [p.score for p in known]
    kinds = {}
    for kind in sorted({p.truth for p in unknown}):
        members = [p for p in unknown if p.truth == kind]
        kinds[kind] = KindFigures(
            n=len(members),
            rejected=sum(p.label == OTHER for p in members),
            auroc=auroc(known_scores, [p.score for p in members]),
        )
    return OpenSet(
        auroc=auroc(known_scores, [p.score for p in unknown]),
        fpr_at_95tpr=fpr_at_95tpr(known_scores, [p.score for p in unknown]),
        false_rejection_rate=_share(sum(p.label == OTHER for p in known), len(known)),
        overall_accuracy=_share(sum(p.right for p in predictions), len(predictions)),
        kinds=kinds,
    )


def auroc(known: Sequence[float], unknown: Sequence[float]) -> float | None:
    """Area under the ROC curve: probability that a known score exceeds an unknown one.

    A tie counts half. The result is exact, as it is counted in integers; O(n log n). None when
    either side is empty.
    """
    if not known or not unknown:
        return None
    ordered = sorted(known)
    n = len(ordered)
    # For each unknown score, twice the known scores above it plus those equal to it.
    halves = sum(2 * n - bisect_right(ordered, u) - bisect_left(ordered, u) for u in unknown)
    return halves / (2 * n * len(unknown))


def fpr_at_95tpr(known: Sequence[float], unknown: Sequence[float]) -> float | None:
    """False positive rate at 95 % true positive rate; None when either side is empty.

    The threshold is the largest score that at least 95 % of the known scores reach; the rate is
    the share of unknown scores that reach it, too.
    """
    if not known or not unknown:
        return None
    true_positives = -(-95 * len(known) // 100)  # 95 %, rounded up
    threshold = sorted(known, reverse=True)[true_positives - 1]
    return sum(u >= threshold for u in unknown) / len(unknown)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
