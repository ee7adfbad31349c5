"""Calibration on labelled traffic, where there is some, instead of on the gallery.

    DIR/<label>/*, other*/* ──embed, read──> scores of known pages ──conformal──> threshold
                                        └──> scores of unknown pages ──> share rejected, reported

Gallery pictures are few and hand-picked; traffic is what the server will be asked. The threshold
is the conformal quantile of known pages alone, which guarantees a false rejection rate of at most
epsilon; its rejection rate for unknown pages is measured on those in the folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from pagesight_server.common.errors import ImageError, SetupError
from pagesight_server.evaluation.run import DEFAULT_LIMITS, collect
from pagesight_server.gallery.snapshot import is_reserved
from pagesight_server.inference.decode import read_file
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.recognition.calibration import Calibration, conformal
from pagesight_server.recognition.candidates import Candidate, Query, lead_over
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.leave_one_out import LeftOutScores, answer_score
from pagesight_server.workflows.pipeline import Features, Pipeline

Candidates: TypeAlias = tuple[Candidate, ...]
"""The candidate labels of one screenshot, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A calibration on labelled traffic, and the calibration set that it was made from."""

    calibration: Calibration
    known: int
    """Images of known pages in the calibration set."""
    unknown: int
    """Images of unknown pages, which measure the threshold."""
    rejected: float | None
    """Share of the unknown pages that the threshold rejects; None when there were none."""
    unreadable: int
    """Images that could not be read."""
    enrolled: int
    """Images that are in the gallery: skipped, as they match themselves."""


def pictures_needed(epsilon: float) -> int:
    """Least size of a calibration set for a conformal quantile: 1 / epsilon - 1, rounded up."""
    return math.ceil(1 / epsilon - 1)


async def validate(
    pipeline: Pipeline,
    knowledge: Knowledge,
    folder: Path,
    *,
    epsilon: float,
    concurrency: int = 1,
    limits: ImageLimits = DEFAULT_LIMITS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Validation:
    """Calibrates the threshold on labelled traffic.

    Args:
        pipeline: Computes embeddings and texts.
        knowledge: The gallery to calibrate.
        folder: The traffic, `<label>/*`; `other` and `other_<kind>` hold unknown pages.
        epsilon: Target false rejection rate.
        concurrency: Images processed at the same time.
        limits: Size limits of a file; a larger one counts as unreadable.
        progress: Called with the number of images done and of images in all.

    Raises:
        SetupError: too few pictures of known pages, or a page that the gallery does not know.
        InvalidRequestError: a folder's name cannot be a label.
    """
    images = await asyncio.to_thread(collect, folder)
    snapshot = knowledge.snapshot
    truths = {truth for _, truth in images if not is_reserved(truth)}
    if missing := sorted(truths - set(snapshot.labels)):
        raise SetupError(
            f"the gallery has no pictures of {', '.join(missing)}: enrol some, or name the folder "
            "other_... if it shows unknown pages"
        )
    enrolled = {picture.image_id for picture in snapshot.pictures}
    answers: list[tuple[str, Candidates, Candidates]] = []
    counts = {"unreadable": 0, "enrolled": 0, "done": 0}

    async def work(queue: Iterator[tuple[str, str]]) -> None:
        for path, truth in queue:
            try:
                data = await asyncio.to_thread(read_file, folder / path, limits)
                if hashlib.sha256(data).hexdigest() in enrolled:
                    counts["enrolled"] += 1
                else:
                    features = await pipeline.extract_features(data)
                    candidates = await asyncio.to_thread(_candidates, knowledge, features)
                    answers.append((truth, *candidates))
            except ImageError:
                counts["unreadable"] += 1
            counts["done"] += 1
            progress(counts["done"], len(images))

    queue = iter(images)
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(work(queue))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    calibration, with_text = _calibration(knowledge, answers, epsilon)
    needed = pictures_needed(epsilon)
    known, unknown = len(with_text.own), len(with_text.pseudo_unknown)
    if known < needed:
        raise SetupError(
            f"{folder} holds {known} usable pictures of known pages, but {needed} are needed to "
            f"reject at most {epsilon:.0%}: add {needed - known}, or leave out --validation "
            "to calibrate on the gallery"
        )
    rejected = sum(s < calibration.threshold_with_text for s in with_text.pseudo_unknown)
    return Validation(
        calibration=calibration,
        known=known,
        unknown=unknown,
        rejected=rejected / unknown if unknown else None,
        unreadable=counts["unreadable"],
        enrolled=counts["enrolled"],
    )


def _calibration(
    knowledge: Knowledge, answers: Sequence[tuple[str, Candidates, Candidates]], epsilon: float
) -> tuple[Calibration, LeftOutScores]:
    """The calibration on labelled traffic, and the scores with text behind it."""
    with_text = _scores([(truth, candidates) for truth, candidates, _ in answers])
    without_text = _scores([(truth, candidates) for truth, _, candidates in answers])
    calibration = Calibration.from_scores(
        with_text,
        without_text,
        thresholds=(conformal(with_text.own, epsilon), conformal(without_text.own, epsilon)),
        epsilon=epsilon,
        guaranteed=True,
        source="validation",
        revision=knowledge.snapshot.revision,
    )
    if not with_text.pseudo_unknown:
        # Traffic without unknown pages has no scores of them; those of the gallery remain.
        calibration = replace(
            calibration,
            unknown_scores_with_text=knowledge.calibration.unknown_scores_with_text,
            unknown_scores_without_text=knowledge.calibration.unknown_scores_without_text,
        )
    return calibration, with_text


def _scores(answers: Sequence[tuple[str, Candidates]]) -> LeftOutScores:
    """The scores of labelled screenshots, in the form of leave-one-out scores of the gallery."""
    known = [(truth, candidates) for truth, candidates in answers if not is_reserved(truth)]
    leads = [
        lead_over(truth, [c for c in candidates if not is_reserved(c.label)])
        for truth, candidates in known
    ]
    return LeftOutScores(
        own=tuple(float(answer_score(candidates)) for _, candidates in known),
        pseudo_unknown=tuple(
            float(answer_score(candidates)) for truth, candidates in answers if is_reserved(truth)
        ),
        looks=tuple(
            candidate.visual
            for truth, candidates in known
            for candidate in candidates
            if candidate.label == truth
        ),
        leads=tuple(lead for lead in leads if 0 < lead < math.inf),
    )


def _candidates(knowledge: Knowledge, features: Features) -> tuple[Candidates, Candidates]:
    """The candidates for a screenshot, with its text and without."""
    hits = knowledge.method.search(features.embedding)
    query = Query(embedding=features.embedding, reading=features.reading)
    return (
        knowledge.method.weigh(query, hits),
        knowledge.method.weigh(replace(query, reading=None), hits),
    )
