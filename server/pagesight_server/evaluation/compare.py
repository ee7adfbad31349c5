"""Every way to say `other`, over the same test images, in one table.

    observations (seen and read once) ──┬─ pagesight, also without each piece of evidence ─┐
    gallery ──left out──> thresholds ───┼─ seed, its weights swept ────────────────────────┼─> rows
                                        └─ detectors over embeddings alone ────────────────┘

All rows are judged by the same two thresholds, both from the gallery alone:
`left_out`, the epsilon quantile of what left-out pictures score, and `both_sides`, the
rule of decision 0005, where pictures whose page is taken for unknown count too. A
method that serves has placed its own threshold, so there `both_sides` is what it serves.
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
from pagesight_server.recognition.calibration import calibrate, place_threshold, quantile
from pagesight_server.recognition.candidates import Candidate, Query
from pagesight_server.recognition.decision import decide
from pagesight_server.recognition.evidence import LeftOut, Method, MethodName, PagesightMethod
from pagesight_server.recognition.leave_one_out import LeftOutScores, left_out_scores
from pagesight_server.recognition.seed import SeedMethod

ALPHAS = (0.0, 0.2, 0.4, 0.8, 1.0)
"""Weights of the picture that the seed method is also tried with; its own is 0.6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A readable test image, seen and read."""

    truth: str
    query: Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one threshold makes of the scores."""

    threshold: float
    false_rejection_rate: float | None
    rejected: Mapping[str, float]
    """Share of each kind of unknown page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to say `other`."""

    name: str
    family: str
    """`pagesight`, `ablation`, `seed` or `detector`."""
    what: str
    micro_f1: float | None
    """None for a detector, which names no page."""
    auroc: float | None
    fpr_at_95tpr: float | None
    left_out: Rule | None
    """None when no picture could be left out."""
    both_sides: Rule | None
    seconds: float
    """To fit, calibrate and score all images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The table."""

    epsilon: float
    known: int
    unknown: Mapping[str, int]
    """Images of each kind of unknown page."""
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, object]:
        """The object in `compare.json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row that has not been measured yet."""

    name: str
    family: str
    what: str
    measure: Callable[[], Scored]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What one way makes of each observation."""

    scores: Sequence[float]
    """Of the observations, in their order."""
    labels: Sequence[str] | None
    """The page ranked first for each; None for a detector."""
    left_out: Callable[[], LeftOutScores]
    """What left-out gallery pictures score; computed when asked for."""
    threshold: float | None = None
    """The threshold that the method's own rule places; None for a detector, which has none."""
    cpu_s: float | None = None
    """CPU seconds of this process for all decisions; None where none was made."""


