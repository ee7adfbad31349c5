"""Open-set methods compared on the same test images, in one table.

    observations (embedded and read once) ──┬─ pagesight, and its ablations ──────────┐
    gallery ──leave-one-out──> thresholds ──┼─ seed baseline, its weights swept ──────┼─> rows
                                            └─ detectors that use embeddings alone ───┘

Every row is measured at two thresholds, both from the gallery alone: `left_out`, the epsilon
quantile of the leave-one-out scores, and `both_sides`, the rule of decision 0005, which also counts
pictures whose whole label is left out (pseudo-unknown). The `both_sides` of the method that is
served, with text and without, is the threshold that is served: where that was calibrated on
labelled traffic, the rows are named in `validated`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from pagesight_server.evaluation.detectors import KINDS, Kind, left_out
from pagesight_server.evaluation.metrics import auroc, fpr_at_95tpr
from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.recognition.calibration import (
    Calibration,
    calibrate,
    place_threshold,
    quantile,
)
from pagesight_server.recognition.candidates import Candidate, Query
from pagesight_server.recognition.decision import decide
from pagesight_server.recognition.evidence import LeftOut, Method, MethodName, PagesightMethod
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.leave_one_out import LeftOutScores, left_out_scores
from pagesight_server.recognition.seed import SeedMethod

ALPHAS = (0.0, 0.2, 0.4, 0.8, 1.0)
"""Visual weights of the seed method in the sweep: its own, 0.6, is a row of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A test image that could be read."""

    truth: str
    """Its true label, or kind of unknown page."""
    query: Query
    """Its embedding and text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The rejection rates at one threshold."""

    threshold: float
    false_rejection_rate: float | None
    """Share of known images that score below it; None without known images."""
    rejected: Mapping[str, float]
    """Share of the images of each kind of unknown page that score below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Holds the figures of one method."""

    name: str
    family: str
    """`pagesight`, `ablation`, `seed` or `detector`."""
    what: str
    """The method in a few words."""
    micro_f1: float | None
    """Closed-set accuracy on known images; None for a detector, which names no page."""
    auroc: float | None
    """Known against unknown images, 0 to 1; None where either kind is missing."""
    fpr_at_95tpr: float | None
    """Share of unknown images accepted where 95 % of known ones are; None as for `auroc`."""
    left_out: Rule | None
    """Rates at the epsilon quantile of leave-one-out scores; None if no label has two pictures."""
    both_sides: Rule | None
    """Rates at the threshold of decision 0005; None when there is a single label."""
    seconds: float
    """Seconds to fit, calibrate and score all images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Holds the table that `compare.json` is written from."""

    epsilon: float
    """Target false rejection rate."""
    known: int
    """Number of known images."""
    unknown: Mapping[str, int]
    """Number of images of each kind of unknown page."""
    rows: tuple[Row, ...]
    validated: tuple[str, ...] = ()
    """Names of the rows whose `both_sides` is the threshold that is served, from labelled traffic,
    instead of decision 0005's."""

    def to_json(self) -> dict[str, object]:
        """Returns the object that stands in `compare.json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A method that has not been measured yet; the fields are those of its `Row`."""

    name: str
    family: str
    what: str
    measure: Callable[[], Scored]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What one method makes of each observation."""

    scores: Sequence[float]
    """Score of each observation."""
    labels: Sequence[str] | None
    """Closest label of each observation; None for a detector."""
    left_out: Callable[[], LeftOutScores]
    """Scores gallery pictures that are left out; not run before it is asked for."""
    threshold: float | None = None
    """The threshold that the method's own rule places, or that is served; None for a detector,
    which has no rule."""
    validated: bool = False
    """Whether that threshold is served, and was calibrated on labelled traffic."""
    cpu_s: float | None = None
    """CPU seconds of this process for all decisions; None for a detector, which makes none."""


def compare(
    knowledge: Knowledge,
    observations: Sequence[Observation],
    *,
    kinds: Sequence[Kind] = KINDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Measures every method on the same observations. Takes about a minute for 400 images.

    Args:
        knowledge: The gallery, and the calibration of the method that is served.
        observations: Test images that could be read, of known and unknown pages.
        kinds: The detectors.
        progress: Called with the number of rows measured and of rows in all.

    Raises:
        SetupError: a detector needs an extra that is not installed.
    """
    snapshot, epsilon = knowledge.snapshot, knowledge.calibration.epsilon
    table = experiments(snapshot, observations, epsilon=epsilon, kinds=kinds, served=knowledge)
    rows, validated = [], []
    for done, experiment in enumerate(table):
        progress(done, len(table))
        row, at_served_threshold = _row(experiment, snapshot, observations, epsilon)
        rows.append(row)
        if at_served_threshold:
            validated.append(row.name)
    progress(len(table), len(table))
    truths = [o.truth for o in observations]
    return Comparison(
        epsilon=epsilon,
        known=sum(not is_reserved(truth) for truth in truths),
        unknown=dict(sorted(Counter(filter(is_reserved, truths)).items())),
        rows=tuple(rows),
        validated=tuple(validated),
    )


