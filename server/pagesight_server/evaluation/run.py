"""Classifies every image of a test folder, each alone and in random order.

    DIR/<label>/* ─collect─> shuffled ─classify, each alone─> outcomes, by path ─> figures
                                 └─ the first of them before all others: what one takes

The folder's name is a test image's true label and must not leak into the answer: the pipeline
gets the bytes and nothing else, and the answer is compared with the name afterwards.
"""

from __future__ import annotations

import asyncio
import math
import random
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pagesight_server.common.errors import ImageError, SetupError
from pagesight_server.curation.own_scores import OwnScores, own_scores
from pagesight_server.evaluation.metrics import Metrics, measure
from pagesight_server.evaluation.outputs import NO_OUTPUTS, OutputMetrics, measure_outputs
from pagesight_server.evaluation.prediction import MAX_CANDIDATES, Prediction
from pagesight_server.gallery.folder import read_folder
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY, is_reserved
from pagesight_server.inference.decode import read_file
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.explanation import Explanation, explain
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.telemetry.drift import Drift, DriftFigures
from pagesight_server.workflows.knowledge import (
    outdated_calibration_warning,
    own_rejected_warning,
)
from pagesight_server.workflows.pipeline import Pipeline

DEFAULT_LIMITS = ImageLimits()

MAX_DOUBTFUL = 12
"""Correct answers with the smallest margins that are explained too, as the next to fail: as many
as a reviewer looks through."""

TIMED_ALONE = 20
"""Images that are processed before the others, one at a time, for `seconds_per_image`: among others
one waits for cores that they use. Enough for a mean, and few enough to take no more than seconds of
a run that keeps all cores busy afterwards."""

NOTHING = Explanation()

CHANCE = 2.33
"""Standard deviations above epsilon beyond which the false rejection rate is significantly too
high: the one-sided 99 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The prediction for one image, with what a reviewer needs to understand it."""

    prediction: Prediction
    picture_id: str = ""
    """Id of the best matching gallery picture of `closed_label`; empty when there is none."""
    explanation: Explanation = NOTHING
    """The explanation of a wrong or a doubtful answer; empty for all others."""
    doubtful: bool = False
    """Whether it is correct with one of the smallest margins, or marked for review."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Holds what a finished evaluation found."""

    folder: Path
    gallery: str
    gallery_labels: frozenset[str]
    outcomes: tuple[Outcome, ...]
    """One outcome for each image, sorted by path."""
    metrics: Metrics
    seconds_per_image: float | None
    """Mean seconds from decode to decision of a readable image with no other beside it; None when
    there is none, or when one of them came from the feature cache."""
    ran_with: Mapping[str, object]
    """The conditions of the run: versions, gallery, method."""
    warnings: tuple[str, ...]
    limits: ImageLimits = DEFAULT_LIMITS
    """Size limits under which the test images were read."""
    outputs: OutputMetrics = NO_OUTPUTS
    """Figures of business labels."""
    drift: DriftFigures | None = None
    """Drift of all answers from the calibration set, as a server measures it; None without any."""
    calibrated: tuple[float, ...] = ()
    """Quantiles of the scores of the calibration set."""
    timed_alone: int = 0
    """Number of images behind `seconds_per_image`."""
    own: Mapping[str, OwnScores] = field(default_factory=dict)
    """What the gallery's own pictures score, each left out, by label."""

    @property
    def predictions(self) -> list[Prediction]:
        """The lines of `predictions.jsonl`, sorted by path."""
        return [outcome.prediction for outcome in self.outcomes]

    @property
    def unreadable(self) -> list[Prediction]:
        """The predictions of images that could not be read."""
        return [p for p in self.predictions if p.error]


def collect(folder: Path) -> list[tuple[str, str]]:
    """The images of a test folder as (relative path, true label), sorted by path.

    Raises:
        SetupError: it is not a folder, or holds no pictures.
        InvalidRequestError: a folder's name cannot be a label.
    """
    return sorted(
        (str(path.relative_to(folder)), label)
        for label, paths in read_folder(folder).pictures.items()
        for path in paths
    )


