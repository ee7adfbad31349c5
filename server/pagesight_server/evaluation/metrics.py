"""Every figure of `metrics.json`, from predictions alone, so that anyone can recompute it.

    known images    ── closed_label ──> per class, confusion, micro and macro F1
    known + unknown ── score ─────────> AUROC, FPR at 95 % TPR
                    ── label ─────────> false rejection, rejected per kind, overall accuracy

A rate of nothing (no unknown images, say) is None and never NaN. How unreadable images
are counted follows from their predictions: see `prediction`.
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
    """One label against all others, over known images."""

    precision: float
    recall: float
    f1: float
    support: int
    tp: int
    fp: int
    fn: int
    tn: int

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
    """Known images by truth and answer."""

    labels: tuple[str, ...]
    """The test's classes, then labels answered but not tested, then "" if any had no answer."""
    matrix: tuple[tuple[int, ...], ...]
    """matrix[i][j]: images of labels[i] answered labels[j]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFigures:
    """One kind of unknown page."""

    n: int
    rejected: int
    auroc: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSet:
    """How well known pages are told from unknown ones."""

    auroc: float | None
    fpr_at_95tpr: float | None
    false_rejection_rate: float | None
    overall_accuracy: float | None
    kinds: Mapping[str, KindFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """All figures of one run."""

    n: int
    """Known images."""
    micro_f1: float | None
    """Every known image has one answer, so this is the accuracy; an unreadable image has a
    wrong one, which costs a false positive of no class."""
    macro_f1: float | None
    accuracy: float | None
    per_class: Mapping[str, ClassFigures]
    """The classes of the test, by label."""
    confusion: Confusion
    open_set: OpenSet

    def to_json(self) -> dict[str, object]:
        """The object in `metrics.json`."""
        return asdict(self)


def measure(predictions: Sequence[Prediction]) -> Metrics:
    """Every figure of a run; the order of predictions changes none."""
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
    """Counts and rates per class of the test, from the number of each (truth, answer)."""
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
    """The matrix of (truth, answer)."""
    truths = {truth for truth, _ in pairs}
    untested = {answer for _, answer in pairs} - truths
    labels = [*sorted(truths), *sorted(untested - {NO_ANSWER}), *sorted(untested & {NO_ANSWER})]
    return Confusion(
        labels=tuple(labels),
        matrix=tuple(tuple(pairs.get((i, j), 0) for j in labels) for i in labels),
    )


def open_set(predictions: Sequence[Prediction]) -> OpenSet:
    """Figures of telling known pages from unknown ones."""
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
    """Probability that a known score exceeds an unknown one, a tie counting half.

    Exact (counted in integers), O(n log n).
    """
    if not known or not unknown:
        return None
    ordered = sorted(known)
    n = len(ordered)
    # Twice the wins plus the ties of each unknown score.
    halves = sum(2 * n - bisect_right(ordered, u) - bisect_left(ordered, u) for u in unknown)
    return halves / (2 * n * len(unknown))


def fpr_at_95tpr(known: Sequence[float], unknown: Sequence[float]) -> float | None:
    """Share of unknown scores at or above the score that 95 % of known ones reach.

    That is the largest score which at least 95 % of the known scores are at or above.
    """
    if not known or not unknown:
        return None
    reached = -(-95 * len(known) // 100)
    limit = sorted(known, reverse=True)[reached - 1]
    return sum(u >= limit for u in unknown) / len(unknown)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