def experiments(
    snapshot: Snapshot,
    observations: Sequence[Observation],
    *,
    epsilon: float,
    kinds: Sequence[Kind] = KINDS,
    alphas: Sequence[float] = ALPHAS,
    served: Knowledge | None = None,
) -> list[Experiment]:
    """The rows of the table, in their order, not measured yet.

    Args:
        snapshot: The gallery.
        observations: Test images that could be read, of known and unknown pages.
        epsilon: Target false rejection rate.
        kinds: The detectors.
        alphas: Visual weights of the seed method in the sweep.
        served: Its method is judged by its calibration; all others by one on the gallery.
    """

    def method(
        name: MethodName, make: Callable[[], Method], *, ocr: bool = True, as_served: bool = False
    ) -> Callable[[], Scored]:
        calibration = None
        if as_served and served is not None and served.method_name == name:
            calibration = served.calibration
        return lambda: _by_method(
            name, make(), snapshot, observations, epsilon, ocr=ocr, calibration=calibration
        )

    def without(evidence: LeftOut) -> Callable[[], Method]:
        return lambda: PagesightMethod(snapshot, without=[evidence])

    def seed(alpha: float) -> Callable[[], Method]:
        return lambda: SeedMethod(snapshot, visual_weight=alpha)

    examples = any(is_reserved(picture.label) for picture in snapshot.pictures)
    return [
        Experiment(
            name="pagesight",
            family="pagesight",
            what="the default",
            measure=method("pagesight", lambda: PagesightMethod(snapshot), as_served=True),
        ),
        Experiment(
            name="without OCR",
            family="ablation",
            what="embeddings alone",
            measure=method(
                "pagesight", lambda: PagesightMethod(snapshot), ocr=False, as_served=True
            ),
        ),
        *(
            Experiment(
                name=f"without {evidence}",
                family="ablation",
                what=f"without {what}",
                measure=method("pagesight", without(evidence)),
            )
            for evidence, what in PagesightMethod.EVIDENCE.items()
            if evidence != "unknown_example" or examples
        ),
        Experiment(
            name="seed",
            family="seed",
            what="the published method, 0.6 picture and 0.4 text",
            measure=method("seed", lambda: SeedMethod(snapshot), as_served=True),
        ),
        *(
            Experiment(
                name=f"seed, alpha {alpha:g}",
                family="seed",
                what=f"{alpha:g} picture and {1 - alpha:g} text",
                measure=method("seed", seed(alpha)),
            )
            for alpha in alphas
        ),
        *(
            Experiment(
                name=kind.name,
                family="detector",
                what=kind.what,
                measure=partial(_by_detector, kind, snapshot, observations),
            )
            for kind in kinds
        ),
    ]