def compare(
    snapshot: Snapshot,
    observations: Sequence[Observation],
    *,
    epsilon: float,
    kinds: Sequence[Kind] = KINDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Measures every way on the same observations. Takes about a minute for 400 images.

    Args:
        snapshot: The gallery.
        observations: Test images that could be read, of known and unknown pages.
        epsilon: Share of known pages that may be rejected.
        kinds: The detectors.
        progress: Called with rows done and rows in all.

    Raises:
        SetupError: a detector needs an extra that is not installed.
    """
    table = entries(snapshot, observations, epsilon=epsilon, kinds=kinds)
    rows = []
    for done, entry in enumerate(table):
        progress(done, len(table))
        rows.append(_row(entry, snapshot, observations, epsilon))
    progress(len(table), len(table))
    truths = [o.truth for o in observations]
    return Comparison(
        epsilon=epsilon,
        known=sum(not is_reserved(truth) for truth in truths),
        unknown=dict(sorted(Counter(filter(is_reserved, truths)).items())),
        rows=tuple(rows),
    )


def entries(
    snapshot: Snapshot,
    observations: Sequence[Observation],
    *,
    epsilon: float,
    kinds: Sequence[Kind] = KINDS,
    alphas: Sequence[float] = ALPHAS,
) -> list[Entry]:
    """Every row of the table, none of them measured yet.

    Args:
        snapshot: The gallery.
        observations: Test images that could be read, of known and unknown pages.
        epsilon: Share of known pages that may be rejected.
        kinds: The detectors.
        alphas: Weights of the picture that the seed method is also tried with.
    """

    def method(
        name: MethodName, make: Callable[[], Method], *, ocr: bool = True
    ) -> Callable[[], Scored]:
        return lambda: _by_method(name, make(), snapshot, observations, epsilon, ocr=ocr)

    def without(evidence: LeftOut) -> Callable[[], Method]:
        return lambda: PagesightMethod(snapshot, without=[evidence])

    def seed(alpha: float) -> Callable[[], Method]:
        return lambda: SeedMethod(snapshot, visual_weight=alpha)

    examples = any(is_reserved(picture.label) for picture in snapshot.pictures)
    return [
        Entry(
            name="pagesight",
            family="pagesight",
            what="the default",
            measure=method("pagesight", lambda: PagesightMethod(snapshot)),
        ),
        Entry(
            name="without OCR",
            family="ablation",
            what="pictures alone",
            measure=method("pagesight", lambda: PagesightMethod(snapshot), ocr=False),
        ),
        *(
            Entry(
                name=f"without {evidence}",
                family="ablation",
                what=f"less {what}",
                measure=method("pagesight", without(evidence)),
            )
            for evidence, what in PagesightMethod.EVIDENCE.items()
            if evidence != "unknown_example" or examples
        ),
        Entry(
            name="seed",
            family="seed",
            what="the published method, 0.6 picture and 0.4 text",
            measure=method("seed", lambda: SeedMethod(snapshot)),
        ),
        *(
            Entry(
                name=f"seed, alpha {alpha:g}",
                family="seed",
                what=f"{alpha:g} picture and {1 - alpha:g} text",
                measure=method("seed", seed(alpha)),
            )
            for alpha in alphas
        ),
        *(
            Entry(
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
) -> Scored:
    calibration = calibrate(name, snapshot, method, epsilon)
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
        cpu_s=cpu_s,
    )


def _by_detector(kind: Kind, snapshot: Snapshot, observations: Sequence[Observation]) -> Scored:
    rows = [row for row, p in enumerate(snapshot.pictures) if not is_reserved(p.label)]
    embeddings = snapshot.embeddings[rows]
    labels = [snapshot.pictures[row].label for row in rows]
    queries = np.stack([observation.query.embedding for observation in observations])
    scores = kind.fit(embeddings, labels).score(queries)
    return Scored(
        scores=scores.tolist(), labels=None, left_out=lambda: left_out(kind, embeddings, labels)
    )


def _row(
    entry: Entry, snapshot: Snapshot, observations: Sequence[Observation], epsilon: float
) -> Row:
    start = time.perf_counter()
    scored = entry.measure()
    left_out_pictures = scored.left_out()
    seconds = time.perf_counter() - start
    truths = [observation.truth for observation in observations]
    pairs = list(zip(truths, scored.scores, strict=True))
    known = [score for truth, score in pairs if not is_reserved(truth)]
    unknown = [score for truth, score in pairs if is_reserved(truth)]
    right = None
    if scored.labels is not None and known:
        right = sum(t == label for t, label in zip(truths, scored.labels, strict=True)) / len(known)
    counts = Counter(p.label for p in snapshot.pictures if not is_reserved(p.label))
    own = left_out_pictures.own
    # The published method serves its own rule, the other column; here it is judged by ours.
    between = scored.threshold if entry.family in ("pagesight", "ablation") else None
    if between is None and left_out_pictures.pseudo_unknown:
        between = place_threshold(left_out_pictures, epsilon, pictures=list(counts.values()))
    return Row(
        name=entry.name,
        family=entry.family,
        what=entry.what,
        micro_f1=right,
        auroc=auroc(known, unknown),
        fpr_at_95tpr=fpr_at_95tpr(known, unknown),
        left_out=_rule(quantile(own, epsilon), pairs) if own else None,
        both_sides=_rule(between, pairs) if between is not None else None,
        seconds=round(seconds, 3),
    )


def _rule(threshold: float, pairs: Sequence[tuple[str, float]]) -> Rule:
    rejected: dict[str, list[bool]] = {}
    for truth, score in pairs:
        kind = truth if is_reserved(truth) else ""
        rejected.setdefault(kind, []).append(score < threshold)
    shares = {kind: sum(found) / len(found) for kind, found in sorted(rejected.items())}
    return Rule(
        threshold=threshold,
        false_rejection_rate=shares.pop("", None),
        rejected=shares,
    )


def rejected_share(rule: Rule, unknown: Mapping[str, int]) -> float | None:
    """Share of all unknown pages that a rule rejects; None when there are none."""
    total = sum(unknown.values())
    return sum(rule.rejected[kind] * n for kind, n in unknown.items()) / total if total else None