async def evaluate(
    pipeline: Pipeline,
    folder: Path,
    *,
    gallery: str = DEFAULT_GALLERY,
    ocr: bool = True,
    concurrency: int = 1,
    seed: int = 0,
    limits: ImageLimits = DEFAULT_LIMITS,
    progress: Callable[[int, int], None] = lambda done, total: None,
    ran_with: Mapping[str, object] | None = None,
    observe: Callable[[str, Query], None] = lambda truth, query: None,
) -> Run:
    """Classifies every image of a test folder and measures the answers.

    Args:
        pipeline: The pipeline, as `serve` uses it.
        folder: The test set, `<label>/*`; `other` and `other_<kind>` hold unknown pages.
        gallery: Name of the gallery.
        ocr: Whether text is read.
        concurrency: Images processed at the same time, once `TIMED_ALONE` were processed alone.
        seed: Seed of the random order; no answer depends on it.
        limits: Size limits of a file; a larger one counts as unreadable.
        progress: Called with the number of images done and of images in all.
        ran_with: Conditions that the caller adds to the report (versions, machine).
        observe: Called for every image that could be read, with true label, embedding and text.

    Raises:
        SetupError: there is nothing to test, or the gallery knows no page.
        InvalidRequestError: a folder's name cannot be a label.
        NotFoundError: there is no such gallery.
    """
    if concurrency < 1:
        raise SetupError(f"concurrency must be at least 1, got {concurrency}")
    images = await asyncio.to_thread(collect, folder)
    knowledge = pipeline.knowledge(gallery)
    if not knowledge.snapshot.labels:
        raise SetupError(
            f"gallery {gallery!r} knows no page: enrol pictures with `pagesight-server index DIR`"
        )
    shuffled = list(images)
    random.Random(seed).shuffle(shuffled)
    outcomes: list[Outcome] = []
    doubtful = _Doubtful()
    drift = Drift(knowledge.calibration)
    seconds: list[float] = []
    revisions = {knowledge.snapshot.revision}

    async def classify(path: str, truth: str) -> Answer | None:
        answer = None
        try:
            data = await asyncio.to_thread(read_file, folder / path, limits)
            answer = await pipeline.classify(data, gallery=gallery, ocr=ocr)
        except ImageError as error:
            unreadable = Prediction.unreadable(path, truth, str(error))
            outcomes.append(Outcome(prediction=unreadable))
        else:
            outcome = await asyncio.to_thread(_outcome, path, truth, answer)
            outcomes.append(outcome)
            doubtful.add(outcome, answer)
            drift.add(answer.decision, with_text=ocr)
            observe(truth, answer.query)
            revisions.add(answer.knowledge.snapshot.revision)
        progress(len(outcomes), len(images))
        return answer

    async def work(queue: Iterator[tuple[str, str]]) -> None:
        for path, truth in queue:
            await classify(path, truth)

    queue = iter(shuffled)
    for path, truth in queue:
        if (answer := await classify(path, truth)) is not None:
            seconds.append(answer.stage_ms["total"] / 1000)
        if len(seconds) == TIMED_ALONE and concurrency > 1:
            break
    if pipeline.cache.hits:
        seconds.clear()
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(work(queue))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    outcomes = await asyncio.to_thread(doubtful.explained, outcomes)
    outcomes.sort(key=lambda outcome: outcome.prediction.path)
    predictions = [outcome.prediction for outcome in outcomes]
    metrics = measure(predictions)
    calibration = knowledge.calibration
    return Run(
        folder=folder,
        gallery=gallery,
        gallery_labels=frozenset(knowledge.snapshot.labels),
        outcomes=tuple(outcomes),
        metrics=metrics,
        seconds_per_image=math.fsum(seconds) / len(seconds) if seconds else None,
        ran_with={
            **(ran_with or {}),
            **_facts(knowledge, with_text=ocr),
            "ocr": ocr,
            "concurrency": concurrency,
            "timed_alone": len(seconds),
            "seed": seed,
        },
        warnings=(
            *_warnings(knowledge, metrics, outcomes, revisions),
            *filter(None, (own_rejected_warning(calibration, with_text=ocr),)),
            *filter(None, (drift.figures().warning,)),
        ),
        limits=limits,
        outputs=measure_outputs(predictions, knowledge.snapshot.outputs),
        drift=None if all(o.prediction.error for o in outcomes) else drift.figures(),
        calibrated=calibration.scores_with_text if ocr else calibration.scores_without_text,
        timed_alone=len(seconds),
        own=await asyncio.to_thread(own_scores, knowledge, with_text=ocr),
    )