def _by_method(
    name: MethodName,
    method: Method,
    snapshot: Snapshot,
    observations: Sequence[Observation],
    epsilon: float,
    *,
    ocr: bool,
    calibration: Calibration | None,
) -> Scored:
    """Classifies all observations with a method, calibrated on the gallery where it is not yet."""
    calibration = calibration or calibrate(name, snapshot, method, epsilon)
    rows = [row for row, p in enumerate(snapshot.pictures) if not is_reserved(p.label)]
    decisions = []
    start_s = time.process_time()
    for observation in observations:
        query = Query(
            embedding=observation.query.embedding,
            reading=observation.query.reading if ocr else None,
        )
        candidates: tuple[Candidate, ...] = method.weigh(query, method.search(query.embedding))
        decisions.append(decide(candidates, calibration, with_text=query.reading is not None))
    cpu_s = time.process_time() - start_s
    return Scored(
        scores=[decision.score for decision in decisions],
        labels=[decision.closest_label for decision in decisions],
        left_out=lambda: left_out_scores(method, snapshot, rows, with_text=ocr),
        threshold=calibration.threshold(with_text=ocr),
        validated=calibration.source == "validation",
        cpu_s=cpu_s,
    )


def _by_detector(kind: Kind, snapshot: Snapshot, observations: Sequence[Observation]) -> Scored:
    """Fits a detector to the gallery's known pages and scores all observations with it."""
    rows = [row for row, p in enumerate(snapshot.pictures) if not is_reserved(p.label)]
    embeddings = snapshot.embeddings[rows]
    labels = [snapshot.pictures[row].label for row in rows]
    queries = np.stack([observation.query.embedding for observation in observations])
    scores = kind.fit(embeddings, labels).score(queries)
    return Scored(
        scores=scores.tolist(),
        labels=None,
        left_out=lambda: left_out(kind, embeddings, labels),
    )


def _row(
    experiment: Experiment,
    snapshot: Snapshot,
    observations: Sequence[Observation],
    epsilon: float,
) -> tuple[Row, bool]:
    """Measures one method; and whether its threshold is a served one from labelled traffic."""
    start = time.perf_counter()
    scored = experiment.measure()
    gallery_scores = scored.left_out()
    seconds = time.perf_counter() - start
    truths = [observation.truth for observation in observations]
    pairs = list(zip(truths, scored.scores, strict=True))
    known = [score for truth, score in pairs if not is_reserved(truth)]
    unknown = [score for truth, score in pairs if is_reserved(truth)]
    accuracy = None
    if scored.labels is not None and known:
        correct = sum(t == label for t, label in zip(truths, scored.labels, strict=True))
        accuracy = correct / len(known)
    counts = Counter(p.label for p in snapshot.pictures if not is_reserved(p.label))
    own = gallery_scores.own
    # The published method's own rule is the other column: here it is judged by ours.
    own_rule = experiment.family in ("pagesight", "ablation") or scored.validated
    threshold = scored.threshold if own_rule else None
    if threshold is None and gallery_scores.pseudo_unknown:
        threshold = place_threshold(gallery_scores, epsilon, pictures=list(counts.values()))
    row = Row(
        name=experiment.name,
        family=experiment.family,
        what=experiment.what,
        micro_f1=accuracy,
        auroc=auroc(known, unknown),
        fpr_at_95tpr=fpr_at_95tpr(known, unknown),
        left_out=_rule(quantile(own, epsilon), pairs) if own else None,
        both_sides=_rule(threshold, pairs) if threshold is not None else None,
        seconds=round(seconds, 3),
    )
    return row, scored.validated


def _rule(threshold: float, pairs: Sequence[tuple[str, float]]) -> Rule:
    """The rejection rates at a threshold, from pairs of true label and score."""
    known_pages = ""
    rejections: dict[str, list[bool]] = {}
    for truth, score in pairs:
        kind = truth if is_reserved(truth) else known_pages
        rejections.setdefault(kind, []).append(score < threshold)
    shares = {kind: sum(flags) / len(flags) for kind, flags in sorted(rejections.items())}
    return Rule(
        threshold=threshold,
        false_rejection_rate=shares.pop(known_pages, None),
        rejected=shares,
    )


def rejected_share(rule: Rule, unknown: Mapping[str, int]) -> float | None:
    """Share of all unknown images that a threshold rejects; None when there are none.

    Args:
        rule: The rejection rates at the threshold.
        unknown: Number of images of each kind of unknown page.
    """
    total = sum(unknown.values())
    return sum(rule.rejected[kind] * n for kind, n in unknown.items()) / total if total else None