def _outcome(path: str, truth: str, answer: Answer) -> Outcome:
    decision, snapshot = answer.decision, answer.knowledge.snapshot
    prediction = Prediction(
        path=path,
        truth=truth,
        closed_label=decision.closest_label,
        score=float(decision.score),
        label=decision.label,
        threshold=float(decision.threshold),
        doubt=float(decision.doubt),
        review=decision.review_reasons,
        candidates=tuple(
            (candidate.label, float(candidate.score), float(candidate.rank_score))
            for candidate in decision.candidates[:MAX_CANDIDATES]
        ),
    )
    best = decision.candidates[0] if decision.candidates else None
    outcome = Outcome(
        prediction=prediction,
        picture_id=snapshot.pictures[best.row].image_id if best else "",
    )
    # Explanations of most correct answers are never shown, and cost a comparison of all lines.
    wrong = not prediction.right or (prediction.known and prediction.closed_label != truth)
    return _explained(outcome, answer) if wrong else outcome


def _explained(outcome: Outcome, answer: Answer) -> Outcome:
    return replace(
        outcome,
        explanation=explain(answer.knowledge, answer.query, answer.decision),
    )


class _Doubtful:
    """Keeps the correct answers with the smallest margins."""

    def __init__(self) -> None:
        self._nearest: list[tuple[float, str, Answer]] = []

    def add(self, outcome: Outcome, answer: Answer) -> None:
        """Keeps the answer while fewer than `MAX_DOUBTFUL` others have a smaller margin."""
        prediction = outcome.prediction
        if outcome.explanation.reasons:
            return
        margin = abs(prediction.score - prediction.threshold)
        if answer.decision.review:
            margin = 0.0
        insort(self._nearest, (margin, prediction.path, answer), key=lambda entry: entry[:2])
        del self._nearest[MAX_DOUBTFUL:]

    def explained(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """The outcomes, the doubtful ones with their explanations."""
        answers = {path: answer for _, path, answer in self._nearest}
        return [
            replace(_explained(outcome, answers[outcome.prediction.path]), doubtful=True)
            if outcome.prediction.path in answers
            else outcome
            for outcome in outcomes
        ]


def _facts(knowledge: Knowledge, *, with_text: bool) -> dict[str, object]:
    """The conditions of a run that concern the gallery, by their names in the report."""
    snapshot = knowledge.snapshot
    return {
        "gallery": snapshot.gallery,
        "revision": snapshot.revision,
        "labels": len(snapshot.labels),
        "pictures": len(snapshot.pictures),
        "method": knowledge.method_name,
        "epsilon": knowledge.calibration.epsilon,
        "calibrated_by": knowledge.calibration.source,
        "own_rejected": round(knowledge.calibration.share_rejected(with_text=with_text), 4),
        "bundles": {"encoder": snapshot.encoder_bundle, "ocr": snapshot.ocr_bundle},
    }


def _warnings(
    knowledge: Knowledge, metrics: Metrics, outcomes: list[Outcome], revisions: set[int]
) -> Iterator[str]:
    """Reasons to distrust the figures, and a false rejection rate above its target."""
    truths = {o.prediction.truth for o in outcomes if not is_reserved(o.prediction.truth)}
    if missing := sorted(truths - set(knowledge.snapshot.labels)):
        yield (
            f"the gallery has no pictures of {', '.join(missing)}: "
            "every test image with these labels counts as wrong"
        )
    if unreadable := sum(bool(o.prediction.error) for o in outcomes):
        yield f"{unreadable} of {len(outcomes)} images could not be read: each counts as wrong"
    if len(revisions) > 1:
        yield f"the gallery changed during the run: answers are of revisions {sorted(revisions)}"
    epsilon = knowledge.calibration.epsilon
    if warning := outdated_calibration_warning(knowledge):
        yield warning
    if not knowledge.calibration.guaranteed:
        yield (
            f"the threshold is calibrated on too few pictures of each page: a false rejection rate "
            f"of at most {epsilon:.0%} is not guaranteed"
        )
    rate = metrics.open_set.false_rejection_rate
    if rate is not None and rate > epsilon + CHANCE * math.sqrt(
        epsilon * (1 - epsilon) / metrics.n
    ):
        yield (
            f"{rate:.1%} of known pages were rejected, significantly more than the target of "
            f"{epsilon:.0%}: these screenshots differ from the gallery; enrol newer ones"
        )
